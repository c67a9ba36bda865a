"""Whatever is sent, the answer is one of Prometheus', and never an error of meterd's own."""

import random
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession

from tests.api.fake import FakeSite
from tests.api.promhistory import served, stored

QUERIES = (
    'sum by (device) (rate(meterd_active_energy_import_watthours_total{phase=~"l.*"}[5m]))',
    "meterd_active_power_watts * on (device) group_left (model) meterd_device_info",
    "max_over_time((meterd_active_power_watts > 100)[10m:1m] offset 5m)",
    'label_replace(meterd_device_up, "room", "$1", "device", "(.*)") @ 1760000000',
)
PIECES = (
    *"()[]{}:@,\"'`=~!<>+-*/%^ 0123456789.ex_\\\n\x00é",
    *("offset ", "[5m]", "[5m:1m]", " by (", "on ()", "bool ", "@ end()", "NaN", "1e99", "sum("),
    *("9" * 40, "(" * 200, "-" * 600, '"\\xff"', "(a+)+b", "{__name__=~", "start()"),
)
PATHS = ("query", "query_range", "series", "labels", "format_query", "query_exemplars")


@pytest.fixture
async def client(site: FakeSite) -> AsyncIterator[ClientSession]:
    async with served(site, stored()) as url, ClientSession(url) as session:
        yield session


def spoilt(dice: random.Random) -> str:
    text = dice.choice(QUERIES)
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(len(text) + 1)
        cut = place + dice.choice((0, 0, 1, 5))
        text = text[:place] + dice.choice(("", *PIECES)) + text[cut:]
    return text


async def test_spoilt_questions_get_prometheus_answers(client: ClientSession) -> None:
    dice = random.Random(5)
    seen: set[int] = set()
    for _ in range(600):
        text = spoilt(dice)
        form = {"query": text, "match[]": text, "limit": dice.choice(("", "5", "-"))}
        form |= {"time": dice.choice(("", "1795255200", "1e300", "-5", "x"))}
        form |= {"start": "1795254000", "end": "1795255200", "step": dice.choice(("60", "1e-9"))}
        path = dice.choice(PATHS)
        async with client.post(path, data=form) as reply:
            assert reply.status in (200, 400, 422), (path, form)
            assert (await reply.json())["status"] in ("success", "error")
            seen.add(reply.status)
    assert {200, 400} <= seen


@pytest.mark.parametrize(
    "url",
    [
        "query?query=%00",
        "query?query=%ff%fe",
        "query?query=%ED%A0%80",
        "query?query=x&time=%00",
        "query?query=" + "(" * 4000,
        "label/%00/values",
        "label/%2e%2e/values",
        "label/U__/values",
        "label/U___d800_/values",
        "label/U___ffffff_/values",
        "series?match[]=" + "%7B" * 500,
        "series?" + "&".join(["match[]=x"] * 101),
        "labels?" + "&".join(["match[]=x"] * 400),
    ],
)
async def test_odd_urls_are_bad_data(client: ClientSession, url: str) -> None:
    from yarl import URL

    async with client.get(URL(url, encoded=True)) as reply:
        assert reply.status == 400
        assert (await reply.json())["errorType"] == "bad_data"
