import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store.db import lockfile as locks
from meterd.store.db import ownership
from meterd.store.db.lockfile import Claim, LockFile, holder_of

# Holds a lock of the kind argv[2] on the file argv[1], until its stdin ends.
STRANGER = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(file, int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def stranger(file: Path, kind: int) -> Iterator[int]:
    """The pid of another program that has the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", STRANGER, str(file), str(kind)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.stdin.close()


def test_a_second_daemon_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "meterd.db")
    with pytest.raises(StoreError, match=rf"another meterd \(pid {os.getpid()}\)") as refused:
        LockFile(tmp_path / "meterd.db")
    assert refused.value.code == "already_running"
    lock.release()


def test_a_tool_that_has_it_is_named_with_how_long_it_may_take(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "meterd.db", Claim("meterd import old.csv", 3600))
    with pytest.raises(StoreError) as refused:
        LockFile(tmp_path / "meterd.db")
    assert refused.value.code == "busy"
    assert f"meterd import old.csv (pid {os.getpid()}), since 20" in str(refused.value)
    assert "for 60 min at most" in str(refused.value)
    holder = holder_of(tmp_path / "meterd.db")
    assert holder is not None
    assert (holder.pid, holder.most, holder.is_daemon) == (os.getpid(), 3600, False)
    assert not holder.is_late(holder.since + 3599)
    assert holder.is_late(holder.since + 3601)
    lock.release()
    assert holder_of(tmp_path / "meterd.db") is None


def test_a_released_lock_is_free_again_and_names_nobody(tmp_path: Path) -> None:
    LockFile(tmp_path / "meterd.db").release()
    assert (tmp_path / "meterd.db.lock").read_bytes() == b""
    LockFile(tmp_path / "meterd.db").release()


def test_the_file_of_a_dead_owner_locks_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "meterd.db.lock").write_text("4194304999\n")
    lock = LockFile(tmp_path / "meterd.db")
    first, second = (tmp_path / "meterd.db.lock").read_text().splitlines()
    assert first == str(os.getpid())
    assert json.loads(second)["kind"] == "daemon"
    lock.release()


def test_a_meterd_of_an_older_version_says_only_its_pid_and_is_a_daemon(tmp_path: Path) -> None:
    with stranger(tmp_path / "meterd.db.lock", fcntl.LOCK_EX) as pid:
        (tmp_path / "meterd.db.lock").write_text(f"{pid}\n")
        with pytest.raises(StoreError, match=f"pid {pid}") as refused:
            LockFile(tmp_path / "meterd.db")
    assert refused.value.code == "already_running"


@pytest.mark.parametrize("kind", [fcntl.LOCK_SH, fcntl.LOCK_EX])
@pytest.mark.parametrize("said", ["", "4194304999\n", '1\n{"kind": "daemon"', "\0\0", "²\n"])
def test_a_strangers_lock_is_no_other_meterd_and_is_told_by_its_pid(
    tmp_path: Path, kind: int, said: str
) -> None:
    pauses: list[float] = []
    (tmp_path / "meterd.db.lock").write_text(said)
    with stranger(tmp_path / "meterd.db.lock", kind) as pid:
        with pytest.raises(StoreError) as refused:
            LockFile(tmp_path / "meterd.db", sleep=pauses.append)
        holder = holder_of(tmp_path / "meterd.db")
    assert refused.value.code == "busy"
    assert f"(pid {pid})" in str(refused.value)
    # It may be one that only looks, and is gone in a moment.
    assert 0.5 <= sum(pauses) <= 3
    assert holder is not None
    assert (holder.pid, holder.is_daemon) == (pid, False)


def test_where_the_kernel_does_not_tell_who_it_is_the_file_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under ProcSubset=pid, and in a container."""
    monkeypatch.setattr(locks, "_LOCKS", tmp_path / "nothing")
    with stranger(tmp_path / "meterd.db.lock", fcntl.LOCK_EX):
        with pytest.raises(StoreError, match="held by another program") as refused:
            LockFile(tmp_path / "meterd.db", sleep=lambda _: None)
        assert refused.value.code == "busy"
        (tmp_path / "meterd.db.lock").write_text("1\n")
        with pytest.raises(StoreError, match="pid 1") as refused:
            LockFile(tmp_path / "meterd.db", sleep=lambda _: None)
        assert refused.value.code == "already_running"


def test_who_only_looks_at_the_lock_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    file = os.open(tmp_path / "meterd.db.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(file, fcntl.LOCK_SH)
    lock = LockFile(tmp_path / "meterd.db", sleep=lambda _: fcntl.flock(file, fcntl.LOCK_UN))
    lock.release()
    os.close(file)


def test_where_no_lock_can_be_made_the_text_says_so(tmp_path: Path) -> None:
    (tmp_path / "meterd.db.lock").mkdir()
    with pytest.raises(StoreError, match="able to write") as refused:
        LockFile(tmp_path / "meterd.db")
    assert refused.value.code == "unavailable"


def test_a_link_or_a_pipe_in_its_place_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("as it was")
    (tmp_path / "meterd.db.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(StoreError) as refused:
        LockFile(tmp_path / "meterd.db")
    assert refused.value.code == "unavailable"
    assert (tmp_path / "precious").read_text() == "as it was"
    (tmp_path / "meterd.db.lock").unlink()
    os.mkfifo(tmp_path / "meterd.db.lock")
    with pytest.raises(StoreError, match="is no file") as refused:
        LockFile(tmp_path / "meterd.db")
    assert holder_of(tmp_path / "meterd.db") is None


def test_a_full_disk_is_an_error_that_says_so_and_the_lock_holds_without_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ownership, "make", full)
        with pytest.raises(StoreError, match="make room") as refused:
            LockFile(tmp_path / "meterd.db")
        assert refused.value.code == "full"
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        lock = LockFile(tmp_path / "meterd.db")
    with pytest.raises(StoreError):
        LockFile(tmp_path / "meterd.db", sleep=lambda _: None)
    lock.release()
