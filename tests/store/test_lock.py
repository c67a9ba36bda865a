import os
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store.lock import Lock


def test_a_second_owner_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "meterd.db")
    with pytest.raises(StoreError, match=rf"pid {os.getpid()}\b") as refused:
        Lock(tmp_path / "meterd.db")
    assert refused.value.code == "already_running"
    lock.release()


def test_a_released_lock_is_free_again(tmp_path: Path) -> None:
    Lock(tmp_path / "meterd.db").release()
    Lock(tmp_path / "meterd.db").release()


def test_the_file_of_a_dead_owner_locks_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "meterd.db.lock").write_text("4194304999\n")
    lock = Lock(tmp_path / "meterd.db")
    assert (tmp_path / "meterd.db.lock").read_text() == f"{os.getpid()}\n"
    lock.release()


def test_where_no_lock_can_be_made_the_text_says_so(tmp_path: Path) -> None:
    (tmp_path / "meterd.db.lock").mkdir()
    with pytest.raises(StoreError, match="able to write") as refused:
        Lock(tmp_path / "meterd.db")
    assert refused.value.code == "unavailable"
