"""Any history of a counter, written in any order, has the energy that its readings tell."""

import asyncio
import random
import shutil
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from math import floor
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meterd.daemon.energy_queries import EnergyQueries
from meterd.energy.consumption import consume, energy_quantity, period_spans
from meterd.energy.periods import Period
from meterd.model.sample import Layout, Poll, Quality, QualityFlag
from meterd.store.db import migrate, store_url
from meterd.store.reader import Reader
from meterd.store.writer import Writer

from .rigs import Hands, rows, store, url_of

SECOND, MINUTE = 1000, 60_000
QUARTER, HOUR, DAY = 15 * MINUTE, 60 * MINUTE, 24 * 60 * MINUTE
START = 19_700 * DAY
GUARDED = ("main", "guarded.active_energy.import", "Wh")
PLAIN = ("main", "active_energy.import", "Wh")
LAYOUT = Layout.of([name[1:] for name in (GUARDED, PLAIN)])
INVALID = QualityFlag(Quality.INVALID, "marked")


@dataclass
class Oracle:
    """Readings by time, the last word of each; energy by fractions on the line through them."""

    readings: dict[int, float | None] = field(default_factory=dict)

    def line(self) -> list[tuple[int, int]]:
        """Time and what it rose by in all, in thousandths; falls are no rise."""
        told, total, before = [], 0, None
        for time in sorted(self.readings):
            value = self.readings[time]
            if value is None:
                continue
            here = round(Fraction(value) * 1000)
            total += max(0, here - before) if before is not None else 0
            before = here
            told.append((time, total))
        return told

    def at(self, line: list[tuple[int, int]], time: int) -> int:
        if time <= line[0][0]:
            return line[0][1]
        place = bisect_right(line, (time, 1 << 60))
        if place == len(line):
            return line[-1][1]
        (start, low), (end, high) = line[place - 1], line[place]
        return low + floor(Fraction((high - low) * (time - start), end - start) + Fraction(1, 2))

    def energies(self, edges: Sequence[int]) -> Iterator[tuple[int | None, bool]]:
        """Between each two edges (Unix ms): mWh, None where nothing is known; whether all is."""
        line = self.line()
        for start, end in pairwise(edges):
            known = bool(line) and min(end, line[-1][0]) > max(start, line[0][0])
            value = self.at(line, end) - self.at(line, start) if known else None
            yield value, known and line[0][0] <= start and end <= line[-1][0]


@dataclass(frozen=True)
class Piece:
    """Some polls that come together, and what happens then."""

    polls: list[Poll]
    then: str  # flush, settle, restart


@dataclass
class Story:
    """Days of readings at changing paces, with holes of any length, cut up and shuffled."""

    chance: random.Random
    pieces: list[Piece] = field(default_factory=list)
    end: int = START

    @classmethod
    def of(cls, seed: int) -> "Story":
        self = cls(random.Random(seed))
        polls = list(self._polls())
        self.end = polls[-1].time
        cuts = sorted(self.chance.sample(range(len(polls)), min(6, len(polls))))
        parts = [polls[a:b] for a, b in zip([0, *cuts], [*cuts, len(polls)], strict=True)]
        if self.chance.random() < 0.7:
            self.chance.shuffle(parts)
        again = [self._marked(self.chance.choice(polls)) for _ in range(self.chance.randrange(4))]
        parts += [[one] for one in again]
        for part in parts:
            then = self.chance.choice(("flush", "settle", "settle", "restart"))
            self.pieces.append(Piece(part, then))
        return self

    def _marked(self, one: Poll) -> Poll:
        """Marked as invalid by a person, or said anew."""
        if self.chance.random() < 0.7:
            return Poll(one.device, one.time, LAYOUT, one.values, {0: INVALID, 1: INVALID})
        return one

    def _polls(self) -> Iterator[Poll]:
        time, total, register = START + self.chance.randrange(DAY), 10**6, 10**6
        for _ in range(self.chance.randint(1, 5)):
            pace = self.chance.choice((MINUTE, 5 * MINUTE, QUARTER, HOUR, 7 * HOUR, DAY))
            for _ in range(self.chance.randint(1, 40)):
                rise = self.chance.randint(1, 3000)
                total, register = total + rise, register + rise
                if self.chance.random() < 0.02:
                    register = self.chance.randrange(1000)
                values: tuple[float | None, ...] = total / 10, register / 10
                if self.chance.random() < 0.05:
                    values = None, values[1]
                yield Poll("main", time, LAYOUT, values, {})
                time += pace + self.chance.choice((0, 0, 0, 7 * SECOND))
            time += self.chance.choice((0, HOUR, DAY, 9 * DAY))


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "empty.db"
    migrate.upgrade(store_url.find(url_of(path)))
    return path


# A register that begins anew between two days, or within one, whose samples are deleted.
@example(seed=28_647)
@example(seed=722_440)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_any_history_in_any_order_has_the_energy_of_its_readings(
    empty_store: Path, seed: int
) -> None:
    asyncio.run(_compare(empty_store, seed))


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_many_histories_in_any_order_have_the_energy_of_their_readings(
    empty_store: Path, seed: int
) -> None:
    asyncio.run(_compare(empty_store, seed))


async def _compare(empty_store: Path, seed: int) -> None:
    story, oracles = Story.of(seed), {GUARDED: Oracle(), PLAIN: Oracle()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "meterd.db"
        shutil.copy(empty_store, path)
        hands = Hands(story.end)
        pieces = iter(story.pieces)
        more = True
        while more:
            more = False
            async with store(path, clock=hands) as (writer, reader):
                for piece in pieces:
                    await _take(writer, piece, oracles)
                    _check(reader, story, oracles)
                    if piece.then == "restart":
                        more = True
                        break
        hands.now = story.end + 3 * DAY
        async with store(path, clock=hands) as (writer, reader):
            await writer.settle()
            _check(reader, story, oracles)
            await _check_buckets(reader, story, oracles[GUARDED])
        # Raw samples go, and the answers stay.
        async with store(path, clock=hands, keep=86_400.0) as (writer, reader):
            await writer.settle()
            hands.now, hands.elapsed = hands.now + 2 * HOUR, hands.elapsed + 7200
            await writer.settle()
            assert rows(path, "SELECT count(*) FROM block") == [(0,)]
            _check(reader, story, oracles)


async def _take(writer: Writer, piece: Piece, oracles: dict[tuple[str, str, str], Oracle]) -> None:
    for poll in piece.polls:
        writer.take(poll)
        for place, name in enumerate((GUARDED, PLAIN)):
            value = None if poll.doubts else poll.values[place]
            oracles[name].readings[poll.time] = value
    await writer.flush()
    if piece.then == "settle":
        await writer.settle()


def _check(reader: Reader, story: Story, oracles: dict[tuple[str, str, str], Oracle]) -> None:
    """Each quarter hour of some window, and the whole."""
    days = (story.end - START) // DAY + 2
    first = START + story.chance.randrange(days) * DAY + story.chance.randrange(96) * QUARTER
    windows = [(first, first + story.chance.randint(1, 200) * QUARTER)]
    windows.append((START - DAY, START + min(days, 8) * DAY))
    for name, oracle in oracles.items():
        for start, end in windows:
            edges = range(start, end + 1, QUARTER)
            expected = [
                (value, whole) if value is not None else None
                for value, whole in oracle.energies(edges)
            ]
            found = reader.quarters(name, start, end)
            told = [found.get(edge // QUARTER) for edge in edges[:-1]]
            assert [
                (one.increase, one.covered == QUARTER) if one is not None and one.covered else None
                for one in told
            ] == expected


async def _check_buckets(reader: Reader, story: Story, oracle: Oracle) -> None:
    """Local days: sums that are exact, complete where they were read from end to end."""
    zone, now = ZoneInfo("Europe/Berlin"), story.end + 3 * DAY
    asked = energy_quantity(PLAIN[1])
    assert asked is not None
    days = period_spans(zone, Period.DAY, START, story.end, now)
    source = EnergyQueries(lambda: reader, lambda _: 10.0)
    got = await consume(source.quarters, "main", asked, days, zone=zone, now=now)
    edges = [days[0].start, *(day.end for day in days)]
    line = oracle.line()
    for bucket, (value, whole) in zip(got.buckets, oracle.energies(edges), strict=True):
        if not line or bucket.start <= line[0][0]:
            continue  # the register tells of the time before
        if bucket.start >= line[-1][0]:
            break
        assert (bucket.value, bucket.complete) == (value, whole)
