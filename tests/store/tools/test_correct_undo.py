"""Corrections and their undoing: every row of the store is then as it was, whatever the history."""

import asyncio
import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from meterd.model.sample import Poll, Quality, QualityFlag
from meterd.store.blocks import block as blocks
from meterd.store.blocks.chunk import merge
from meterd.store.db import store_url
from meterd.store.tools import check
from meterd.store.tools.correct import Ask, Corrections, NothingThereError
from tests.store.rigs import Hands, rows, store, url_of
from tests.store.test_hours import START, history

POWER = "active_power"
ENERGY = "active_energy.import"
DERIVED = {
    "rollup": "SELECT * FROM rollup ORDER BY id",
    "hour": "SELECT * FROM hour ORDER BY id",
    "newest": "SELECT * FROM newest ORDER BY series_id",
    "dirty": "SELECT * FROM dirty ORDER BY id",
    "series": "SELECT * FROM series ORDER BY id",
}


def contents(path: Path) -> dict[str, Any]:
    """What blocks hold, whatever their partition, and every row that is made of it."""
    found: dict[str, Any] = {name: rows(path, asked) for name, asked in DERIVED.items()}
    bodies = rows(path, "SELECT body FROM block ORDER BY id")
    chunks = [blocks.decode(body) for (body,) in bodies if isinstance(body, bytes)]
    found["samples"] = blocks.encode(merge(chunks)) if chunks else b""
    return found


def ask(start: int, end: int, quantity: str = POWER, value: float | None = None) -> Ask:
    return Ask("main", quantity, start, end, "clamp was off", "anna", value)


def thinned(polls: Sequence[Poll], seed: int) -> list[Poll]:
    """With some holes, of minutes, hours, and at times more than a day."""
    said = random.Random(seed)
    left = list(polls)
    for _ in range(said.randrange(4)):
        at, hole = said.randrange(len(left)), said.choice((20, 200, 700))
        del left[at : at + hole]
    return left or list(polls)


async def filled(path: Path, polls: Sequence[Poll], hands: Hands, keep: float | None) -> None:
    """A store after some runs of meterd, each of which ended with what was sealed by then."""
    said = random.Random(len(polls))
    cuts = sorted(said.randrange(len(polls)) for _ in range(2))
    for start, end in zip([0, *cuts], [*cuts, len(polls)], strict=True):
        async with store(path, clock=hands, keep=keep) as (writer, _):
            for one in polls[start:end]:
                writer.take(one)
                hands.now = one.time
            await writer.settle()
            hands.elapsed += 3 * 3600  # so that the clock is believed, and old days are deleted
            await writer.settle()


_moments = st.integers(-30 * 60, 130 * 60)
_corrections = st.lists(
    st.tuples(
        st.sampled_from([POWER, ENERGY, "voltage.l1", "device.up"]),
        _moments,
        _moments,
        st.one_of(st.none(), st.integers(0, 2000).map(float)),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=5, deadline=None)
@example(seed=1, hours=110, keep=2, asked=[(POWER, 20 * 60, 100 * 60, None)])
@example(seed=2, hours=110, keep=None, asked=[(ENERGY, 20 * 60, 100 * 60, None)])
@given(
    seed=st.integers(0, 1000),
    hours=st.integers(2, 125),
    keep=st.sampled_from([None, 1, 2]),
    asked=_corrections,
)
def test_what_was_corrected_and_undone_is_as_it_was(
    seed: int, hours: int, keep: int | None, asked: list[tuple[str, int, int, float | None]]
) -> None:
    asyncio.run(_there_and_back(seed, hours, keep, asked))


async def _there_and_back(
    seed: int, hours: int, keep: int | None, asked: list[tuple[str, int, int, float | None]]
) -> None:
    hands = Hands(START)
    polls = thinned(history(seed, START, hours, every=120_000), seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "meterd.db"
        seconds = None if keep is None else keep * 86_400.0
        await filled(path, polls, hands, seconds)
        before = contents(path)
        async with store(path, clock=hands, keep=seconds) as (writer, reader):
            corrections = Corrections(writer, reader)
            made = []
            for quantity, one, other, value in asked:
                start, end = sorted((START + one * 60_000, START + other * 60_000))
                end = min(end, hands.now)
                try:
                    what = ask(start, end, quantity, value)
                    made.append(await corrections.mark(what, hands.now))
                except NothingThereError:
                    continue
            assert list(check.problems(store_url.find(url_of(path)))) == []
            for correction in reversed(made):
                await corrections.undo(correction.id, "bert", hands.now)
        after = contents(path)
        assert list(check.problems(store_url.find(url_of(path)))) == []
    for name, there in before.items():
        assert after[name] == there, name


def corrected(polls: Sequence[Poll], what: Ask) -> list[Poll]:
    """The same history as if it had been right from the start."""
    found: list[Poll] = []
    for one in polls:
        place = one.layout.index.get(what.quantity)
        if place is None or not what.start <= one.time < what.end:
            found.append(one)
            continue
        values, doubts = list(one.values), dict(one.doubts)
        if what.value is not None:
            values[place] = what.value
            doubts[place] = QualityFlag(Quality.ESTIMATED, f"entered: {what.why}")
        elif values[place] is not None:
            doubts[place] = QualityFlag(Quality.INVALID, f"marked: {what.why}")
        found.append(replace(one, values=tuple(values), doubts=doubts))
    return found


@settings(max_examples=5, deadline=None)
@example(seed=2, hours=110, asked=(ENERGY, 20 * 60, 100 * 60, None))
@example(seed=3, hours=30, asked=(ENERGY, 26 * 60, 28 * 60, None))
@example(seed=3, hours=30, asked=(ENERGY, 23 * 60, 24 * 60, None))
@given(
    seed=st.integers(0, 1000),
    hours=st.integers(2, 125),
    asked=_corrections.map(lambda some: some[0]),
)
def test_what_is_made_of_corrected_samples_is_what_is_made_of_right_ones(
    seed: int, hours: int, asked: tuple[str, int, int, float | None]
) -> None:
    asyncio.run(_as_fed(seed, hours, asked))


async def _as_fed(seed: int, hours: int, asked: tuple[str, int, int, float | None]) -> None:
    polls = thinned(history(seed, START, hours, every=120_000), seed)
    quantity, one, other, value = asked
    start, end = sorted((START + one * 60_000, START + other * 60_000))
    hands, right = Hands(START), Hands(START)
    with tempfile.TemporaryDirectory() as folder:
        path, fed = Path(folder) / "meterd.db", Path(folder) / "fed.db"
        await filled(path, polls, hands, None)
        what = ask(start, min(end, hands.now), quantity, value)
        await filled(fed, corrected(polls, what), right, None)
        async with store(path, clock=hands) as (writer, reader):
            try:
                await Corrections(writer, reader).mark(what, hands.now)
            except NothingThereError:
                return
        found, expected = contents(path), contents(fed)
    for name, there in expected.items():
        assert found[name] == there, name
