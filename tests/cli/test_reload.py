"""A reload as a whole: it prepares everything and commits, or leaves all as it was."""

import asyncio
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from meterd.alerts.hooks.webhook import Webhook
from meterd.api import acceptor, app
from meterd.cli import servers as doors_module
from meterd.cli.demo import settings
from meterd.cli.servers import Servers
from meterd.config.settings import Settings
from meterd.daemon import alerting, link_manager
from meterd.daemon.site import Site
from meterd.errors import ConfigError, MeterdError, StoreCode, StoreError
from meterd.model.clock import SystemClock
from meterd.model.sample import Poll
from meterd.proxy.server import Proxy
from meterd.sim.modbus import ModbusServer
from meterd.sim.serve import meter_bank
from meterd.store.db import store_url
from meterd.store.db.lockfile import holder_of
from meterd.store.engine.storage_engine import StorageEngine
from meterd.store.reader import Reader
from meterd.store.writer import Writer
from tests.ports import free_port

_BEFORE = """\
store: {{url: 'sqlite:///{folder}/one.db', commit: 60s}}
api: {{listen: '127.0.0.1:0'}}
proxy: {{listen: '127.0.0.1:{one}', devices: {{1: a}}}}
devices:
  a: {{driver: modbus, map: eastron_sdm120, link: '{a}', unit: 1, interval: 100ms, slow: 100ms}}
alerts:
  rules: {{low: {{quantity: voltage.l1, below: 1000, notify: [ops]}}}}
  hooks: {{ops: {{type: webhook, url: 'http://127.0.0.1:9/one'}}}}
"""
# All of it is another one.
_AFTER = """\
store: {{url: 'sqlite:///{folder}/two.db', commit: 60s}}
api: {{listen: '127.0.0.1:{two}'}}
proxy: {{listen: '127.0.0.1:{three}', devices: {{1: b}}}}
devices:
  b: {{driver: modbus, map: eastron_sdm120, link: '{b}', unit: 1, interval: 100ms, slow: 100ms}}
alerts:
  rules: {{high: {{quantity: voltage.l1, above: 1, notify: [ops, more]}}}}
  hooks:
    ops: {{type: webhook, url: 'http://127.0.0.1:9/two'}}
    more: {{type: webhook, url: 'http://127.0.0.1:9/three'}}
"""


class Running:
    """A site with its doors, as `meterd run` has it, and two meters."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meters = {name: ModbusServer({1: meter_bank("eastron_sdm120")}) for name in "ab"}
        self.site = Site(SystemClock())
        self.doors = Servers(self.site)
        self.site.join(self.doors)
        self.ports: dict[str, int] = {}

    async def start(self) -> None:
        for meter in self.meters.values():
            await meter.start_tcp()
        self.ports = {name: free_port() for name in ("one", "two", "three")}
        await self.site.apply(self.settings(_BEFORE))

    def settings(self, text: str) -> Settings:
        urls = {name: meter.url for name, meter in self.meters.items()}
        return settings(text.format(folder=self.folder, **urls, **self.ports))

    async def until_polled(self, name: str, more: int = 2) -> None:
        wanted = self.site.latest.states[name].polls + more
        async with asyncio.timeout(60):
            while self.site.latest.states[name].polls < wanted:
                await asyncio.sleep(0.01)

    async def status(self) -> int:
        async with ClientSession() as client, client.get(f"{self.doors.url}/api/v1/range") as reply:
            await reply.read()
            return reply.status

    async def is_complete(self, name: str) -> bool:
        """Whether every poll that was taken is read back."""
        polls = self.site.latest.states[name].polls
        points = await self.site.reader.range([name], ["device.up"], 0, 2**50, 0, "avg")
        return sum(len(one.points) for one in points) >= polls

    async def close(self) -> None:
        await self.site.close()
        for meter in self.meters.values():
            await meter.stop()


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    # The hooks lead nowhere.
    monkeypatch.setattr(alerting, "_HOOK_GRACE", 0.0)
    found = Running(tmp_path)
    try:
        await found.start()
        yield found
    finally:
        await found.close()


async def through_proxy(port: int) -> int:
    """How many bytes of data the proxy's meter gives for one value; 0 for a refusal."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(struct.pack(">HHHBBHH", 7, 0, 6, 1, 4, 0, 2))
    head = await reader.readexactly(9)
    writer.close()
    return head[8] if head[7] == 4 else 0


def fail(error: Exception, calls: int = 1) -> Callable[..., Any]:
    """Something that fails the n-th time it is called, and does nothing before."""
    count = 0

    def failing(*_: Any, **__: Any) -> Any:
        nonlocal count
        count += 1
        if count >= calls:
            raise error
        return []

    return failing


def failing_later(original: Callable[..., Awaitable[Any]], error: Exception, calls: int) -> Any:
    """The real thing, which fails the n-th time it is called."""
    count = 0

    async def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count >= calls:
            raise error
        return await original(*args, **kwargs)

    return called


async def _no(*_: Any, **__: Any) -> None:
    raise RuntimeError("a bug")


TAKEN = OSError(98, "Address already in use")
STEPS: dict[str, tuple[Any, str, Any]] = {
    "a link": (link_manager, "build", fail(ConfigError("no such map"))),
    "a foreign driver": (link_manager, "guards", fail(RuntimeError("a bug"))),
    "the rules": (alerting, "rules", fail(ConfigError("no such state"))),
    "a hook": (Webhook, "start", failing_later(Webhook.start, OSError("no"), 2)),
    "the store": (
        Writer,
        "open",
        failing_later(Writer.open, StoreError("away", code=StoreCode.UNAVAILABLE), 1),
    ),
    "a bug in the store": (Writer, "open", _no),
    "the login": (doors_module, "check_login", fail(ConfigError("nobody"))),
    "the certificate": (doors_module, "_serving_rules", fail(ConfigError("no certificate"))),
    "the server": (app, "assemble", _no),
    "its address": (acceptor, "bind", failing_later(acceptor.bind, TAKEN, 1)),
    "the proxy's address": (acceptor, "bind", failing_later(acceptor.bind, TAKEN, 2)),
    "the proxy": (Proxy, "prepare", _no),
}


@pytest.mark.parametrize("step", STEPS)
async def test_where_a_step_of_preparing_fails_all_is_as_before(
    running: Running, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    site = running.site
    await running.until_polled("a")
    url, reader, before = running.doors.url, site.reader, asyncio.all_tasks()
    hooks = [task.get_name() for task in before if task.get_name().startswith("hook")]
    with monkeypatch.context() as patch:
        patch.setattr(*STEPS[step])
        with pytest.raises((MeterdError, OSError, RuntimeError)):
            await site.apply(running.settings(_AFTER))
    assert (running.doors.url, site.reader, list(site.latest.states)) == (url, reader, ["a"])
    assert site.alerting.rule_names.count("low") == 1
    assert site.settings.store.url.endswith("one.db")  # type: ignore[union-attr]
    await running.until_polled("a")
    assert await running.is_complete("a")
    assert await running.status() == 200
    assert await through_proxy(running.ports["one"]) == 4
    # Nothing of what was prepared is left: no task, no lock, no address.
    left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("hook")]
    assert sorted(left) == sorted(hooks)
    assert holder_of(running.folder / "two.db") is None
    for name in ("two", "three"):
        for each in await acceptor.bind("127.0.0.1", running.ports[name]):
            each.close()
    # And the same settings work once nothing is in their way.
    await site.apply(running.settings(_AFTER))
    await running.until_polled("b")
    assert await running.is_complete("b")
    assert (await running.status(), await through_proxy(running.ports["three"])) == (200, 4)
    assert holder_of(running.folder / "one.db") is None


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 13, 34, 55, 89, 144])
async def test_a_reload_that_is_called_off_is_done_whole_or_not_at_all(
    running: Running, turns: int
) -> None:
    site = running.site
    await running.until_polled("a")
    task = asyncio.create_task(site.apply(running.settings(_AFTER)))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (device,) = site.latest.states
    is_new = device == "b"
    assert str(site.settings.store.url).endswith("two.db" if is_new else "one.db")
    assert (f":{running.ports['two']}" in running.doors.url) is is_new
    await running.until_polled(device)
    assert await running.is_complete(device)
    assert await running.status() == 200
    assert await through_proxy(running.ports["three" if is_new else "one"]) == 4
    free = running.folder / ("one.db" if is_new else "two.db")
    assert holder_of(free) is None


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 13, 34, 55, 89])
async def test_a_start_that_is_called_off_leaves_nothing(running: Running, turns: int) -> None:
    site = Site(SystemClock())
    doors = Servers(site)
    site.join(doors)
    others = asyncio.all_tasks()
    task = asyncio.create_task(site.apply(running.settings(_AFTER)))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await site.close()
    assert holder_of(running.folder / "two.db") is None
    for name in ("two", "three"):
        for each in await acceptor.bind("127.0.0.1", running.ports[name]):
            each.close()
    left = [one for one in asyncio.all_tasks() - others if not one.done()]
    assert [one.get_name() for one in left if one.get_name().startswith(("hook", "bus"))] == []


async def test_the_lock_of_a_store_is_never_free_while_its_settings_change(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    original = store_url.find("sqlite:////x.db").lock.__func__  # type: ignore[attr-defined]

    def locked(self: object, claim: object = None) -> object:
        opened.append(self)
        return original(self, claim)

    monkeypatch.setattr("meterd.store.db.sqlite.SqliteDatabase.lock", locked)
    site = running.site
    reader = site.reader
    text = _BEFORE
    for old, new in (
        ("commit: 60s", "commit: 2s"),
        ("commit: 2s", "commit: 2s, journal: file"),
        ("commit: 2s, journal: file", "commit: 2s, keep: {{raw: 400d}}, rows: 1h"),
        ("sqlite:///{folder}/one.db", "sqlite:///{folder}/../{folder.name}/one.db"),
    ):
        text = text.replace(old, new)
        await site.apply(running.settings(text))
        assert site.reader is reader
        await running.until_polled("a")
        assert await running.is_complete("a")
    assert opened == []


async def test_what_a_reload_leaves_on_a_bus_keeps_connection_and_driver(running: Running) -> None:
    site = running.site
    await running.until_polled("a")
    ((meter, link, _),) = (site.modbus("a") or (),)  # type: ignore[misc]
    line = "\n  a: "
    second = _BEFORE.replace(
        line,
        "\n  c: {{driver: modbus, map: eastron_sdm120, link: '{a}', "
        "unit: 1, interval: 100ms, timeout: 2s}}" + line,
    )
    await site.apply(running.settings(second))
    await running.until_polled("a")
    await running.until_polled("c")
    found = site.modbus("a")
    assert found is not None
    assert found[0] is meter
    assert found[1] is link
    assert link.timeout == 2.0
    assert link.counters["opened"] == 1
    assert await through_proxy(running.ports["one"]) == 4


async def test_doors_trade_their_addresses(running: Running) -> None:
    """Each takes over the socket of the other, which is never free for a third."""
    fixed = _BEFORE.replace("127.0.0.1:0", "127.0.0.1:{two}")
    await running.site.apply(running.settings(fixed))
    traded = fixed.replace("{two}", "{x}").replace("{one}", "{two}").replace("{x}", "{one}")
    await running.site.apply(running.settings(traded))
    assert running.doors.url.endswith(str(running.ports["one"]))
    assert (await running.status(), await through_proxy(running.ports["two"])) == (200, 4)


async def test_the_same_port_on_all_addresses_and_on_one(running: Running) -> None:
    await running.site.apply(running.settings(_BEFORE.replace("127.0.0.1:0", "127.0.0.1:{two}")))
    everywhere = _BEFORE.replace("'127.0.0.1:0'", "'0.0.0.0:{two}', insecure: true")
    await running.site.apply(running.settings(everywhere))
    async with ClientSession() as client:
        url = f"http://127.0.0.1:{running.ports['two']}/healthz"
        async with client.get(url) as reply:
            assert reply.status == 200
    with pytest.raises(OSError, match="in use"):
        await acceptor.bind("127.0.0.1", running.ports["two"])
    await running.site.apply(running.settings(_BEFORE.replace("127.0.0.1:0", "127.0.0.1:{two}")))
    assert await running.status() == 200


async def test_a_hook_that_did_not_change_goes_on_with_what_waits(running: Running) -> None:
    site = running.site
    await running.until_polled("a")
    owed = site.alerting.undelivered_count
    assert owed
    names = {task.get_name(): task for task in asyncio.all_tasks()}
    await site.apply(running.settings(_BEFORE.replace("below: 1000", "below: 1001")))
    assert {task.get_name(): task for task in asyncio.all_tasks()}["hook ops"] is names["hook ops"]
    assert site.alerting.undelivered_count >= owed


async def test_a_question_to_a_store_that_is_no_more_in_use_is_told_to_come_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = running.site
    old = site.reader
    await site.apply(running.settings(_BEFORE.replace("one.db", "two.db")))
    with pytest.raises(StoreError, match="ask again"):
        await old.series()
    # Who has taken the reader before the reload, and asks after it.
    monkeypatch.setattr(Site, "reader", property(lambda _: old))
    async with ClientSession() as client, client.get(f"{running.doors.url}/api/v1/series") as reply:
        assert (reply.status, reply.headers["Retry-After"]) == (503, "5")


async def test_a_question_under_way_when_the_store_changes_is_answered(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    site, begun, go_on = running.site, threading.Event(), threading.Event()
    await running.until_polled("a")
    original = Reader.names

    def slow(self: Reader) -> Any:
        begun.set()
        go_on.wait(60)
        return original(self)

    monkeypatch.setattr(Reader, "names", slow)
    asked = [asyncio.create_task(site.reader.series()) for _ in range(5)]
    await asyncio.to_thread(begun.wait, 60)
    await site.apply(running.settings(_BEFORE.replace("one.db", "two.db")))
    go_on.set()
    for series in await asyncio.gather(*asked):
        assert "device.up" in {one.quantity for one in series}


async def test_a_reload_while_the_disk_of_the_store_is_away_loses_no_poll(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from meterd.store.compaction.session import StoreSession

    site = running.site
    await running.until_polled("a")

    def away(*_: object, **__: object) -> None:
        raise StoreError("the disk is away", code=StoreCode.UNAVAILABLE)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(StoreSession, "commit", away)
        with pytest.raises(StoreError):
            await site._open_store.writer.flush()
        for commit in ("5s", "6s", "7s"):
            text = _BEFORE.replace("commit: 60s", f"commit: {commit}, journal: file")
            await site.apply(running.settings(text))
            await running.until_polled("a")
        assert await running.is_complete("a")
        assert not site.store_status().writable
    await site._open_store.writer.flush()
    assert site.store_status().writable
    assert site.store_status().dropped == 0
    assert await running.is_complete("a")


async def test_what_a_store_that_is_away_could_not_take_goes_to_the_one_in_its_place(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """People name another disk because this one is gone."""
    site, taken = running.site, []

    class Taken:
        def take(self, poll: Poll) -> None:
            taken.append(poll.time)

    original = StorageEngine.commit

    def away(self: StorageEngine, memos: dict[str, str]) -> object:
        if str(self._database.path).endswith("one.db"):
            raise StoreError("the disk is away", code=StoreCode.UNAVAILABLE)
        return original(self, memos)

    await running.until_polled("a")
    await site._open_store.writer.flush()
    monkeypatch.setattr(StorageEngine, "commit", away)
    site.subscribe(Taken())
    await running.until_polled("a", 5)
    await site.apply(running.settings(_BEFORE.replace("one.db", "two.db")))
    await running.until_polled("a")
    wanted = set(taken)
    found = await site.reader.range(["a"], ["device.up"], 0, 2**50, 0, "avg")
    assert wanted <= {time for one in found for time, _ in one.points}
    assert "go to the store that takes its place" in caplog.text
    assert "are lost" not in caplog.text
    await site._open_store.writer.flush()
