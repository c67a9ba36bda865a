"""What meterd.testing gives to plug-ins' tests: a site, a scripted device, and both together."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from meterd.errors import ConfigError, LinkError
from meterd.model.event import EventKind
from meterd.testing import Reply, RunningSite, Script, running_site, scripted_server

SITE = """\
devices:
  ups: {{driver: megatec, link: "{url}", interval: 100ms, ratings: false, vendor: false,
         commands: [beeper.toggle]}}
"""
STATUS = b"(226.0 195.0 226.0 014 49.0 27.5 30.0 0000100%d\r"

Starts = Callable[[str], AbstractAsyncContextManager[RunningSite]]


async def test_a_site_polls_stores_and_commands_a_scripted_device(meterd_site: Starts) -> None:
    script: Script = {b"Q1\r": [STATUS % 0, STATUS % 0, STATUS % 1], b"Q\r": b"Q\r"}
    async with scripted_server(script) as url, meterd_site(SITE.format(url=url)) as site:
        first = await site.poll("ups")
        assert first.up
        assert first.value("input.voltage") == 226.0
        await site.command("ups", "beeper.toggle")
        second = await site.poll("ups")
        assert second.time > first.time
        assert (await site.stored("ups", "input.voltage"))[:2] == [226.0, 226.0]
        with pytest.raises(LookupError):
            await site.command("ups", "no.such")


async def test_a_site_tells_what_happened(meterd_site: Starts) -> None:
    replies: list[Reply] = [STATUS % 0, LinkError("gone")]
    script: Script = {b"Q1\r": replies}
    async with scripted_server(script) as url, meterd_site(SITE.format(url=url)) as site:
        assert (await site.poll("ups")).up
        while (await site.poll("ups")).up:
            pass
        assert site.events[-1].kind is EventKind.DEVICE_DOWN


async def test_who_waits_for_a_device_that_is_not_there_is_told_who_is(
    meterd_site: Starts,
) -> None:
    async with scripted_server({}) as url, meterd_site(SITE.format(url=url)) as site:
        with pytest.raises(AssertionError, match=r"usp was not polled.*devices: ups"):
            await site.poll("usp", patience=0.0)


async def test_a_mistake_in_the_configuration_is_told_as_check_does(tmp_path: Path) -> None:
    text = SITE.format(url="tcp://127.0.0.1:1").replace("ratings", "rating")
    with pytest.raises(ConfigError, match=r"meterd\.yaml:2:.*did you mean ratings"):
        async with running_site(text, tmp_path):
            pass


async def test_a_scripted_server_answers_pieces_of_requests_and_several_at_once() -> None:
    replies: list[Reply] = [b"1", [b"2", b"3"]]
    script: Script = {b"A\n": replies, b"AB\n": b"ab"}
    async with scripted_server(script) as url:
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"A")
        await writer.drain()
        writer.write(b"\nA\nAB\n")
        assert await reader.readexactly(5) == b"123ab"
        writer.close()


def test_pytest_has_the_fixture_and_imports_nothing_heavy_for_it() -> None:
    """pytest loads the plug-in in every run of everybody who has meterd installed."""
    code = "import sys, meterd.testing.pytest_plugin; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"pydantic", "sqlalchemy", "aiohttp", "pymodbus", "numpy", "ruamel.yaml"}
    assert heavy.isdisjoint(done.stdout.split())


def test_a_running_meterd_never_imports_pytest() -> None:
    code = "import sys, meterd.cli.run, meterd.daemon.site; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
