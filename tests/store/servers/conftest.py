"""The servers, each started once when the first test asks for it; a database for each path."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store import rigs

from . import engines
from .engines import Engine, database_of

ENGINES = [
    pytest.param("postgres", marks=pytest.mark.needs("postgres")),
    pytest.param("maria", marks=pytest.mark.needs("mariadbd")),
    pytest.param("galera", marks=[pytest.mark.needs("mariadbd", "rsync"), pytest.mark.long]),
]
SERVERS = ENGINES[:2]


@pytest.fixture(scope="session")
def postgres() -> Iterator[engines.Postgres]:
    with engines.postgres() as engine:
        yield engine


@pytest.fixture(scope="session")
def maria() -> Iterator[engines.Maria]:
    with engines.maria() as engine:
        yield engine


@pytest.fixture(scope="session")
def galera() -> Iterator[engines.Maria]:
    with engines.maria(engines.NODES) as engine:
        yield engine


@pytest.fixture(autouse=True)
def own_spool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A meterd whose store is on a server spools in the folder that it runs in."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sqlite(tmp_path: Path) -> engines.Sqlite:
    return engines.Sqlite(tmp_path)


@pytest.fixture(params=["sqlite", *ENGINES])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each kind of store there is."""
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=SERVERS)
def single(request: pytest.FixtureRequest) -> Engine:
    """A server of one machine."""
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=ENGINES)
def server(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def urls(server: Engine, tmp_path: Path) -> list[str]:
    return server.urls(database_of(tmp_path))


@pytest.fixture(params=ENGINES)
def elsewhere(request: pytest.FixtureRequest) -> Iterator[None]:
    """Paths that tests of the store use mean databases on a server."""
    found: Engine = request.getfixturevalue(request.param)

    def place(path: Path) -> str:
        return found.urls(database_of(path))[0]

    rigs.PLACES.append(place)
    try:
        yield
    finally:
        rigs.PLACES.remove(place)
