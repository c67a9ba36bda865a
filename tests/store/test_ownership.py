"""Modes and owners of what the store makes, whatever the umask and whoever runs it."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store.db import migrate, ownership, premigration_backup, store_url
from meterd.store.db.ballast import Ballast
from meterd.store.db.lockfile import Claim
from meterd.store.db.quarantine import DamageError, quarantine_body
from meterd.store.tools import backup
from meterd.store.wal.record_log import AlternatingLog, RecordLog
from meterd.store.writer import Writer
from tests.store.rigs import poll

METERD = 12345  # a user that is not us


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.rglob("*")}


def owners(folder: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_uid, file.stat().st_gid) for file in folder.iterdir()}


async def make_all(folder: Path) -> None:
    """Every file that meterd makes beside a store."""
    url = f"sqlite:///{folder}/meterd.db"
    writer = Writer(url, to_file=True, claim=Claim("meterd import x.csv", 60))
    await writer.open()
    writer.take(poll(1_700_000_000_000, 230.0))
    await writer.flush()
    assert {"meterd.db-wal", "meterd.db-shm", "meterd.db.lock"} <= modes(folder).keys()
    found = store_url.find(url)
    backup.backup(found, folder / "copy.db")
    Ballast(folder / "meterd.db.reserve", 4096).keep()
    RecordLog(folder / "meterd.db.spool-000001").close()
    AlternatingLog(folder / "other.journal", 1 << 20).close()
    quarantine_body(folder, DamageError("block", 1, "damaged"), b"body")
    premigration_backup.copy_database(folder / "meterd.db", "0001")
    assert all(mode & 0o027 == 0 for mode in modes(folder).values()), modes(folder)
    await writer.close()
    backup.restore(found, folder / "copy.db", 0)


async def test_no_umask_makes_a_file_that_strangers_can_read(tmp_path: Path) -> None:
    with umask(0):
        await make_all(tmp_path)
    found = modes(tmp_path)
    assert len(found) >= 8
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o027} == {}


async def test_a_umask_that_is_tighter_counts(tmp_path: Path) -> None:
    with umask(0o077):
        await make_all(tmp_path)
    assert {name: oct(mode) for name, mode in modes(tmp_path).items() if mode & 0o077} == {}


root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@root
async def test_what_root_makes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, METERD, METERD)
    await make_all(tmp_path)
    found = owners(tmp_path)
    assert len(found) >= 8
    assert {name: ids for name, ids in found.items() if ids != (METERD, METERD)} == {}


@root
async def test_in_a_folder_of_roots_the_owner_of_the_database_counts(tmp_path: Path) -> None:
    migrate.upgrade(found := store_url.find(f"sqlite:///{tmp_path}/meterd.db"))
    os.chown(tmp_path / "meterd.db", METERD, METERD)
    backup.backup(found, tmp_path / "copy")
    backup.restore(found, tmp_path / "copy", 0)
    for name in ("meterd.db", "meterd.db.lock"):
        assert (tmp_path / name).stat().st_uid == METERD, name
    assert (tmp_path / "copy").stat().st_uid == 0


@root
def test_folders_that_a_relative_url_names_are_given_away_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(tmp_path, METERD, METERD)
    monkeypatch.chdir(tmp_path)
    with umask(0):
        store_url.find("sqlite:///some/where/meterd.db").prepare()
    for folder in (tmp_path / "some", tmp_path / "some" / "where"):
        assert folder.stat().st_uid == METERD
        assert stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_what_cannot_be_given_away_is_refused_and_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose root has no CAP_CHOWN."""
    real = Path.stat

    def foreign(path: Path, **rest: bool) -> os.stat_result:
        told = real(path, **rest)
        return os.stat_result((*told[:4], METERD, METERD, *told[6:]))

    def refuse(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", refuse)
    monkeypatch.setattr(Path, "stat", foreign)
    with pytest.raises(StoreError, match="run this as user 12345"):
        ownership.touch(tmp_path / "meterd.db")
    assert not (tmp_path / "meterd.db").exists()


def test_a_database_of_somebody_else_is_named_with_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "meterd.db"
    file.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "chmod u+w" in ownership.blame(file)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    me = ownership.user(file.stat().st_uid)
    assert f"it belongs to {me}, and this runs as user 4242" in ownership.blame(file)
    assert f"run it as {me}" in ownership.blame(file)
