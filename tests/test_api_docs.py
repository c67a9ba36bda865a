"""docs/api.md: its commands do what it says, in its order; its recipe for Grafana fits."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

import meterd
from meterd.api.app import Running
from meterd.model.event import EventKind
from meterd.model.sample import Layout, Poll
from tests.api.conftest import FixedClock
from tests.api.contract import filled
from tests.api.fake import NOW, FakeDevice
from tests.api.locked import locked, token
from tests.api.stored import stored_site
from tests.cli.command import run

COUNTER = Layout.of([("active_energy.import", "Wh"), ("guarded.active_energy.import", "Wh")])
PAGE = (Path(meterd.__file__).parent.parent / "docs" / "api.md").read_text("utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """Without a login on loopback, but with a token for those who need one."""
    async with stored_site(tmp_path / "store.db") as site:
        filled(site)
        assert site.writer is not None
        for hours in (3, 1):
            site.writer.take(Poll("main", NOW - hours * 3_600_000, COUNTER, (1000.0, 1000.0)))
        ups = FakeDevice("rack-ups", commands=("test.battery.start.quick",))
        site.known = [*site.known[:-1], ups]
        async with locked(
            login_always=False, site=site, folder=tmp_path, clock=FixedClock()
        ) as server:
            yield server


async def _id(running: Running, path: str) -> str:
    async with ClientSession(running.url) as client, client.get(f"/api/v1/{path}") as reply:
        found = (await reply.json())[path]
    return str(found[0]["id"]) if found else ""


@pytest.mark.needs("curl")
async def test_every_command_of_the_page_does_what_it_says(
    running: Running, tmp_path: Path
) -> None:
    key = token(tmp_path, "page", "read", "command").removeprefix("Bearer ")
    assert len(COMMANDS) > 15
    for line in COMMANDS:
        names = {"TOKEN": key, "no_proxy": "*"}
        names["ALERT"] = await _id(running, "alerts")
        names["SILENCE"] = await _id(running, "silences")
        asked = line.replace("localhost:8420", f"localhost:{running.port}")
        asked = asked.replace("curl ", "curl --fail-with-body --silent --show-error ", 1)
        ended = await run("sh", "-c", asked, env=names)
        if "/stream" in line:
            assert ended.out.startswith("id: "), ended.out
            assert "event: state" in ended.out
            continue
        assert ended.code == 0, f"{line}: {ended.out} {ended.err}"
        if "format=csv" in line:
            assert ended.out.startswith("time,")
        else:
            _judge(line, json.loads(ended.out))


def _judge(line: str, answer: object) -> None:
    """What comes back holds what the line is about."""
    if "/range" in line:
        points = answer if isinstance(answer, list) else answer["series"]  # type: ignore[index]
        assert points, line
    if "max_points" in line:
        assert "max_points" in str(answer)


@pytest.mark.needs("curl")
def test_no_command_of_the_page_needs_more_than_curl() -> None:
    assert [line for line in COMMANDS if not line.startswith("curl ")] == []


async def test_the_recipe_for_infinity_gives_its_columns(running: Running) -> None:
    (url,) = re.findall(r"```text\n(.*?)\n```", PAGE)
    filled_in = url.replace("http://localhost:8420", running.url)
    for name, value in (("from", NOW - 3_600_000), ("to", NOW), ("maxDataPoints", 100)):
        filled_in = filled_in.replace(f"${{__{name}}}", str(value))
    async with ClientSession() as client, client.get(filled_in) as reply:
        rows = await reply.json()
    assert 10 < len(rows) <= 100
    told = PAGE.partition(url)[2]
    for column, kind in (("time", int), ("value", float), ("device", str), ("quantity", str)):
        assert f"`{column}`" in told
        assert all(isinstance(row[column], kind) for row in rows)


def test_every_route_of_the_api_is_on_the_page() -> None:
    from meterd.api.routes import ROUTES

    told = PAGE.replace("$ALERT", "{id}").replace("$SILENCE", "{id}")
    told = re.sub("devices/(main|solar|rack-ups)", "devices/{id}", told)
    missing = [r.path for r in ROUTES if r.path.startswith("/api/") and r.path not in told]
    # Corrections have a page of their own; the site is what the live page asks for its title.
    assert [one for one in missing if "corrections" not in one] == ["/api/v1/site"]


def test_every_kind_of_event_is_told() -> None:
    for kind in EventKind:
        assert f"`{kind}`" in PAGE, kind
