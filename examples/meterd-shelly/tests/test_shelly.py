"""The driver against a Shelly on loopback, the map against a simulated one, in a running meterd."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from meterd.testing import RunningSite, simulated_meter

METER = {
    "power": 1066.0,
    "reactive": 310.5,
    "pf": 0.96,
    "voltage": 232.06,
    "is_valid": True,
    "total": 5300.2,
    "total_returned": 0.0,
}
SITE = "devices: {hall: {driver: shelly, link: 'LINK', channel: CHANNEL, interval: 100ms}}\n"

Starts = Callable[[str], AbstractAsyncContextManager[RunningSite]]


class FakeShelly:
    """What a Shelly answers to GET /status; tests change it."""

    link = ""
    status: Any = None
    code = 200

    async def answer(self, _: web.Request) -> web.Response:
        return web.json_response(self.status, status=self.code)

    def site(self, channel: int = 0) -> str:
        """A meterd.yaml that polls it."""
        return SITE.replace("LINK", self.link).replace("CHANNEL", str(channel))


@pytest.fixture
async def shelly() -> AsyncIterator[FakeShelly]:
    fake = FakeShelly()
    fake.status = {"mac": "C45BBE7928B9", "emeters": [METER, {**METER, "is_valid": False}]}
    app = web.Application()
    app.router.add_get("/status", fake.answer)
    async with TestServer(app) as server:
        fake.link = f"tcp://127.0.0.1:{server.port}"
        yield fake


async def test_it_is_polled_and_stored(shelly: FakeShelly, meterd_site: Starts) -> None:
    async with meterd_site(shelly.site()) as site:
        poll = await site.poll("hall")
        assert poll.fault is None
        assert poll.value("active_power") == 1066.0
        assert poll.value("active_energy.import") == 5300.2
        assert poll.info == {"info.serial_number": "C45BBE7928B9"}
        assert (await site.stored("hall", "voltage.l1"))[0] == 232.06
        assert list(site.events) == [], "something that it gives cannot be kept"


async def test_values_that_are_not_valid_are_none(shelly: FakeShelly, meterd_site: Starts) -> None:
    async with meterd_site(shelly.site(channel=1)) as site:
        poll = await site.poll("hall")
        assert poll.up
        assert poll.value("active_power") is None


@pytest.mark.parametrize(
    ("status", "http", "code"),
    [
        ({"emeters": [METER]}, 200, "no_channel"),
        ({"relays": []}, 200, "no_emeters"),
        ("", 503, "http_status"),
    ],
)
async def test_what_it_cannot_answer_is_a_fault_with_a_code(
    shelly: FakeShelly, meterd_site: Starts, status: Any, http: int, code: str
) -> None:
    shelly.status, shelly.code = status, http
    async with meterd_site(shelly.site(channel=1)) as site:
        fault = (await site.poll("hall")).fault
        assert fault is not None
        assert fault.code == code


async def test_one_that_is_switched_off_is_a_dead_link(meterd_site: Starts) -> None:
    text = SITE.replace("LINK", "tcp://127.0.0.1:1").replace("CHANNEL", "0")
    async with meterd_site(text) as site:
        fault = (await site.poll("hall")).fault
        assert fault is not None
        assert fault.code == "unreachable"


async def test_the_map_is_polled_by_its_name(meterd_site: Starts) -> None:
    async with simulated_meter("shelly_pro-3em") as url:
        text = f"devices: {{house: {{driver: modbus, map: shelly_pro-3em, link: '{url}'}}}}\n"
        async with meterd_site(text) as site:
            poll = await site.poll("house")
            assert poll.fault is None
            assert 200 < (poll.value("voltage.l3") or 0) < 260
            assert poll.value("active_energy.import") is not None
