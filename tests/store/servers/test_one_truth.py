"""Imported, polled and corrected counters are one truth on every engine, as in a SQLite file."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from meterd.daemon.corrected_totals import following
from meterd.daemon.replacing import count_anew, replace_meter
from meterd.model.quantity import GUARDED
from meterd.model.sample import Layout, Poll, Quality
from meterd.poll.counters import Counters
from meterd.store.blocks import block as blocks
from meterd.store.blocks.chunk import merge
from meterd.store.db import store_url
from meterd.store.db.replacements import Replacement
from meterd.store.reader import Reader
from meterd.store.tools import check
from meterd.store.tools.backfill import backfill
from meterd.store.tools.correct import Ask, Corrections
from meterd.store.tools.csv_import import ImportedSample
from meterd.store.writer import Writer
from tests.daemon.test_recount_store import DAY, HOUR, MINUTE, START, House, Q, Reads, register
from tests.store.rigs import NEVER, opened
from tests.store.tools.test_correct_undo import DERIVED

from .engines import database_of
from .rig import meterd

STEP = 10 * MINUTE
LAYOUT = Layout.of([(Q, "Wh"), ("device.up", "1")])
WHOLE = 0, 1 << 50
postgres = pytest.mark.needs("postgres")
maria = pytest.mark.needs("mariadbd")
galera = [pytest.mark.needs("mariadbd", "rsync"), pytest.mark.long]
PLACES = [
    "file",
    pytest.param("postgres", marks=postgres),
    pytest.param("maria", marks=maria),
    pytest.param("postgres, two", marks=postgres),
    pytest.param("maria, two", marks=maria),
    pytest.param("galera, two", marks=galera),
]


class Site(House):
    """A house whose device is polled while rows are imported, and what readers are told of it."""

    def __init__(self, writer: Writer, urls: list[str], reader: Reader, others: Sequence[Reader]):
        super().__init__(writer, reader)
        self.urls = urls
        self.others = others
        self.still = asyncio.Lock()
        self.beat: Callable[[], Any] | None = None

    async def imports(self, reads: Reads, device: str = "main") -> None:
        rows = [ImportedSample(t, device, Q, "Wh", value, Quality.GOOD, "") for t, value in reads]
        await backfill(self.writer, rows, lambda _: None, closing=False)
        times = [time for time, _ in reads]
        await count_anew(
            self.writer,
            self.reader,
            self.memory,
            device,
            min(times),
            max(times),
            still=self.still,
            is_same=True,
        )

    async def polls_meanwhile(self, reads: Reads) -> None:
        """Live, one after another, whatever else is going on; commits come between."""
        counters = Counters("main", interval=600.0, state=self.memory.state("main", self.writer))
        self.memory.add("main", counters)
        for number, (time, value) in enumerate(reads):
            async with self.still:
                poll = Poll("main", time, LAYOUT, (value, 1.0), {})
                self.writer.take(counters.step(poll, now=time / 1000)[0])
            if number % 40 == 0:
                await self.writer.flush()
        await self.writer.settle()

    def corrections(self) -> Corrections:
        recount = following(self.writer, self.reader, self.memory, still=lambda _: self.still)
        return Corrections(self.writer, self.reader, recount)

    async def truth(self, device: str = "main") -> "Truth":
        """The same to every reader of every meterd."""
        if self.beat is not None:
            await self.beat()
        found = [await truth_of(one, device) for one in (self.reader, *self.others)]
        outside = Reader.outside(self.urls)
        found.append(await truth_of(outside, device))
        outside.close()
        assert all(one == found[0] for one in found)
        return found[0]

    def rows(self) -> dict[str, Any]:
        """What blocks hold, and every row that is made of it, to the last bit."""
        with store_url.find(self.urls).reading() as there:
            found: dict[str, Any] = {
                name: [tuple(row) for row in there.exec_driver_sql(asked)]
                for name, asked in DERIVED.items()
            }
            bodies = there.exec_driver_sql("SELECT body FROM block ORDER BY device_id, id").all()
            chunks: dict[int, list[Any]] = {}
            for (body,) in bodies:
                chunk = blocks.decode(bytes(body))
                chunks.setdefault(chunk.device, []).append(chunk)
        found["samples"] = [blocks.encode(merge(some)) for some in chunks.values()]
        return found


@dataclass(frozen=True)
class Truth:
    """Energy by quarter hour in mWh, and ms of it that are known; each total; its folds."""

    energy: dict[int, tuple[int | None, int]]
    totals: list[tuple[int, str]]
    folded: dict[tuple[int, str], list[tuple[int, float]]]

    @property
    def sum(self) -> int:
        return sum(one or 0 for one, _ in self.energy.values())


async def truth_of(reader: Reader, device: str) -> Truth:
    name = device, GUARDED + Q, "Wh"
    found = await asyncio.to_thread(reader.quarters, name, START - DAY, START + 400 * DAY)
    (track,) = await asyncio.to_thread(reader.columns, [name], *WHOLE)
    folded = {}
    for step, agg in ((0, "last"), (HOUR, "max"), (DAY, "min")):
        (one,) = await reader.range([device], [GUARDED + Q], *WHOLE, step, agg)
        folded[step, agg] = one.points
    return Truth(
        {number: (one.increase, one.covered) for number, one in found.items() if one.covered},
        list(zip(map(int, track.times), map(repr, map(float, track.values)), strict=True)),
        folded,
    )


@dataclass
class Place:
    """Where stores are made; each name is another one."""

    kind: str
    folder: Path
    engine: Any = None

    @asynccontextmanager
    async def site(self, name: str) -> AsyncIterator[Site]:
        if self.engine is None:
            urls = [f"sqlite:///{self.folder}/{self.kind}-{name}.db"]
        else:
            urls = self.engine.urls(database_of(self.folder / name))
        if self.kind.endswith("two"):
            async with self._cluster(urls) as site:
                yield site
        else:
            writer = Writer(urls, commit=NEVER, to_file=self.kind == "file")
            async with opened(writer):
                reader = Reader(urls, writer.memory)
                try:
                    yield Site(writer, urls, reader, [])
                finally:
                    reader.close()
        assert list(check.problems(store_url.find(urls))) == []

    @asynccontextmanager
    async def _cluster(self, urls: list[str]) -> AsyncIterator[Site]:
        """The device is polled by one of two, and the other one has one of its own."""
        async with meterd(urls, "a") as a, meterd(urls, "b") as b:
            await a.beat("main")
            await b.beat("other")
            await b.tell("other", range(START, START + HOUR, STEP))
            site = Site(a.writer, urls, a.reader, [b.reader])

            async def beat() -> None:
                await b.beat("other")

            site.beat = beat
            yield site


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    kind = request.param
    if kind == "file":
        return Place(kind, tmp_path)
    return Place(kind, tmp_path, request.getfixturevalue(kind.partition(",")[0]))


@pytest.fixture
def plain(tmp_path: Path) -> Place:
    """A SQLite file with the journal in a table, with which the others are compared."""
    return Place("table", tmp_path)


def troubled() -> Reads:
    """Two days at 1.2 kW, with a spike, a dip, a zero and a reset."""
    reads, value = Reads(), 5e6
    for number in range(2 * 144):
        value = 100.0 if number == 200 else value + 200.0
        shown = {40: value + 900e3, 80: value - 50e3, 120: 0.0}.get(number, value)
        reads.append((START + number * STEP, shown))
    return reads


# Each read but the first and the reset's books 200 Wh.
EXPECTED = (2 * 144 - 2) * 200_000


async def test_one_story_of_a_counter_is_told_alike(place: Place, plain: Place) -> None:
    """Imported in pieces while it is polled, corrected, renamed, replaced: all at each step."""
    if not PLAIN_STORY:
        PLAIN_STORY.extend([one async for one in told(plain)])
    found = [one async for one in told(place)]
    for (step, one), (_, other) in zip(found, PLAIN_STORY, strict=True):
        assert one == other, step
    assert found[0][1].sum == EXPECTED


PLAIN_STORY: list[tuple[str, Truth]] = []


async def told(place: Place) -> AsyncIterator[tuple[str, Truth]]:
    reads = troubled()
    older, newer, live = reads[:70], reads[70:140], reads[140:]
    async with place.site("story") as site:
        await site.imports(newer)
        await asyncio.gather(site.imports(older), site.polls_meanwhile(live))
        yield "imported and polled", await site.truth()
        before = site.rows()
        corrections = site.corrections()
        window = START + 100 * STEP, START + 110 * STEP
        for value in (None, 5_019_000.0):
            ask = Ask("main", Q, *window, "misread", "anna", value, "Wh" if value else "")
            made = await corrections.mark(ask, START + 3 * DAY)
            yield f"corrected {value}", await site.truth()
            await corrections.undo(made.id, "anna", START + 3 * DAY)
            assert site.rows() == before
        await site.writer.rename("main", "kitchen", who="anna", now=START + 3 * DAY)
        site.memory.rename("main", "kitchen")
        yield "renamed", await site.truth("kitchen")
        for undo in (False, True):
            one = Replacement(START + 250 * STEP - MINUTE, START + 3 * DAY, "anna")
            await replace_meter(
                site.writer, site.reader, site.memory, "kitchen", one, still=site.still, undo=undo
            )
            yield f"replaced {undo}", await site.truth("kitchen")


async def imported(place: Place, name: str, parts: Sequence[Reads]) -> Truth:
    async with place.site(name) as site:
        for part in parts:
            await site.imports(part)
        return await site.truth()


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
async def test_any_order_and_any_split_is_the_same_to_the_last_bit(
    place: Place, plain: Place, seed: int
) -> None:
    dice = random.Random(seed)
    reads = register(5, (10, 15, 60)[seed] * MINUTE, dice)
    expected = await imported(plain, "whole", [reads])
    assert await imported(place, "whole", [reads]) == expected
    by_day: dict[int, Reads] = {}
    for time, value in reads:
        by_day.setdefault(time // DAY, []).append((time, value))
    days = list(by_day.values())
    dice.shuffle(days)
    assert await imported(place, "days", days) == expected
    mixed, parts = list(reads), list[Reads]()
    dice.shuffle(mixed)
    while mixed:
        count = dice.randint(1, len(mixed))
        # What is wrong at first is imported anew, rightly.
        parts += [[(time, value / 2) for time, value in mixed[:3]], mixed[:count]]
        mixed = mixed[count:]
    assert await imported(place, "mixed", parts) == expected


@pytest.mark.long
@pytest.mark.parametrize("resets", [(), (90, 200, 350)])
async def test_the_seam_with_a_daemon_that_polls_meanwhile(
    place: Place, resets: tuple[int, ...]
) -> None:
    """Before, after and amidst what is polled at this moment: each read is booked, once."""
    reads, value = Reads(), 5e6
    for number in range(3 * 144):
        value = 0.0 if number in resets else value + 200.0
        reads.append((START + number * STEP, value))
    first, second, third, fourth = (reads[108 * n : 108 * (n + 1)] for n in range(4))
    async with place.site("seam") as site:
        await site.imports(second)
        await asyncio.gather(site.polls_meanwhile(fourth), site.imports(third))
        await asyncio.gather(site.polls_meanwhile(fourth[-1:]), site.imports(first))
        truth = await site.truth()
        assert truth.sum == (3 * 144 - 1 - len(resets)) * 200_000
        time, value = reads[-1]
        await site.polls_meanwhile([(time + STEP, value + 200.0)])
        assert (await site.truth()).sum - truth.sum == 200_000


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
async def test_corrections_of_any_kind_and_their_undoing(
    place: Place, plain: Place, seed: int
) -> None:
    """Each changes the energy as it does in a file, and leaves no trace in any row when undone."""
    expected = await corrected(plain, seed)
    assert await corrected(place, seed) == expected
    assert all(one != other for one, other in pairwise(expected))


async def corrected(place: Place, seed: int) -> list[Truth]:
    dice = random.Random(seed)
    reads = register(4, 15 * MINUTE, dice)
    found = []
    async with place.site("corrected") as site:
        await site.imports(reads)
        before, corrections, made = site.rows(), site.corrections(), []
        found.append(await site.truth())
        for number in range(4):
            at = dice.randrange(len(reads) * 3 // 4)
            window = reads[at][0], reads[at + dice.randint(1, len(reads) // 4)][0]
            value = None if number % 2 else reads[at][1] + dice.randrange(2000)
            ask = Ask("main", Q, *window, "misread", "anna", value, "Wh" if value else "")
            made.append(await corrections.mark(ask, START + 5 * DAY))
            found.append(await site.truth())
        for one in reversed(made):
            await corrections.undo(one.id, "bert", START + 5 * DAY)
        assert site.rows() == before
        assert await site.truth() == found[0]
    return found


@pytest.mark.long
async def test_a_name_and_a_meter_that_change_amidst_imports(place: Place, plain: Place) -> None:
    """Rows under the former name, before and after the other meter, while it is polled."""
    assert await renamed(place) == await renamed(plain)


async def renamed(place: Place) -> Truth:
    reads = [(time, value) for time, value in register(4, STEP, random.Random(7)) if value > 1000]
    parts = [reads[len(reads) * n // 4 : len(reads) * (n + 1) // 4] for n in range(4)]
    async with place.site("renamed") as site:
        await site.imports(parts[1])
        await site.writer.rename("main", "kitchen", who="anna", now=START + 5 * DAY)
        site.memory.rename("main", "kitchen")
        await site.imports(parts[3], "kitchen")
        one = Replacement(parts[2][len(parts[2]) // 2][0] - MINUTE, START + 5 * DAY, "anna")
        await replace_meter(site.writer, site.reader, site.memory, "kitchen", one, still=site.still)
        for part in (parts[0], parts[2]):
            rows = [
                ImportedSample(t, "main", Q, "Wh", value, Quality.GOOD, "") for t, value in part
            ]
            await backfill(site.writer, rows, lambda _: None, closing=False)
            window = part[0][0], part[-1][0]
            await count_anew(
                site.writer, site.reader, site.memory, "kitchen", *window, still=site.still
            )
        return await site.truth("kitchen")
