"""Corrections that were broken off go on when the store opens, and live counters follow them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meterd.cli.demo import settings
from meterd.config.settings import Settings
from meterd.daemon.corrected_totals import following
from meterd.daemon.counter_recount import recount
from meterd.daemon.counter_state import CounterState
from meterd.daemon.site import Site
from meterd.drivers.map_library import load_map
from meterd.model.clock import SystemClock
from meterd.model.event import EventKind
from meterd.model.sample import Layout, Poll
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import MeterBank
from meterd.sim.serve import PROFILES
from meterd.store.tools.correct import Ask, Corrections
from tests.store.rigs import store

ENERGY = "active_energy.import"
LAYOUT = Layout.of([(ENERGY, "Wh")])
MINUTE = 60_000
STEP = 5 * MINUTE
READS = 100
WRONG = range(40, 60)  # so many kWh too high, for longer than the guard doubts it
LAST = 500_000.0  # Wh, what the meter shows when live polls begin


class BrokenOffError(Exception):
    """As if meterd had died there."""


async def _dies(*_: object) -> None:
    raise BrokenOffError


def bank() -> MeterBank:
    register_map = load_map("eastron_sdm120")
    meter = PROFILES["house"](register_map, 0.0)
    return MeterBank(register_map, lambda at: {**meter.values(at), ENERGY: LAST})


async def history(path: Path) -> tuple[int, int]:
    """Reads of a counter, totals beside them, and a correction that was broken off before those
    were counted anew. The interval that it is about."""
    start = SystemClock().now_ms() - READS * STEP
    start -= start % MINUTE
    wrong = start + WRONG[0] * STEP, start + WRONG[-1] * STEP + 1
    async with store(path) as (writer, reader):
        for n in range(READS):
            value = LAST - (READS - n) * 100 + (50_000 if n in WRONG else 0)
            writer.take(Poll("a", start + n * STEP, LAYOUT, (value,)))
        await writer.flush()
        memory = CounterState()
        await following(writer, reader, memory)("a", ENERGY, start, start + READS * STEP)
        state = memory.state("a", writer)
        assert state is not None
        total = state.guards[ENERGY].total
        assert total is not None
        assert total > LAST + 49_000
        ask = Ask("a", ENERGY, *wrong, "misread", "anna")
        with pytest.raises(BrokenOffError):
            await Corrections(writer, reader, _dies).mark(ask, start + READS * STEP)
    return wrong


@pytest.fixture
async def meter() -> AsyncIterator[ModbusServer]:
    server = ModbusServer({1: bank()})
    await server.start_tcp()
    yield server
    await server.stop()


def told(path: Path, meter: ModbusServer, name: str = "m.db") -> Settings:
    return settings(
        f"store: {{url: 'sqlite:///{path / name}'}}\ndevices:\n"
        f"  a: {{driver: modbus, map: eastron_sdm120, link: '{meter.url}', unit: 1, "
        "interval: 100ms, slow: 100ms}\n"
    )


async def polled(site: Site, more: int = 4) -> None:
    wanted = site.latest.states["a"].polls + more
    async with asyncio.timeout(60):
        while site.latest.states["a"].polls < wanted:
            await asyncio.sleep(0.01)


async def check(site: Site) -> None:
    """The live total is what a count of all that is stored makes."""
    opened = site._open_store
    assert opened.finishing is not None
    await opened.finishing
    assert [one.state for one in await site.corrections.all()] == ["marked"]
    await polled(site)
    state = site.latest.states["a"]
    assert state.good is not None
    live = state.good.value(f"guarded.{ENERGY}")
    again = await recount(opened.writer, opened.reader, "a", 0, 1 << 50, quantities=[ENERGY])
    assert again.ended[ENERGY].total == live
    # A rise from 499.9 kWh, and nothing of the 50 kWh that were never there.
    assert live == pytest.approx(LAST)


async def test_live_totals_go_on_from_a_correction_that_the_start_goes_on_with(
    tmp_path: Path, meter: ModbusServer
) -> None:
    await history(tmp_path / "m.db")
    site = Site(SystemClock())
    await site.apply(told(tmp_path, meter))
    await check(site)
    await site.close()


async def test_and_where_a_reload_opens_that_store(tmp_path: Path, meter: ModbusServer) -> None:
    await history(tmp_path / "m.db")
    site = Site(SystemClock())
    await site.apply(told(tmp_path, meter, "other.db"))
    await polled(site)
    assert await site.corrections.all() == []
    await site.apply(told(tmp_path, meter))
    await site._open_store.finishing  # type: ignore[misc]
    assert [one.state for one in await site.corrections.all()] == ["marked"]
    await site.close()


async def test_what_the_guard_finds_in_corrected_reads_is_told_as_events(
    tmp_path: Path, meter: ModbusServer, caplog: pytest.LogCaptureFixture
) -> None:
    start, end = await history(tmp_path / "m.db")
    site = Site(SystemClock())
    await site.apply(told(tmp_path, meter))
    await site._open_store.finishing  # type: ignore[misc]
    await polled(site)

    def found() -> list[tuple[EventKind, int]]:
        events = [one for one in site.events() if one.quantity == ENERGY]
        return [(one.kind, one.time) for one in reversed(events) if one.time < end + STEP]

    assert found() == []
    # Wrong after all: as the reads were, they rise by 50 kWh and fall again.
    (made,) = await site.corrections.all()
    await site.corrections.undo(made.id, "anna", SystemClock().now_ms())
    assert (EventKind.RESET, end - 1 + STEP) in found()
    assert "a: active_energy.import" in caplog.text
    # The same once more is no news.
    before = found()
    ask = Ask("a", ENERGY, start + 5 * STEP, start + 6 * STEP, "x", "anna")
    await site.corrections.mark(ask, SystemClock().now_ms())
    assert found() == before
    await site.close()
