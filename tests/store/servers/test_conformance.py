"""What every kind of store has to do alike."""

import math
import random
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, LargeBinary
from sqlalchemy.sql.sqltypes import _Binary

from meterd.model.sample import LARGEST, Layout, Quality, QualityFlag
from meterd.store.db import galera_lock, migrate, store_url, views
from meterd.store.db.schema import metadata
from meterd.store.engine import storage_engine
from meterd.store.reader import Reader
from meterd.store.writer import Writer
from tests.store.rigs import METER, NEVER, Hands, opened, poll

from .engines import Engine, database_of

HOUR = 3_600_000
START = 19_700 * 24 * HOUR


def url_on(engine: Engine, path: Path) -> str:
    return engine.urls(database_of(path))[0]


def stored(url: str) -> dict[tuple[str, str, str], list[tuple[int, float]]]:
    """Every sample that another process finds."""
    reader = Reader.outside(url)
    try:
        names = [(one.device, one.quantity, one.unit) for one in reader.names()]
        tracks = reader.columns(names, 0, 1 << 50)
    finally:
        reader.close()
    return {
        name: list(zip(track.times.tolist(), track.values.tolist(), strict=True))
        for name, track in zip(names, tracks, strict=True)
    }


def differences(connection: Connection) -> list[object]:
    """Between the tables that are there and those that the code uses."""

    def differ(*told: Any) -> bool | None:
        *_, there, ours = told
        # MariaDB gives a BLOB of some length the name of the shortest kind that holds it.
        return not isinstance(there, _Binary) if isinstance(ours, LargeBinary) else None

    def is_ours(name: str | None, *_: object) -> bool:
        return name != galera_lock.TABLE  # which is there before any schema is

    opts = {"compare_type": differ, "include_name": is_ours}
    context = MigrationContext.configure(connection, opts=opts)
    return list(compare_metadata(context, metadata))


def test_the_migrations_lead_to_the_tables_that_the_code_uses(
    engine: Engine, tmp_path: Path
) -> None:
    place = store_url.find(url_on(engine, tmp_path))
    migrate.upgrade(place)
    migrate.upgrade(place)
    with place.reading() as connection:
        assert differences(connection) == []
        assert migrate.version(connection) == migrate.versions()[-1]


@pytest.mark.parametrize("count", range(1, len(migrate.versions())))
async def test_every_older_schema_is_brought_up_to_date(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    from alembic import command

    url = url_on(engine, tmp_path)
    with monkeypatch.context() as then:
        newest = command.upgrade
        old = migrate.versions()[:count]
        then.setattr(command, "upgrade", lambda config, _: newest(config, old[-1]))
        then.setattr(views, "make", lambda _: None)
        migrate.upgrade(store_url.find(url))
    with store_url.find(url).reading() as connection:
        assert migrate.version(connection) == old[-1]
    async with opened(Writer(url, commit=NEVER)) as writer:
        writer.take(poll(1000, 230.0))
    assert stored(url) == {("main", "voltage.l1", "V"): [(1000, 230.0)]}
    with store_url.find(url).reading() as connection:
        assert differences(connection) == []


async def test_doubles_are_exact_and_null_is_null(engine: Engine, tmp_path: Path) -> None:
    url = url_on(engine, tmp_path)
    said = random.Random(1)
    values = [
        *(struct.unpack("<d", said.randbytes(8))[0] for _ in range(300)),
        *(0.1, -0.0, 5e-324, LARGEST, 230.123, 123456789.123456789),
    ]
    values = [value for value in values if abs(value) <= LARGEST]
    hands = Hands(START)
    invalid = {0: QualityFlag(Quality.INVALID, "not available")}
    async with opened(Writer(url, commit=NEVER, clock=hands)) as writer:
        for number, value in enumerate(values):
            writer.take(poll(START + number, value))
        await writer.flush()
        writer.take(poll(START + HOUR, None, doubts=invalid))
        hands.now = START + 30 * HOUR
        await writer.settle()
    (found,) = stored(url).values()
    last = found.pop()
    assert (last[0], math.isnan(last[1])) == (START + HOUR, True)
    assert [struct.pack("<d", value) for _, value in found] == [
        struct.pack("<d", value) for value in values
    ]


async def test_plain_columns_keep_doubles_too(engine: Engine, tmp_path: Path) -> None:
    url = url_on(engine, tmp_path)
    said = random.Random(2)
    values = [said.uniform(-1e6, 1e6) for _ in range(50)] + [5e-324, LARGEST, None]
    layout = Layout.of([(f"x.c{number}", "V") for number in range(len(values))])
    async with opened(Writer(url, commit=NEVER)) as writer:
        writer.take(poll(1000, *values, layout=layout))
    found = engine.ask("SELECT value FROM newest ORDER BY series_id", database_of(tmp_path))
    assert [value for (value,) in found] == values


async def test_large_bodies_are_kept_whole(engine: Engine, tmp_path: Path) -> None:
    url = url_on(engine, tmp_path)
    said = random.Random(3)
    layout = Layout.of([(f"x.c{column}", "V") for column in range(40)])
    rows = [tuple(said.random() for _ in range(40)) for _ in range(3800)]
    async with opened(Writer(url, commit=NEVER)) as writer:
        for time, row in enumerate(rows):
            writer.take(poll(time, *row, layout=layout))
    ((size,),) = engine.ask("SELECT max(length(body)) FROM journal", database_of(tmp_path))
    assert size > 1_000_000
    found = stored(url)
    for column in range(40):
        points = found["main", f"x.c{column}", "V"]
        assert points == [(time, row[column]) for time, row in enumerate(rows)]


async def test_names_differ_by_case_accent_and_trailing_space(
    engine: Engine, tmp_path: Path
) -> None:
    url = url_on(engine, tmp_path)
    devices = ["zähler", "zahler", "Zähler", "ZÄHLER", "zähler ", "電力計", "⚡" * 190]
    units = ["mW", "MW", "Ω", "ω"]
    layout = Layout.of([("x.probe", unit) for unit in units])
    reason = "außer Betrieb 🔌\n\\' \" ; DROP TABLE x; \x01" + "é" * 150
    doubts = {0: QualityFlag(Quality.SUSPECT, reason)}
    async with opened(Writer(url, commit=NEVER)) as writer:
        for number, device in enumerate(devices):
            values = (float(number), 2.0, 3.0, 4.0)
            writer.take(poll(1000, *values, device=device, layout=layout, doubts=doubts))
            writer.remember(f"counters {device}"[:190], f'{{"device": "{device}"}}')
    found = stored(url)
    assert {(name[0], name[2]) for name in found} == {(d, u) for d in devices for u in units}
    assert all(found[d, "x.probe", "mW"] == [(1000, float(n))] for n, d in enumerate(devices))
    reasons = engine.ask("SELECT DISTINCT reason FROM newest", database_of(tmp_path))
    assert sorted(reasons, key=str) == sorted([(None,), (reason[:200],)], key=str)
    async with opened(Writer(url, commit=NEVER)) as writer:
        for device in devices:
            told = writer.recall(f"counters {device}"[:190])
            assert told == f'{{"device": "{device}"}}'


async def test_ids_have_64_bits(engine: Engine, tmp_path: Path) -> None:
    url = url_on(engine, tmp_path)
    far = 1_040_000 * 24 * HOUR  # the year 4817
    hands = Hands(far)
    async with opened(Writer(url, commit=NEVER, clock=hands)) as writer:
        for number in range(400):
            writer.take(poll(far + number * 1000, 1.0, 2.0, float(number), layout=METER))
        await writer.flush()
        hands.now = far + 60 * HOUR
        await writer.settle()
    ((largest,),) = engine.ask("SELECT max(id) FROM block", database_of(tmp_path))
    assert largest > 1 << 60
    assert all(len(points) == 400 for points in stored(url).values())


async def test_a_backlog_larger_than_a_transaction_arrives_whole(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_engine, "BATCH", 1000)
    url = url_on(engine, tmp_path)
    async with opened(Writer(url, commit=NEVER)) as writer:
        for number in range(9000):
            writer.take(poll(number, float(number), device=f"d{number % 3}"))
    found = stored(url)
    assert sum(map(len, found.values())) == 9000
    assert all(time == value for points in found.values() for time, value in points)


async def test_a_reader_sees_one_moment_and_writes_nothing(engine: Engine, tmp_path: Path) -> None:
    from sqlalchemy import insert, select

    from meterd.errors import StoreError
    from meterd.store.db.schema import memo

    url = url_on(engine, tmp_path)
    async with opened(Writer(url, commit=NEVER)) as writer:
        writer.remember("one", "1")
        await writer.flush()
        with store_url.find(url).reading() as connection:
            before = set(connection.scalars(select(memo.c.name)))
            writer.remember("two", "2")
            await writer.flush()
            assert set(connection.scalars(select(memo.c.name))) == before
        with pytest.raises(StoreError), store_url.find(url).reading() as connection:
            connection.execute(insert(memo), {"name": "x", "body": "x"})


@pytest.mark.needs("mariadbd")
async def test_questions_to_mariadb_read_no_certificates(
    maria: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a connection, and nobody is verified where the URL names no CA."""
    urls = maria.urls(database_of(tmp_path))
    async with opened(Writer(urls, commit=NEVER)) as writer:
        writer.take(poll(1, 230.0))
        await writer.flush()

        def refused(*_: object, **__: object) -> None:
            raise AssertionError("certificates are read")

        monkeypatch.setattr(ssl, "create_default_context", refused)
        for _ in range(3):
            assert stored(urls[0])["main", "voltage.l1", "V"] == [(1, 230.0)]
