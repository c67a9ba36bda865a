"""Grafana's side of the wire: its questions to a data source, and every panel of every board."""

import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.dashboards import BOARDS, Asked, queries
from tests.e2e.running import daemon, eventually

# What Grafana adds to what it sends.
HEADERS = {
    "User-Agent": "Grafana/12.1.0",
    "X-Grafana-Org-Id": "1",
    "X-Dashboard-Uid": "meterd-overview",
    "X-Panel-Id": "7",
    "Accept-Encoding": "gzip",
}
# What no device of the demo tells, and what has not happened to it yet.
NOT_IN_THE_DEMO = (
    "meterd_battery_runtime_seconds",
    "meterd_battery_temperature_celsius",
    "meterd_ups_status_rb",
    "meterd_poll_faults_total",
)
_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


class Grafana:
    """The built-in Prometheus data source, as far as it is seen from outside."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = f"{url}/prometheus/api/v1/"
        self._session = session

    async def get(self, path: str, *query: tuple[str, str]) -> Any:
        async with self._session.get(self._url + path, params=query) as answer:
            return await self._data(answer)

    async def post(self, path: str, form: Mapping[str, str], **query: str) -> Any:
        async with self._session.post(self._url + path, data=form, params=query) as answer:
            return await self._data(answer)

    async def _data(self, answer: aiohttp.ClientResponse) -> Any:
        body = await answer.json()
        assert answer.status == 200, body
        assert body["status"] == "success"
        assert answer.headers["Content-Type"].startswith("application/json")
        return body["data"]

    async def variable(self, definition: str) -> list[str]:
        """What a variable offers."""
        match = _LABEL_VALUES.fullmatch(definition)
        assert match is not None, definition
        found: list[str] = await self.get(f"label/{match[2]}/values", ("match[]", match[1]))
        return found

    async def values(self, board: Mapping[str, Any]) -> dict[str, str]:
        """The variables as they stand when a board is first opened: the first value of each."""
        found = {}
        for one in board["templating"]["list"]:
            offered = await self.variable(one["definition"])
            found[one["name"]] = offered[0] if offered else ""
        return found

    async def is_polled(self) -> bool | None:
        up = await self.post("query", {"query": "count(count_over_time(meterd_device_up[1m]) > 3)"})
        return bool(up["result"] and up["result"][0]["value"][1] == "4") or None

    async def has_data(self, asked: Asked) -> bool:
        data = await self.post(asked.path, asked.form)
        numbers = [v for one in data["result"] for _, v in one.get("values", [one.get("value")])]
        return any(re.fullmatch(r"-?\d+(\.\d+)?(e[+-]\d+)?", number) for number in numbers)


@asynccontextmanager
async def grafana(folder: Path) -> AsyncIterator[Grafana]:
    """One that looks at the demo."""
    async with (
        daemon("demo", "--listen", "127.0.0.1:0", folder=folder) as demo,
        aiohttp.ClientSession(headers=HEADERS) as session,
    ):
        asking = Grafana(demo.url, session)
        await eventually(asking.is_polled, "polls of the demo")
        yield asking


async def _empty(grafana: Grafana, board: Mapping[str, Any]) -> list[Asked]:
    """The queries of a board that find nothing, though they should."""
    # The end of this half minute: most panels step by it, and none needs to be waited for.
    # A day that begins just then would be a range of nothing, which Prometheus refuses as well.
    values, ends = await grafana.values(board), int(time.time()) // 30 * 30 + 30
    now = ends if ends % 86_400 else ends - 30
    excused = NOT_IN_THE_DEMO if values.get("tariff") else (*NOT_IN_THE_DEMO, "meterd_tariff_price")
    # What is excused has to be right all the same.
    asked = [(one, await grafana.has_data(one)) for one in queries(board, values, now)]
    return [one for one, has in asked if not has and not any(n in one.expr for n in excused)]


async def test_every_query_of_every_panel_finds_data_in_the_demo(tmp_path: Path) -> None:
    async with grafana(tmp_path) as asking:
        for name, board in BOARDS.items():
            left: list[Asked] = []

            async def look(
                board: Mapping[str, Any] = board, left: list[Asked] = left
            ) -> bool | None:
                left[:] = await _empty(asking, board)
                return True if not left else None

            try:
                await eventually(look, f"{name}: all panels have data", 90)
            except AssertionError as error:
                raise AssertionError(f"{name}: {[one.panel for one in left]}") from error


def spans() -> Iterable[tuple[str, str]]:
    now = time.time()
    return ("start", f"{now - 3600:.3f}"), ("end", f"{now:.3f}")


async def test_what_grafana_asks_besides_has_the_shapes_that_it_reads(tmp_path: Path) -> None:
    async with grafana(tmp_path) as asking:
        await _save_and_test(asking)
        await _editor(asking)
        await _panels(asking)


async def _save_and_test(grafana: Grafana) -> None:
    two = await grafana.post("query", {"query": "1+1", "time": "4"})
    assert two == {"resultType": "scalar", "result": [4, "2"]}
    build = await grafana.get("status/buildinfo")
    # With features it would be taken for Mimir.
    assert "features" not in build
    assert tuple(map(int, build["version"].split("."))) >= (2, 24, 0)
    assert all(isinstance(value, str) for value in build.values())


async def _editor(grafana: Grafana) -> None:
    """What it sends when a person opens a query."""
    probe = {"query": "test", "start": "1760000000000", "end": "1760003600000"}
    assert await grafana.post("query_exemplars", probe) == []
    assert isinstance((await grafana.get("rules"))["groups"], list)
    names = await grafana.get("label/__name__/values", ("limit", "40000"), *spans())
    assert names == sorted(names)
    assert {"meterd_active_power_watts", "meterd_device_up"} <= set(names)
    kinds = {"counter", "gauge", "histogram", "summary", "info", "stateset", "unknown"}
    told = await grafana.get("metadata", ("limit", "40000"))
    assert all(one["type"] in kinds for entries in told.values() for one in entries)
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in names} <= {
        re.sub(r"_(bucket|count|sum)$", "", name) for name in told
    }
    form = {**dict(spans()), "limit": "40000", "match[]": "meterd_voltage_volts"}
    assert await grafana.post("labels", form) == ["__name__", "building", "device", "phase"]


async def _panels(grafana: Grafana) -> None:
    assert await grafana.variable('label_values(meterd_device_up{device=~"m.*"}, device)') == [
        "main"
    ]
    form = {"match[]": 'meterd_device_up{device="main"}', **dict(spans())}
    (one,) = await grafana.post("series", form)
    assert one == {"__name__": "meterd_device_up", "building": "A", "device": "main"}
    now = int(time.time())
    times = {"start": f"{now - 60}", "end": f"{now}", "step": "0.5"}
    query = {"query": 'meterd_device_up{device="main"}', "stats": "all", **times}
    found = await grafana.post("query_range", query, max_samples_processed_warning_threshold="9")
    assert found["resultType"] == "matrix"
    assert all(value in ("0", "1") for _, value in found["result"][0]["values"])
    ad_hoc = (("match[]", '{__name__=~"meterd_voltage_volts",device="main"}'), *spans())
    assert "l1" in await grafana.get("label/phase/values", *ad_hoc)


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_fits_its_window_and_names_what_it_shows(name: str) -> None:
    board = BOARDS[name]
    assert board["uid"] == name
    assert "id" not in board
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        rows = range(place["y"], place["y"] + place["h"])
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in rows}
        assert place["x"] + place["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells
        assert panel["title"]
        assert panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "meterd"}


def test_boards_have_titles_and_names_of_their_own() -> None:
    assert len(BOARDS) == 5
    assert len({board["title"] for board in BOARDS.values()}) == 5
