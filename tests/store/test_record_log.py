import errno
import os
import random
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store.db.durable_files import fsync_folder
from meterd.store.wal.record_log import (
    AlternatingLog,
    RecordLog,
    generation_of,
    read_halves,
    read_log,
)
from meterd.store.wal.scanner import DamagedRange, Record

BODIES = [b"one", b"", b"three" * 100, bytes(range(256))]


def written(path: Path, bodies: list[bytes]) -> None:
    log = RecordLog(path)
    for body in bodies:
        log.append(body)
    log.close()


def found(path: Path) -> list[bytes]:
    log = RecordLog(path)
    bodies = list(log.bodies())
    log.close()
    return bodies


def test_what_was_appended_is_found_again_and_more_follows_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written(path, BODIES)
    written(path, [b"more"])
    assert found(path) == [*BODIES, b"more"]


def test_a_log_counts_what_is_in_it_and_how_large_it_is(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for before in (0, 2, 4):
        log = RecordLog(path)
        assert log.count == before
        log.append(b"one")
        log.append(b"two")
        assert log.count == before + 2
        assert log.size == path.stat().st_size
        log.close()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_who_only_reads_leaves_no_file_open(tmp_path: Path) -> None:
    log, journal = tmp_path / "log", tmp_path / "journal"
    written(log, BODIES)
    halves(journal).close()
    before = open_files()
    read_log(log)
    read_halves(journal)
    assert generation_of(journal) == 2
    fsync_folder(tmp_path)
    AlternatingLog(tmp_path / "other", 1 << 14).close()
    assert open_files() <= before


def test_a_new_file_is_on_the_disk_before_it_has_its_name_and_its_name_is_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut could leave a journal of zeros under the right name."""
    path, done = tmp_path / "journal", []

    def synced(file: int) -> None:
        done.append((str(Path(f"/proc/self/fd/{file}").readlink()), path.exists()))

    monkeypatch.setattr(os, "fsync", synced)
    halves(path).close()
    assert done == [(f"{path}.part", False), (str(tmp_path), True)]
    log = RecordLog(tmp_path / "log")
    log.append(b"one")
    log.close()
    assert done[2:] == [(str(tmp_path), True)]


def test_a_file_cut_at_any_byte_keeps_the_records_before(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    written(whole, BODIES)
    data = whole.read_bytes()
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        bodies = found(cut)
        assert bodies == BODIES[: len(bodies)]
        assert len(bodies) < len(BODIES)


def test_a_flipped_bit_anywhere_hurts_one_record_and_is_told(tmp_path: Path) -> None:
    whole, bad = tmp_path / "whole", tmp_path / "bad"
    written(whole, BODIES)
    data = whole.read_bytes()
    for bit in (*range(8 * 24), *range(8 * 24, 8 * len(data), 37)):
        bad.write_bytes(flipped(data, bit))
        log = RecordLog(bad)
        (flaw,) = log.flaws
        left = [body for number, body in enumerate(BODIES, 1) if number != flaw.first]
        assert list(log.bodies()) == left
        # A flip in the first bytes of the file costs nothing at all.
        assert flaw.start <= bit // 8 < flaw.stop
        assert (flaw.first == 0) == (bit < 64)
        log.append(b"more")
        log.close()
        assert found(bad) == [*left, b"more"]
        assert [item for item in read_log(bad) if isinstance(item, DamagedRange)] == [flaw] * bool(
            flaw.first
        )


def flipped(data: bytes, *bits: int) -> bytes:
    changed = bytearray(data)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_flips_in_two_records_hurt_these_two(tmp_path: Path) -> None:
    path, said = tmp_path / "log", random.Random(5)
    bodies = [said.randbytes(said.randrange(40)) for _ in range(12)]
    written(path, bodies)
    data = path.read_bytes()
    ends = list(accumulate((16 + len(body) for body in bodies), initial=8))
    for _ in range(300):
        # The last one apart: with two wrong bits it looks as if it had been broken off.
        first, second = sorted(said.sample(range(11), 2))
        bits = [said.randrange(8 * ends[n], 8 * ends[n + 1]) for n in (first, second)]
        path.write_bytes(flipped(data, *bits))
        log = RecordLog(path)
        told = {n for flaw in log.flaws for n in range(flaw.first, flaw.last + 1)}
        assert told == {first + 1, second + 1}
        assert list(log.bodies()) == [b for n, b in enumerate(bodies) if n not in (first, second)]
        log.close()


def test_what_was_broken_off_at_the_end_is_no_flaw(tmp_path: Path) -> None:
    """As power cuts leave it: sectors of the last record are there, or as they were before."""
    path, said = tmp_path / "journal", random.Random(6)
    for _ in range(40):
        path.unlink(missing_ok=True)
        journal = halves(path)
        assert journal.append(b"first")
        if said.random() < 0.5:
            # The half was used before.
            for turn in range(2):
                assert journal.append(said.randbytes(20_000))
                assert journal.restart([b"first"] * (turn % 2))
        before = path.read_bytes()
        assert journal.append(said.randbytes(said.randrange(600, 9000)))
        after = path.read_bytes()
        journal.close()
        sectors = [
            n for n in range(0, len(after), 512) if before[n : n + 512] != after[n : n + 512]
        ]
        torn = bytearray(after)
        for n in said.sample(sectors, said.randrange(1, len(sectors) + 1)):
            torn[n : n + 512] = before[n : n + 512]
        path.write_bytes(torn)
        items = read_halves(path)
        assert [item for item in items if isinstance(item, DamagedRange)] == []
        assert len(items) <= 1
        kept = bodies_of(path)
        again = halves(path)
        assert again.append(b"next")
        assert bodies_of(path) == [*kept, b"next"]
        again.close()


def test_a_flip_anywhere_in_a_journal_hurts_one_record_and_no_older_one_comes_back(
    tmp_path: Path,
) -> None:
    path, said = tmp_path / "journal", random.Random(7)
    journal = halves(path, 1 << 14)
    for turn in range(5):
        for number in range(8):
            assert journal.append(b"old %d %d" % (turn, number) + said.randbytes(30))
        assert journal.restart([b"carry %d" % turn])
    bodies = [b"carry 4", *(said.randbytes(said.randrange(60)) for _ in range(5))]
    for body in bodies[1:]:
        assert journal.append(body)
    journal.close()
    data = path.read_bytes()
    half = len(data) // 2
    heads = [8 * (place + at) for place in (0, half) for at in (0, 1024, 2048)]
    start = half + 4096 if data[half + 4096 :].startswith(b"\x07") else 4096
    assert data[start : start + 4] == b"\x07\0\0\0"
    size = sum(16 + len(body) for body in bodies)
    bits = [bit + n for bit in heads for n in range(0, 160, 3)]
    bits += range(8 * start, 8 * (start + size), 3)
    for bit in bits:
        path.write_bytes(flipped(data, bit))
        items = read_halves(path)
        flaws = [item for item in items if isinstance(item, DamagedRange)]
        lost = {flaw.first for flaw in flaws}
        assert bodies_of(path) == [b for n, b in enumerate(bodies, 1) if n not in lost]
        in_records = bit >= 8 * start and bit < 8 * (start + size)
        assert len(lost - {0}) == in_records
        again = halves(path)
        assert list(again.bodies()) == bodies_of(path)
        assert again.append(b"more")
        again.close()
        assert bodies_of(path)[-1] == b"more"
        assert 0 not in {item.first for item in read_halves(path) if isinstance(item, DamagedRange)}


def test_a_page_of_heads_that_is_gone_costs_nothing_where_records_tell(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = halves(path)
    assert journal.append(b"old")
    assert journal.restart([b"new"])
    journal.close()
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half : half + 4096] = random.Random(1).randbytes(4096)
    path.write_bytes(data)
    assert bodies_of(path) == [b"new"]
    data[:4096] = random.Random(2).randbytes(4096)
    path.write_bytes(data)
    with pytest.raises(StoreError, match="heads are damaged"):
        halves(path)


@pytest.mark.parametrize("lost", [random.Random(1).randbytes(4096), bytes(4096)])
@pytest.mark.parametrize("restarts", range(5))
def test_whichever_half_loses_its_page_of_heads_its_records_tell(
    tmp_path: Path, restarts: int, lost: bytes
) -> None:
    """Also of a file that is new, of which no other half is known."""
    path = tmp_path / "journal"
    journal = halves(path)
    for turn in range(restarts):
        assert journal.restart([b"carry %d" % turn])
    assert journal.append(b"last")
    expected = [*([b"carry %d" % (restarts - 1)] if restarts else []), b"last"]
    journal.close()
    data = bytearray(path.read_bytes())
    start = len(data) // 2 if restarts % 2 else 0
    data[start : start + 4096] = lost
    path.write_bytes(data)
    assert bodies_of(path) == expected
    assert [item.first for item in read_halves(path) if not isinstance(item, Record)]
    again = halves(path)
    assert again.generation == restarts + 2
    assert again.append(b"more")
    again.close()
    assert bodies_of(path) == [*expected, b"more"]


@pytest.mark.parametrize("is_older", [False, True])
def test_a_restart_that_was_broken_off_leaves_no_records_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_older: bool
) -> None:
    path = tmp_path / "journal"
    halves(path).close()
    page = path.stat().st_size // 2
    if is_older:
        # What a meterd of before made has nothing there.
        data = bytearray(path.read_bytes())
        data[page : page + 4096] = bytes(4096)
        path.write_bytes(data)
    halves(tmp_path / "new").close()
    before = (tmp_path / "new").read_bytes()[page : page + 4096]
    journal = halves(path)
    assert journal.append(b"first")
    power = Power(1 + is_older)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", power.through(os.fdatasync))
        with pytest.raises(StoreError):
            journal.restart([b"never", b"confirmed"])
    # The page of heads did get there, or not: here it did not.
    data = bytearray(path.read_bytes())
    data[page : page + 4096] = before
    path.write_bytes(data)
    journal.close()
    assert bodies_of(path) == [b"first"]
    again = halves(path)
    assert again.restart([])
    again.close()
    assert bodies_of(path) == []


def test_what_could_not_be_synced_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    log = RecordLog(path)
    log.append(b"first")

    def fails(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fdatasync", fails)
        with pytest.raises(StoreError, match="make room") as refused:
            log.append(b"a long one that is not confirmed")
    assert refused.value.code == "full"
    log.append(b"second")
    assert list(log.bodies()) == [b"first", b"second"]
    log.close()
    assert found(path) == [b"first", b"second"]


class Power:
    """Lets so many calls through, and no more."""

    def __init__(self, calls: int) -> None:
        self._left = calls

    def through(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            if self._left == 0:
                raise OSError(errno.EIO, "Input/output error")
            self._left -= 1
            return real(*args)

        return call


def bodies_of(path: Path) -> list[bytes]:
    return [item.body for item in read_halves(path) if isinstance(item, Record)]


def halves(path: Path, size: int = 1 << 16) -> AlternatingLog:
    return AlternatingLog(path, size)


def test_halves_take_turns_and_keep_their_size(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    expected: list[bytes] = []
    for turn in range(7):
        journal = halves(path)
        assert list(journal.bodies()) == expected
        assert journal.append(b"more of %d" % turn)
        assert journal.restart([b"carry %d" % turn, b"and more"])
        assert journal.append(b"after %d" % turn)
        expected = [b"carry %d" % turn, b"and more", b"after %d" % turn]
        journal.close()
        assert bodies_of(path) == expected
        assert path.stat().st_size == 1 << 16


def test_a_full_half_says_so_and_stays_as_it_is(tmp_path: Path) -> None:
    journal = halves(tmp_path / "journal")
    assert journal.append(bytes(20_000))
    assert not journal.append(bytes(20_000))
    assert not journal.restart([bytes(20_000), bytes(20_000)])
    assert list(journal.bodies()) == [bytes(20_000)]
    assert 0.5 < journal.used < 1
    assert journal.restart([])
    assert journal.used == 0
    journal.close()


def test_a_restart_cut_short_anywhere_leaves_the_half_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    for calls in range(4):
        path.unlink(missing_ok=True)
        journal = halves(path)
        for body in BODIES:
            assert journal.append(body)
        power = Power(calls)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", power.through(os.fdatasync))
            patched.setattr(os, "pwrite", power.through(os.pwrite))
            with pytest.raises(StoreError):
                journal.restart([b"carry"])
        journal.close()
        # Where only the last sync failed, either half is right: both are whole.
        assert bodies_of(path) == (BODIES if calls < 3 else [b"carry"])


def test_an_old_generation_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = halves(path)
    for number in range(3):
        assert journal.append(b"old %d" % number)
    assert journal.restart([])
    assert journal.restart([])
    journal.close()
    assert read_halves(path) == []


def test_no_file_has_no_records(tmp_path: Path) -> None:
    assert read_halves(tmp_path / "journal") == []


def test_a_log_writes_nothing_before_its_first_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        log = RecordLog(path)
        assert list(log.bodies()) == []
        with pytest.raises(StoreError, match="No space"):
            log.append(b"one")
    log.append(b"one")
    log.close()
    assert found(path) == [b"one"]
