import errno
import sqlite3
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store.db import sqlite, store_url

from .rigs import url_of


def prepare(url: str) -> None:
    store_url.find(url).prepare()


def test_a_relative_url_lies_where_meterd_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sqlite.locate("sqlite:///meterd.db") == tmp_path / "meterd.db"


def test_four_slashes_are_an_absolute_path() -> None:
    assert sqlite.locate("sqlite:////srv/data/meterd.db") == Path("/srv/data/meterd.db")


def test_two_names_of_one_file_are_one_path(tmp_path: Path) -> None:
    (tmp_path / "name.db").symlink_to(tmp_path / "real.db")
    assert sqlite.locate(url_of(tmp_path / "name.db")) == tmp_path / "real.db"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "memory"),
        ("sqlite:///", "memory"),
        ("sqlite:///:memory:", "memory"),
        ("meterd.db", "must be sqlite"),
        ("sqlite:///meterd.db?mode=ro", "without options"),
        ("sqlite:////var/lib/meterd/", "a file"),
    ],
)
def test_other_urls_are_refused_and_the_text_says_why(url: str, says: str) -> None:
    with pytest.raises(StoreError, match=says) as refused:
        sqlite.locate(url)
    assert refused.value.code == "settings"


def test_a_missing_folder_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a folder; make it, mount its disk"):
        prepare(url_of(tmp_path / "usb" / "meterd.db"))
    assert not (tmp_path / "usb").exists()


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder"):
        prepare(url_of(tmp_path))


def test_a_file_of_another_kind_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    path.write_bytes(b"no database at all\n" * 100)
    with pytest.raises(StoreError, match="not a database") as refused:
        store_url.find(url_of(path)).writing()
    assert refused.value.code == "corrupt"


def test_errors_of_the_disk_are_unavailable_and_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"meterd\.db.*Input/output") as refused:  # noqa: SIM117
        with store_url.find(url_of(tmp_path / "meterd.db")).mapped():
            raise OSError(errno.EIO, "Input/output error")
    assert refused.value.code == "unavailable"


def test_readers_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "a b%20?#.db"
    sqlite3.connect(path).close()
    with (
        pytest.raises(StoreError, match="readonly"),
        sqlite.SqliteDatabase(path).reading() as connection,
    ):
        connection.exec_driver_sql("CREATE TABLE t (x)")


def test_folders_of_a_relative_url_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare("sqlite:///var/lib/meterd/meterd.db")
    assert (tmp_path / "var/lib/meterd").is_dir()
    with pytest.raises(StoreError, match="make it"):
        prepare(url_of(tmp_path.parent / "nowhere" / "meterd.db"))


@pytest.mark.parametrize("name", ["pipe", "folder", "x" * 300])
def test_what_is_no_file_is_no_store_and_is_not_opened(tmp_path: Path, name: str) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    found = store_url.find(f"sqlite:///{tmp_path}/{name}")
    for work in (found.made, found.prepare):
        with pytest.raises(StoreError) as refused:
            work()
        assert refused.value.code == "unavailable"
