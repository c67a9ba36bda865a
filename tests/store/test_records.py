import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store.records import Halves, Log, read_halves

BODIES = [b"one", b"", b"three" * 100, bytes(range(256))]


def written(path: Path, bodies: list[bytes]) -> None:
    log = Log(path)
    for body in bodies:
        log.append(body)
    log.close()


def found(path: Path) -> list[bytes]:
    log = Log(path)
    bodies = list(log.bodies())
    log.close()
    return bodies


def test_what_was_appended_is_found_again_and_more_follows_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written(path, BODIES)
    written(path, [b"more"])
    assert found(path) == [*BODIES, b"more"]


def test_a_file_cut_at_any_byte_keeps_the_records_before(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    written(whole, BODIES)
    data = whole.read_bytes()
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        bodies = found(cut)
        assert bodies == BODIES[: len(bodies)]
        assert len(bodies) < len(BODIES)


def test_a_flipped_bit_ends_the_file_and_never_shows(tmp_path: Path) -> None:
    whole, bad = tmp_path / "whole", tmp_path / "bad"
    written(whole, BODIES)
    data = whole.read_bytes()
    for at in range(8, len(data)):
        bad.write_bytes(data[:at] + bytes((data[at] ^ 0x10,)) + data[at + 1 :])
        bodies = found(bad)
        assert bodies == BODIES[: len(bodies)]
        assert len(bodies) < len(BODIES)


def test_records_after_damage_are_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written(path, [b"good", b"bad", b"lost"])
    data = bytearray(path.read_bytes())
    data[data.index(b"bad")] ^= 1
    path.write_bytes(data)
    written(path, [b"new"])
    assert found(path) == [b"good", b"new"]


def test_what_could_not_be_synced_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    log = Log(path)
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


def halves(path: Path, size: int = 1 << 16) -> Halves:
    return Halves(path, size)


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
        assert read_halves(path) == expected
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
        assert read_halves(path) == (BODIES if calls < 3 else [b"carry"])


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
        log = Log(path)
        assert list(log.bodies()) == []
        with pytest.raises(StoreError, match="No space"):
            log.append(b"one")
    log.append(b"one")
    log.close()
    assert found(path) == [b"one"]
