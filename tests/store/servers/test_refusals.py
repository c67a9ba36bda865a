"""What people read when a server will not have them, and what happens when there is none."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store.db import store_url
from meterd.store.db.server_errors import meaning
from meterd.store.reader import Reader
from meterd.store.writer import Writer
from tests.api import certificates
from tests.ports import free_port
from tests.store.rigs import NEVER, opened, poll

from .engines import Engine, Postgres, database_of
from .programs import PASSWORD, QUOTED
from .test_conformance import stored

_ADMINISTRATOR = "local all all scram-sha-256\nhost all postgres all scram-sha-256\n"


async def refusal(url: str, caplog: pytest.LogCaptureFixture) -> StoreError:
    """What opening a writer raises; the password stands in none of it."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(StoreError) as refused:
        await Writer(url, commit=NEVER).open()
    error: BaseException | None = refused.value
    while error is not None:
        assert PASSWORD not in str(error)
        assert QUOTED not in str(error)
        error = error.__cause__ or error.__context__
    assert PASSWORD not in caplog.text
    assert QUOTED not in caplog.text
    return refused.value


async def test_a_wrong_password_is_named(
    single: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (url,) = single.urls(database_of(tmp_path))
    error = await refusal(url.replace(QUOTED, f"{QUOTED}x"), caplog)
    assert error.code == "unavailable"
    assert "check user and password in store.url" in str(error)


async def test_a_missing_database_is_named(
    single: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (url,) = single.urls(database_of(tmp_path))
    error = await refusal(f"{url}x", caplog)
    assert error.code == "unavailable"
    assert "make it first" in str(error) or "make that database first" in str(error)


async def test_missing_rights_are_named(
    single: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = database_of(tmp_path)
    (url,) = single.urls(name)
    if isinstance(single, Postgres):
        single.ask(f"ALTER DATABASE {name} OWNER TO postgres")
    else:
        single.ask(f"REVOKE ALL ON {name}.* FROM 'meterd'@'127.0.0.1'")
        single.ask(f"GRANT SELECT ON {name}.* TO 'meterd'@'127.0.0.1'")
    error = await refusal(url, caplog)
    assert error.code == "unavailable"
    assert "grant that user the right to make and change tables" in str(error)


@contextmanager
def wanting_tls(single: Engine) -> Iterator[None]:
    if not isinstance(single, Postgres):
        single.ask("ALTER USER 'meterd'@'127.0.0.1' REQUIRE SSL")
        yield
        single.ask("ALTER USER 'meterd'@'127.0.0.1' REQUIRE NONE")
        return
    rules = Path(str(single.ask("SHOW hba_file")[0][0]))
    before = rules.read_text()
    rules.write_text(f"hostssl all meterd all scram-sha-256\n{_ADMINISTRATOR}")
    single.ask("SELECT pg_reload_conf()")
    yield
    rules.write_text(before)
    single.ask("SELECT pg_reload_conf()")


async def test_a_server_that_wants_tls_is_named(
    single: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (url,) = single.urls(database_of(tmp_path))
    with wanting_tls(single):
        await until(url, lambda error: error is not None)
        error = await refusal(url, caplog)
    await until(url, lambda error: error is None)
    assert error.code == "unavailable"
    wanted = "add ?sslmode=require" if isinstance(single, Postgres) else "needs ?ssl_ca=FILE"
    assert wanted in str(error)


async def until(url: str, fits: Callable[[StoreError | None], bool]) -> None:
    """What an administrator changes is not so at once."""
    async with asyncio.timeout(60):
        while True:
            try:
                with store_url.find(url).reading():
                    found = None
            except StoreError as error:
                found = error
            if fits(found):
                return
            await asyncio.sleep(0.05)


@pytest.mark.needs("openssl")
async def test_a_server_without_tls_is_named(
    single: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (url,) = single.urls(database_of(tmp_path))
    is_postgres = isinstance(single, Postgres)
    more = "sslmode=require" if is_postgres else f"ssl_ca={certificates.make(tmp_path).certificate}"
    error = await refusal(f"{url}?{more}", caplog)
    assert error.code == "unavailable"
    assert str(error).endswith("check the TLS options and the certificates that store.url names")


async def test_a_certificate_that_is_not_there_is_named(
    single: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (url,) = single.urls(database_of(tmp_path))
    option = "sslrootcert" if isinstance(single, Postgres) else "ssl_ca"
    error = await refusal(f"{url}?{option}={tmp_path}/ca.pem", caplog)
    assert error.code == "unavailable"
    assert f"{option}={tmp_path}/ca.pem is no file; correct store.url" in str(error)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            OSError(2003, "Name or service not known"),
            "unreachable",
            "correct the host in store.url",
        ),
        (OSError("failed to resolve host 'db'"), "unreachable", "correct the host in store.url"),
        (OSError("connection timeout expired"), "unreachable", "its firewall"),
        (OSError(2003, "timed out"), "unreachable", "its firewall"),
        (OSError(1045, "Access denied"), "unavailable", "check user and password in store.url"),
        (OSError(1049, "Unknown database 'd'"), "unavailable", "make that database first"),
        (OSError("SSL connection has been closed unexpectedly"), "unreachable", ""),
    ],
)
def test_what_is_wrong_says_what_to_do(error: OSError, code: str, says: str) -> None:
    found, advice = meaning(error)
    assert found == code
    assert says in advice
    assert bool(says) == bool(advice)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"mariadb://u:{QUOTED}@h:port/d", "write %40 for @"),
        (f"mariadb://u:{QUOTED}@h", "must be sqlite:///FILE, or postgresql:// or mariadb://"),
        (f"oracle://u:{QUOTED}@h/d", "must be sqlite:///FILE, or postgresql:// or mariadb://"),
        (f"postgresql://u:{QUOTED}@h/d?options=-csearch_path", "no such option: options"),
    ],
)
def test_a_url_that_means_no_server_is_explained(url: str, says: str) -> None:
    with pytest.raises(StoreError) as refused:
        store_url.find(url)
    assert says in str(refused.value)
    assert PASSWORD not in str(refused.value)
    assert QUOTED not in str(refused.value)
    assert refused.value.__cause__ is None


def test_the_nodes_of_a_store_are_of_one_kind() -> None:
    with pytest.raises(StoreError, match="one kind"):
        store_url.find(["mariadb://u:p@h/d", "postgresql://u:p@h/d"])


async def test_a_server_that_is_down_is_waited_for(single: Engine, tmp_path: Path) -> None:
    (url,) = single.urls(database_of(tmp_path))
    (one,) = single.servers
    one.kill()
    writer = Writer(url, commit=0.2)
    reader = Reader(url, writer.memory)
    try:
        async with opened(writer):
            before = writer.status
            assert not before.writable
            assert "refused" in before.error
            assert before.error.endswith("start the server, or correct host and port in store.url")
            assert PASSWORD not in before.error
            for time in range(1000, 2000):
                writer.take(poll(time, float(time)))
            with pytest.raises(StoreError) as refused:
                await reader.range(["main"], None, 0, 5000, 0, "avg")
            assert refused.value.code == "unreachable"
            one.launch()
            await asyncio.to_thread(single.await_up)
            async with asyncio.timeout(60):
                while not writer.status.writable:
                    await asyncio.sleep(0.05)
            assert len((await reader.range(["main"], None, 0, 5000, 0, "avg"))[0].points) == 1000
    finally:
        reader.close()
        if not await asyncio.to_thread(one.is_up):
            one.start()
    (points,) = stored(url).values()
    assert points == [(time, float(time)) for time in range(1000, 2000)]


async def test_what_was_remembered_is_found_when_a_server_comes_late(
    single: Engine, tmp_path: Path
) -> None:
    (url,) = single.urls(database_of(tmp_path))
    async with opened(Writer(url, commit=NEVER)) as writer:
        writer.remember("counters main", "7")
    late = url.replace(f":{single.servers[0].port}/", f":{free_port()}/")
    async with opened(Writer([late], commit=NEVER)) as writer:
        assert writer.recall("counters main") is None
    async with opened(Writer([late, url], commit=NEVER)) as writer:
        assert writer.recall("counters main") == "7"
