import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import meterd
from meterd.errors import StoreError
from meterd.store.db import migrate, store_url
from meterd.store.db.schema import metadata

from .rigs import rows, store, url_of

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.sql"))


def upgrade(path: Path) -> None:
    migrate.upgrade(store_url.find(url_of(path)))


def test_the_migrations_lead_to_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    upgrade(path)
    with store_url.find(url_of(path)).reading() as connection:
        options = {"compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_samples_are_kept_by_time_without_a_second_key(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    upgrade(path)
    ((text,),) = rows(path, "SELECT sql FROM sqlite_master WHERE name = 'sample'")
    assert "PRIMARY KEY (time, series)" in str(text)
    assert "WITHOUT ROWID" in str(text)


def test_a_path_with_a_percent_sign_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "50% off").mkdir()
    upgrade(tmp_path / "50% off" / "meterd.db")
    assert rows(tmp_path / "50% off" / "meterd.db", "SELECT * FROM alembic_version")


def test_a_second_upgrade_changes_nothing_and_loads_no_alembic(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    upgrade(path)
    before = path.read_bytes()
    code = (
        "import sys; from meterd.store.db import migrate, store_url; "
        "migrate.upgrade(store_url.find(sys.argv[1])); "
        "sys.exit('alembic' in sys.modules)"
    )
    root = Path(meterd.__file__).parent.parent
    subprocess.run([sys.executable, "-c", code, url_of(path)], check=True, cwd=root)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_and_both_versions_named(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    upgrade(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    connection.close()
    known = migrate.versions()[-1]
    with pytest.raises(StoreError, match=f"schema 0999, .* knows {known} at most") as refused:
        upgrade(path)
    assert refused.value.code == "newer_schema"


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE states (x)")
    connection.close()
    with pytest.raises(StoreError, match="another program's"):
        upgrade(path)
    assert rows(path, "SELECT name FROM sqlite_master") == [("states",)]


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    path.touch()
    upgrade(path)
    assert rows(path, "SELECT version_num FROM alembic_version") == [(migrate.versions()[-1],)]


def test_an_installed_package_brings_its_own_migrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meterd" / "migrations").mkdir(parents=True)
    (tmp_path / "meterd" / "migrations" / "env.py").touch()
    monkeypatch.setattr(meterd, "__file__", str(tmp_path / "meterd" / "__init__.py"))
    assert migrate.folder() == tmp_path / "meterd" / "migrations"


def test_a_broken_installation_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meterd, "__file__", str(tmp_path / "meterd" / "__init__.py"))
    with pytest.raises(StoreError, match="install meterd again"):
        migrate.folder()


def test_every_migration_follows_the_one_before() -> None:
    numbers = [int(version) for version in migrate.versions()]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.fixture(params=FIXTURES, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store of the first schemas, as a dump of their own meterd left it."""
    path = tmp_path / "meterd.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(request.param.read_text("utf-8"))
    return path


async def test_what_was_remembered_and_the_names_stay(old: Path) -> None:
    question = "SELECT id, device_id, quantity, unit, kind FROM series ORDER BY id"
    names, ((schema,),) = rows(old, question), rows(old, "SELECT * FROM alembic_version")
    async with store(old) as (writer, _):
        remembered = writer.recall("counters main")
    assert remembered == (None if schema == "0001" else "where they stood")
    assert rows(old, question) == names


async def test_the_store_is_copied_before_its_schema_changes(old: Path) -> None:
    question = "SELECT time, series, value FROM sample ORDER BY time, series"
    expected = rows(old, question)
    schema = rows(old, "SELECT version_num FROM alembic_version")[0][0]
    async with store(old):
        pass
    copy = old.with_name(f"meterd.db.schema-{schema}")
    assert rows(copy, "SELECT version_num FROM alembic_version") == [(schema,)]
    assert rows(copy, question) == expected
