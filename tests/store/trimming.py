"""Stores that have forgotten the raw samples of their first days."""

from pathlib import Path

from meterd.model.sample import Layout, Poll

from .rigs import Hands, store

HOUR, DAY, QUARTER = 3_600_000, 86_400_000, 900_000
START = 19_700 * DAY
LAYOUT = Layout.of([("active_power", "W"), ("active_energy.import", "Wh")])
POWER, ENERGY = ("main", "active_power", "W"), ("main", "active_energy.import", "Wh")
EVERY = 10_000


def watts(time: int) -> float:
    """By the hour of the day: 0 by night, up to 2,300 in the evening."""
    return time % DAY // HOUR * 100.0


def history(days: int, reset: int | None = None) -> list[Poll]:
    """Polls from START on; at `reset` ms after it the counter starts anew."""
    polls, energy = [], 5000.0
    for time in range(START, START + days * DAY + HOUR, EVERY):
        polls.append(Poll("main", time, LAYOUT, (watts(time), round(energy, 1)), {}))
        energy = round(energy + watts(time) * EVERY / HOUR, 1)
        if reset is not None and time == START + reset:
            energy = 0.0
    return polls


async def trimmed(path: Path, polls: list[Poll], keep: int) -> None:
    """A store that has forgotten the raw samples of all but the last `keep` days."""
    hands = Hands(START)
    async with store(path, clock=hands) as (writer, _):
        for place, one in enumerate(polls):
            writer.take(one)
            if place % 1000 == 999:
                await writer.flush()
        hands.now = polls[-1].time
        await writer.settle()
    hands.now = polls[-1].time
    async with store(path, clock=hands, keep=keep * DAY / 1000) as (writer, _):
        await writer.settle()
