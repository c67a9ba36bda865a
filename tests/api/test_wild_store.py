"""A store of before ±1e300 was the limit: what infinities it holds come out of no door."""

import csv
import io
import json
import math
import re
import sqlite3
from array import array
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import ClientSession

from meterd.daemon.energy_queries import EnergyQueries
from meterd.energy.quarter import QuarterSeries
from meterd.store.blocks import block, commit_record, rollup, rollup_codec
from meterd.store.blocks.chunk import Chunk
from meterd.store.db import store_url
from meterd.store.reader import Reader
from meterd.store.tools.correct import Corrections
from meterd.store.writer import Writer
from tests.api.conftest import FixedClock, served
from tests.api.stored import StoredSite
from tests.cli.stores import MINUTE, Site

WILD = (math.inf, -math.inf, math.nan, 2e300)
RESOLUTIONS = ("raw", "15m", "1h", "1d")
# Of the first day, of the days since, and of the journal: every hundredth sample.
EVERY = 100


def wild_span(found: Chunk) -> Chunk:
    columns = []
    for column in found.columns:
        values = array("d", column.values)
        for place in range(0, len(values), EVERY):
            values[place] = WILD[place // EVERY % len(WILD)]
        columns.append(column._replace(values=values))
    return Chunk(found.device, found.times, tuple(columns))


def make_wild(path: Path, version: str | None) -> None:
    """As an earlier meterd wrote what was imported or polled then."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for key, body in connection.execute("SELECT id, body FROM block").fetchall():
            new = block.encode(wild_span(block.decode(body)))
            connection.execute("UPDATE block SET body = ? WHERE id = ?", (new, key))
        for key, body in connection.execute("SELECT id, body FROM journal").fetchall():
            spans = [wild_span(span) for span in commit_record.decode(body)]
            new = commit_record.encode(spans, {})
            connection.execute("UPDATE journal SET body = ? WHERE id = ?", (new, key))
        for key, body in connection.execute("SELECT id, quarters FROM rollup").fetchall():
            day, quarters = rollup_codec.unpack(body)
            for number, one in list(quarters.items())[::3]:
                quarters[number] = rollup.QuarterRollup(
                    one.n, one.min, math.inf, math.inf, one.increase
                )
            new = rollup_codec.pack(day, quarters)
            connection.execute(
                "UPDATE rollup SET max = 9e999, sum = 9e999, quarters = ? WHERE id = ?", (new, key)
            )
        connection.execute("UPDATE hour SET max = 9e999, sum = -9e999, min = -9e999")
        connection.execute("UPDATE newest SET value = 9e999")
        if version is not None:
            for name in ("value", "lost"):
                connection.execute(f"ALTER TABLE correction DROP COLUMN {name}")
            connection.execute("UPDATE alembic_version SET version_num = ?", (version,))


FILLED: dict[str, tuple[int, bytes]] = {}


@pytest.fixture(params=["0005", "now"])
def wild(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Site:
    """By the schema that it has: three days of one device, made once."""
    site = Site(tmp_path, capsys)
    if request.param not in FILLED:
        site.fill()
        make_wild(site.path, None if request.param == "now" else request.param)
        FILLED[request.param] = site.start, site.path.read_bytes()
    site.start = FILLED[request.param][0]
    site.path.write_bytes(FILLED[request.param][1])
    return site


@pytest.fixture
def current(wild: Site) -> Site:
    """Commands that only read leave an older schema as it is, and say so."""
    done = wild("db", "migrate")
    assert done.code == 0, done.err
    return wild


def strict(text: str) -> object:
    """JSON as others read it, which know no NaN and no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads(text, parse_constant=refuse)


def need_sound(value: object) -> None:
    if isinstance(value, dict):
        for one in value.values():
            need_sound(one)
    elif isinstance(value, list):
        for one in value:
            need_sound(one)
    elif isinstance(value, int | float):
        assert math.isfinite(value)
        assert abs(value) <= 1e300


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_exports_without_a_daemon(current: Site, resolution: str) -> None:
    lines = current("export", "--format", "ndjson", "--resolution", resolution)
    assert lines.code == 0, lines.err
    found = [strict(line) for line in lines.out.splitlines()]
    need_sound(found)
    assert len(found) > 8
    rows = list(csv.DictReader(io.StringIO(current("export", "--resolution", resolution).out)))
    assert len(rows) == len(found)
    for row in rows:
        for name, cell in row.items():
            assert not re.search(r"(?i)^[-+]?(inf|nan|\d+(\.\d+)?e\+?3\d\d)", cell), (name, cell)
    if resolution == "raw":
        empty = [row for row in rows if not row["value"]]
        assert len(empty) >= len(rows) // EVERY
        assert {row["quality"] for row in empty} == {"invalid"}
        assert {row["reason"] for row in empty} <= {"no number that can be measured", ""}
    told = current("export", "--format", "openmetrics", "--resolution", resolution)
    values = [line.rsplit(" ", 2)[1] for line in told.out.splitlines() if line[0] != "#"]
    assert values
    need_sound([float(value) for value in values])


def test_energy_without_a_daemon(current: Site) -> None:
    done = current("energy", "main", "--start", "now-3d", "--period", "hour", "--format", "json")
    assert done.code == 0, done.err
    need_sound(strict(done.out))


class WildSite(StoredSite):
    async def quarters(self, device: str, quantity: str, start: int, end: int) -> QuarterSeries:
        source = EnergyQueries(lambda: self.reader, lambda _: 60.0)
        return await source.quarters(device, quantity, start, end)


@pytest.fixture(params=["asked at once", "settled"])
async def client(wild: Site, request: pytest.FixtureRequest) -> AsyncIterator[ClientSession]:
    """As the daemon serves it, before and after it has made its days anew."""
    url = f"sqlite:///{wild.path}"
    writer = Writer(url, commit=1e9)
    await writer.open()
    reader = Reader(url, writer.memory)
    if request.param == "settled":
        await writer.settle()
    site = WildSite(corrections=Corrections(writer, reader), writer=writer, url=url)
    site.reader = reader  # type: ignore[assignment]
    now = wild.start + 3 * 1440 * MINUTE
    async with (
        served(site, clock=FixedClock(now)) as running,
        ClientSession(running.url) as session,
    ):
        yield session
    await writer.close()
    reader.close()
    assert store_url.find(url).made()


async def ask(client: ClientSession, path: str, **query: str) -> str:
    async with client.get(path, params=query) as answer:
        text = await answer.text()
        assert answer.status == 200, text
        return text


async def test_every_door_of_the_api(client: ClientSession) -> None:
    window = {"start": "now-3d", "end": "now"}
    energy = {"device": "main", **window}
    for line in (await ask(client, "/api/v1/export", format="ndjson", **window)).splitlines():
        need_sound(strict(line))
    cells = await ask(client, "/api/v1/export", **window)
    assert not re.search(r"(?i),[-+]?(inf|nan)\b", cells)
    for step in ("0", "5m", "15m", "1h", "1d"):
        for agg in ("avg", "min", "max", "sum", "last", "count"):
            more = {"step": step, "agg": agg} if step != "0" else {}
            told = strict(
                await ask(client, "/api/v1/range", quantity="active_power", **more, **window)
            )
            need_sound(told)
            assert isinstance(told, dict)
            assert told["series"]
    for period in ("hour", "day", "month"):
        need_sound(strict(await ask(client, "/api/v1/energy", period=period, **energy)))
    for path in ("latest?device=main", "series", "devices"):
        need_sound(strict(await ask(client, f"/api/v1/{path}")))


QUERIES = (
    "meterd_active_power_watts",
    "max_over_time(meterd_active_power_watts[1h])",
    "sum_over_time(meterd_active_power_watts[1d])",
    "avg(meterd_active_power_watts)",
    "stddev_over_time(meterd_active_power_watts[1h])",
    "increase(meterd_active_energy_import_watthours[1h])",
    "rate(meterd_guarded_active_energy_import_watthours[2h])",
    '{device="main"}',
)


async def test_promql_and_metrics_have_no_infinity(wild: Site, client: ClientSession) -> None:
    start, end = (str(wild.start // 1000 + days * 86_400) for days in (0, 3))
    for query in QUERIES:
        for path, more in (
            ("query", {}),
            ("query_range", {"start": start, "end": end, "step": "1800"}),
        ):
            text = await ask(client, f"/prometheus/api/v1/{path}", query=query, **more)
            assert not re.search(r'"[-+]?(Inf|NaN)"|e\+30\d', text), (query, path)
    for line in (await ask(client, "/metrics")).splitlines():
        value = line.rpartition(" ")[2]
        assert line.startswith("#") or value not in ("+Inf", "-Inf", "NaN", "inf", "nan"), line
