"""The driver against a Shelly on loopback, the map against a simulated one, in a running meterd."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from meterd.testing import RunningSite, http_server, simulated_meter

METER = {
    "power": 1066.0,
    "reactive": 310.5,
    "pf": 0.96,
    "voltage": 232.06,
    "is_valid": True,
    "total": 5300.2,
    "total_returned": 0.0,
}
STATUS = {"mac": "C45BBE7928B9", "emeters": [METER, {**METER, "is_valid": False}]}
SITE = "devices: {hall: {driver: shelly, link: 'LINK', channel: CHANNEL, interval: 100ms}}\n"

Starts = Callable[[str], AbstractAsyncContextManager[RunningSite]]


def site_text(link: str, channel: int = 0) -> str:
    """A meterd.yaml that polls it."""
    return SITE.replace("LINK", link).replace("CHANNEL", str(channel))


@pytest.fixture
async def shelly() -> AsyncIterator[str]:
    async with http_server({"/status": STATUS}) as url:
        yield url


async def test_it_is_polled_and_stored(shelly: str, meterd_site: Starts) -> None:
    async with meterd_site(site_text(shelly)) as site:
        poll = await site.poll("hall")
        assert poll.fault is None
        assert poll.value("active_power") == 1066.0
        assert poll.value("active_energy.import") == 5300.2
        assert poll.info == {"info.serial_number": "C45BBE7928B9"}
        assert (await site.stored("hall", "voltage.l1"))[0] == 232.06
        assert list(site.events) == [], "something that it gives cannot be kept"


async def test_values_that_are_not_valid_are_none(shelly: str, meterd_site: Starts) -> None:
    async with meterd_site(site_text(shelly, channel=1)) as site:
        poll = await site.poll("hall")
        assert poll.up
        assert poll.value("active_power") is None


@pytest.mark.parametrize(
    ("status", "code"),
    [({"emeters": [METER]}, "no_channel"), ({"relays": []}, "no_emeters"), (503, "http_status")],
)
async def test_what_it_cannot_answer_is_a_fault_with_a_code(
    meterd_site: Starts, status: Any, code: str
) -> None:
    async with http_server({"/status": status}) as url, meterd_site(site_text(url, 1)) as site:
        fault = (await site.poll("hall")).fault
        assert fault is not None
        assert fault.code == code


async def test_one_that_is_switched_off_is_a_dead_link(meterd_site: Starts) -> None:
    async with meterd_site(site_text("tcp://127.0.0.1:1")) as site:
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
