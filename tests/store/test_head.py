"""Polls in memory: what the loop waits for is bounded, and whatever is done takes one pass."""

import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any

import pytest

from meterd.model.sample import Layout, Poll, Quality, QualityFlag
from meterd.store.head import series_batch
from meterd.store.head.head import Head, SeriesBatch
from meterd.store.query.series_array import of_batch
from meterd.store.wal.spool import pack, unpack
from tests.store.rigs import poll

THREE = Layout.of([("voltage.l1", "V"), ("voltage.l2", "V"), ("current.l1", "A")])

WIDE = Layout.of([(f"x.v{number}", "V") for number in range(10)])
NARROW = Layout.of([("x.v3", "V")])
OTHER = Layout.of([("x.other", "A")])
BAD = {0: QualityFlag(Quality.INVALID, "marked")}


class CountedLock:
    """Counts what the interpreter does while the lock is held: `most` of one time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._trace: Any = None
        self.most = 0

    def __enter__(self) -> None:
        self._lock.acquire()
        self._count, self._trace = 0, sys.gettrace()
        caller = sys._getframe(1)
        caller.f_trace, caller.f_trace_opcodes = self._seen, True
        sys.settrace(self._seen)

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        sys.settrace(self._trace)
        caller = sys._getframe(1)
        caller.f_trace, caller.f_trace_opcodes = None, False
        self.most = max(self.most, self._count)
        self._lock.release()

    def _seen(self, frame: FrameType, event: str, _: object) -> Any:
        frame.f_trace_opcodes = True
        self._count += event == "opcode"
        return self._seen


def operations(work: Callable[[], object]) -> int:
    """How many steps of the interpreter it takes."""
    count = 0

    def seen(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return seen

    before = sys.gettrace()
    sys.settrace(seen)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def late_and_live(rows: int) -> Head:
    """So many polls, and as many marks of them that came while others were taken."""
    head = Head()
    for number in range(rows):
        head.take(Poll("main", number * 250, WIDE, (1.0,) * 10))
    for number in range(rows):
        head.take(Poll("main", number * 250, NARROW, (1.0,), BAD))
        if number % 3 == 0:
            head.take(Poll("main", (rows + number) * 250, WIDE, (1.0,) * 10))
    return head


def committed(head: Head) -> None:
    while batch := head.uncommitted(5000):
        head.confirm(batch)


def sealed(head: Head, before: int) -> None:
    copies = head.batches("main", kept=True)
    head.sealed("main", before, [(copy.origin or copy, len(copy.times)) for copy in copies])


def everything(rows: int) -> int:
    """The most that is done under the lock, of all that is done with polls in memory."""
    head, lock = late_and_live(rows), CountedLock()
    head._guard = lock  # type: ignore[assignment]
    committed(head)
    head.take(Poll("main", rows * 10_000, WIDE, (1.0,) * 10))
    for look in (head.names, head.extents, head.devices, head.tails, lambda: head.oldest("main")):
        look()
    head.batches("main")
    head.forget(head.uncommitted(1 << 30))
    sealed(head, rows * 250)
    head.unconfirm()
    head.drop("main")
    return lock.most


def test_the_lock_of_the_loop_is_held_no_longer_for_more_polls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(series_batch, "_MOST_ROWS", 200)
    few, many = everything(500), everything(2500)
    assert few > 100
    assert many <= few * 1.2


def test_one_hold_copies_a_bounded_piece() -> None:
    head = late_and_live(20_000)
    cells = [len(one.times) * len(one.columns) for one in head.batches("main")]
    assert max(cells) <= 1 << 17
    assert sum(len(one.times) for one in head.batches("main")) == 20_000 * 2 + 6667


def test_late_polls_leave_memory_in_one_pass() -> None:
    steps = []
    for rows in (1000, 2000):
        head = late_and_live(rows)
        committed(head)
        steps.append(operations(lambda head=head, rows=rows: sealed(head, rows * 250)))  # type: ignore[misc]
        left = head.batches("main")
        assert [time for one in left for time in one.times if time < rows * 250] == []
        assert sum(len(one.times) for one in left) == len(range(0, rows, 3))
    assert steps[1] <= 2.4 * steps[0]


def third(head: Head) -> list[tuple[int, float | None, Mapping[int, QualityFlag] | None]]:
    """Times, values of one quantity, and doubts of all rows."""
    found = []
    for one in head.batches("main"):
        column = one.column(one.index["x.v3", "V"], 0)
        values = dict(zip(column.rows, column.values, strict=True))
        for row, time in enumerate(one.times):
            found.append((time, values.get(row), one.doubts.get(row)))
    return found


def test_what_is_left_of_scattered_rows_is_what_it_was() -> None:
    head = late_and_live(50)
    committed(head)
    before = third(head)
    sealed(head, 25 * 250)
    after = third(head)
    assert after == [row for row in before if row[0] >= 25 * 250]


def _numbered(device: str, quantity: str, unit: str) -> int:
    return len(quantity)


def test_layouts_that_take_turns_share_a_stretch() -> None:
    head = Head()
    for number in range(300):
        head.take(poll(number, 1.0, layout=OTHER if number % 2 else NARROW))
    assert len(head.batches("main")) <= 3
    chunks = [
        chunk for one in head.batches("main") for chunk in one.chunks(1, lambda *name: len(name[1]))
    ]
    assert sum(chunk.samples for chunk in chunks) == 300


@pytest.mark.parametrize("order", [(0, 1, 2, 0), (1, 0, 2), (2, 0, 1, 1), (1, 1), (0, 2), (0,)])
def test_layouts_without_a_column_or_with_one_twice_move_no_value(order: tuple[int, ...]) -> None:
    """Of one twice the last value counts."""
    layouts = (
        (Layout.of([("x.a", "V"), ("x.bb", "V")]), (1.0, 2.0)),
        (Layout.of([]), ()),
        (Layout.of([("x.a", "V"), ("x.a", "V")]), (3.0, 4.0)),
    )
    head, expected = Head(), dict[tuple[str, int], float]()
    for time, number in enumerate(order):
        layout, values = layouts[number]
        head.take(Poll("main", time, layout, values))
        names = zip(layout.quantities, values, strict=True)
        expected.update({(name, time): value for name, value in names})
    chunks, tracks, newest = {}, {}, {}
    for one in head.batches("main"):
        for chunk in one.chunks(1, lambda *name: len(name[1])):
            for column in chunk.columns:
                name = "x.a" if column.series == len("x.a") else "x.bb"
                cells = zip(chunk.times_of(column), column.values, strict=True)
                chunks.update({(name, time): value for time, value in cells})
        for (_, name, _), track in of_batch(one, {("main", n, "V") for n in ("x.a", "x.bb")}):
            cells = zip(track.times.tolist(), track.values.tolist(), strict=True)
            tracks.update({(name, time): value for time, value in cells})
        newest.update({(name, time): value for (name, _), time, value, _ in one.newest()})
    assert chunks == tracks == expected
    assert newest.items() <= expected.items()


def bytes_of(one: SeriesBatch) -> dict[int, bytes]:
    return {number: table.tobytes() for number, table in one.tables.items()}


def test_readers_keep_what_they_saw_while_polls_come_and_go() -> None:
    head = late_and_live(5000)
    committed(head)
    seen = head.batches("main")
    before = [(list(one.times), bytes_of(one)) for one in seen]
    sealed(head, 2000 * 250)
    for number in range(50):
        head.take(Poll("main", 10_000_000 + number, WIDE, (2.0,) * 10))
    assert [(list(one.times), bytes_of(one)) for one in seen] == before


@pytest.mark.parametrize("wild", [float("inf"), float("-inf"), 1e301])
def test_no_infinity_comes_into_memory(wild: float) -> None:
    head = Head()
    head.take(Poll("main", 1, Layout.of([("x.a", "V"), ("x.b", "V")]), (wild, 5.0)))
    head.take(Poll("main", 2, Layout.of([("x.a", "V"), ("x.b", "V")]), (None, wild)))
    (one,) = head.batches("main")
    assert [value for value in one.tables[0] if value == value] == [5.0]
    reasons = [
        (row, place, doubt) for row, some in one.doubts.items() for place, doubt in some.items()
    ]
    expected = QualityFlag(Quality.INVALID, "no number that can be measured")
    assert reasons == [(0, 0, expected), (1, 1, expected)]


def test_polls_that_come_back_from_the_spool_take_no_columns_of_their_own() -> None:
    head = Head()
    for time in range(3):
        head.take(poll(time, 1.0, 2.0, 3.0, layout=THREE))
    spooled = pack(head.uncommitted(1 << 20))
    (own,) = head.batches("main")
    for _ in range(3):
        back = head.sibling(["main"])
        for one in unpack(spooled):
            back.take(one)
        head.adopt(back)
    batches = head.batches("main")
    assert len(batches) == 4
    assert {id(batch.index) for batch in batches} == {id(own.index)}
    layouts = {id(batch.seen[number].column_of) for batch in batches for number in set(batch.kinds)}
    # That of the driver, and the one of the spool, which has the columns in its own order.
    assert len(layouts) <= 2
    assert [batch.times.tolist() for batch in batches] == [[0, 1, 2]] * 4
    assert {tuple(batch.column(place, 0).values) for batch in batches for place in (1,)} == {
        tuple(own.column(1, 0).values)
    }


def test_a_sibling_knows_nothing_of_devices_that_are_not_here() -> None:
    head = Head({"old": "main"})
    head.take(poll(1, 1.0))
    assert head.sibling(["old", "stranger"]).devices() == ["main"]
    assert head.sibling(["old"]).names() == set()
