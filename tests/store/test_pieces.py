"""Sealing goes on device by device, and commits may come in between."""

from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from meterd.errors import StoreCode, StoreError
from meterd.model.sample import Layout
from meterd.store.blocks.chunk import Chunk, ChunkColumn
from meterd.store.compaction import days as closing_days
from meterd.store.compaction import hours
from meterd.store.compaction.days import DayCompactor
from meterd.store.compaction.hours import GRACE, HourCompactor
from meterd.store.compaction.latest_rows import LatestRows
from meterd.store.compaction.session import StoreSession
from meterd.store.compaction.write_batch import WriteBatch
from meterd.store.compaction.write_rights import SoleWriter
from meterd.store.db import migrate, store_url
from meterd.store.db.keys import block_id
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head
from meterd.testing import FakeClock

from .rigs import poll, rows, samples, url_of

HOUR = 3_600_000
START = 19_700 * 24 * HOUR
NOW = START + HOUR + GRACE
FAST = Layout.of([("voltage.l1", "V")])
SLOW = Layout.of([("voltage.l1", "V"), ("active_power", "W")])
DEVICES = ("one", "three", "two")
POLLS = 400


class Rig:
    """The writer's thread without its thread."""

    def __init__(self, path: Path) -> None:
        place = store_url.find(url_of(path))
        migrate.upgrade(place)
        self.path = path
        self.head = Head()
        self.catalog = Catalog()
        self.session = StoreSession(place, self.catalog, SoleWriter())
        self.rows: dict[int, int] = {}
        self.hour_compactor = HourCompactor(self.head, self.catalog, self.rows, set())

    def take(self, device: str, *times: int) -> None:
        """Polls, with a commit after them."""
        for time in times:
            self.head.take(poll(time, time / 1000, device=device, layout=FAST))
        batch = self.head.uncommitted(1 << 30)
        owner = self.catalog.device(device)
        chunks = [one for part in batch for one in part.chunks(owner, self.catalog.series_id)]
        number = self.session.commit(chunks, {})
        assert number is not None
        self.rows[number] = max(times)
        self.head.confirm(batch)

    def seal(self, now: int = NOW) -> None:
        while self.hour_compactor.seal(self.session, now, 1)[1]:
            pass

    def blocks(self) -> int:
        return len(rows(self.path, "SELECT id FROM block"))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "m.db")
    for device in DEVICES:
        made.take(device, *range(START, START + POLLS * 5000, 5000), NOW)
    yield made
    made.session.close()


def test_each_piece_encodes_some_devices_and_the_last_one_writes_them_all(rig: Rig) -> None:
    assert rig.hour_compactor.begins(NOW)
    assert rig.hour_compactor.seal(rig.session, NOW, 1) == (0, True)
    assert not rig.hour_compactor.begins(NOW)
    assert rig.hour_compactor.seal(rig.session, NOW, 1) == (0, True)
    assert rig.blocks() == 0
    assert rig.hour_compactor.seal(rig.session, NOW, 1) == (len(DEVICES) * POLLS, False)
    assert rig.blocks() == len(DEVICES)
    assert not rig.hour_compactor.begins(NOW)


def test_much_is_written_bit_by_bit(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hours, "MOST_BYTES", 10)
    assert rig.hour_compactor.seal(rig.session, NOW, 1) == (POLLS, True)
    assert rig.hour_compactor.seal(rig.session, NOW, 1) == (POLLS, True)
    assert rig.hour_compactor.seal(rig.session, NOW, 1) == (POLLS, False)
    assert rig.blocks() == len(DEVICES)


def test_nothing_is_lost_of_what_is_committed_between_two_pieces(rig: Rig) -> None:
    late = [START + 2500, START + 7500, START + 12_500]
    more = True
    for time in late:
        assert more
        _, more = rig.hour_compactor.seal(rig.session, NOW, 1)
        for device in DEVICES:
            rig.take(device, time)
    rig.seal(NOW + HOUR)
    times = [*range(START, START + POLLS * 5000, 5000), *late, NOW]
    wanted = sorted((at, "voltage.l1", at / 1000) for at in times for _ in DEVICES)
    assert samples(rig.path) == wanted


def test_what_came_late_between_two_pieces_outlives_a_crash_after_them(rig: Rig) -> None:
    more = True
    while more:
        for device in DEVICES:
            rig.take(device, START + 2500)
        _, more = rig.hour_compactor.seal(rig.session, NOW, 1)
    times = [*range(START, START + POLLS * 5000, 5000), START + 2500, NOW]
    # Another process finds blocks and journal only.
    wanted = sorted((at, "voltage.l1", at / 1000) for at in times for _ in DEVICES)
    assert samples(rig.path) == wanted


def test_another_writer_between_two_pieces_makes_the_round_begin_anew(rig: Rig) -> None:
    rig.hour_compactor.seal(rig.session, NOW, 1)
    owner = rig.catalog.device(DEVICES[0])
    one = rig.catalog.series_id(DEVICES[0], "voltage.l1", "V")
    there = ChunkColumn(one, range(1), array("d", [7.0]))
    chunk = Chunk(owner, array("q", [START + 1]), (there,))
    change = WriteBatch()
    change.add(block_id(owner, START), chunk)
    rig.hour_compactor.interrupt()
    rig.session.apply(change)
    assert rig.hour_compactor.begins(NOW)
    rig.seal()
    assert (START + 1, "voltage.l1", 7.0) in samples(rig.path)
    assert rig.blocks() == len(DEVICES)


def test_a_round_that_fails_begins_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(change: WriteBatch) -> None:
        raise StoreError("full", code=StoreCode.FULL)

    with monkeypatch.context() as broken:
        broken.setattr(StoreSession, "apply", lambda _, change: refused(change))
        with pytest.raises(StoreError):
            rig.seal()
    assert rig.hour_compactor.begins(NOW)
    rig.seal()
    assert rig.blocks() == len(DEVICES)


def test_the_tail_of_what_is_kept_has_the_newest_of_each_layout(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "m.db")
    rig.head.take(poll(START, 1.0, 2.0, layout=SLOW))
    rig.take("main", START + 1, START + 2)
    rig.head.take(poll(START + 3, 5.0, layout=FAST))
    (tail,) = rig.head.tails()
    assert list(tail.times) == [START, START + 1, START + 2]
    assert [(name[0], time) for name, time, _, _ in tail.newest()] == [
        ("voltage.l1", START),
        ("active_power", START),
        ("voltage.l1", START + 2),
    ]
    rig.session.close()


DAY = 24 * HOUR
NEXT = START + DAY + 2 * HOUR


def closing(rig: Rig) -> DayCompactor:
    """Sealed polls of a day whose end is long over, and the next day's first ones."""
    for device in DEVICES:
        rig.take(device, *range(START + 3 * HOUR, START + 4 * HOUR, 5000), NEXT)
    rig.seal(NEXT)
    return DayCompactor(rig.head, rig.catalog, rig.hour_compactor)


def rolled(rig: Rig) -> list[int]:
    """How many samples each day's roll-up counts."""
    return [int(str(n)) for (n,) in rows(rig.path, "SELECT n FROM rollup ORDER BY id")]


def test_days_of_several_devices_are_closed_at_once(rig: Rig) -> None:
    closer = closing(rig)
    assert rig.blocks() == 2 * len(DEVICES)
    for _ in DEVICES:
        assert closer.work(rig.session, NEXT)
        assert rolled(rig) == []
    assert not closer.work(rig.session, NEXT)
    # The poll of START + HOUR + GRACE is one of them.
    assert rolled(rig) == [POLLS + 1 + 720] * len(DEVICES)
    assert rig.blocks() == len(DEVICES)
    assert not rig.hour_compactor.dirty
    assert not closer.work(rig.session, NEXT)


def test_a_day_is_closed_step_by_step(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing_days, "_PIECE", 500)
    closer = closing(rig)
    steps = 0
    while closer.work(rig.session, NEXT):
        steps += 1
        assert rig.blocks() == 2 * len(DEVICES)
    # Three blocks' worth of reading, encoding and counting for each.
    assert steps > 3 * len(DEVICES)
    assert rolled(rig) == [POLLS + 1 + 720] * len(DEVICES)
    assert rig.blocks() == len(DEVICES)


def test_blocks_of_a_day_stay_as_they_are_where_flash_is_spared(rig: Rig) -> None:
    closing(rig)
    closer = DayCompactor(rig.head, rig.catalog, rig.hour_compactor, merging=False)
    while closer.work(rig.session, NEXT):
        pass
    assert rolled(rig) == [POLLS + 1 + 720] * len(DEVICES)
    assert rig.blocks() == 2 * len(DEVICES)


def test_where_flash_is_spared_newest_values_are_written_when_an_hour_is_sealed(rig: Rig) -> None:
    clock = FakeClock(utc_ms=NOW)
    newest = LatestRows(rig.head, rig.catalog, clock)

    def told() -> list[int]:
        assert not newest.write_hourly(rig.session)
        return [int(str(time)) for (time,) in rows(rig.path, "SELECT time FROM newest")]

    assert told() == [NOW] * len(DEVICES)
    for device in DEVICES:
        rig.take(device, NOW + HOUR - 1)
    clock.pass_by((HOUR - 1) / 1000)
    assert told() == [NOW] * len(DEVICES)
    clock.pass_by(0.001)
    assert told() == [NOW + HOUR - 1] * len(DEVICES)


def test_a_day_is_closed_anew_when_late_polls_are_sealed_before_it_is_written(rig: Rig) -> None:
    closer = closing(rig)
    closer.work(rig.session, NEXT)
    before = len(samples(rig.path))
    for device in DEVICES:
        rig.take(device, START + 2500)
    rig.seal(NEXT)
    while closer.work(rig.session, NEXT):
        pass
    assert len(samples(rig.path)) == before + len(DEVICES)
    assert rolled(rig) == [POLLS + 1 + 720 + 1] * len(DEVICES)


def test_a_device_has_one_day_closed_before_the_next(rig: Rig) -> None:
    closer = closing(rig)
    later = NEXT + DAY
    for device in DEVICES:
        rig.take(device, *range(NEXT + HOUR, NEXT + 2 * HOUR, 5000), later)
    rig.seal(later)
    steps = 0
    while closer.work(rig.session, later):
        steps += 1
    assert len(rolled(rig)) == 2 * len(DEVICES)
    assert not rig.hour_compactor.dirty
    # Each day once, and once more to write the first three before the others.
    assert steps == 2 * len(DEVICES) + 1
