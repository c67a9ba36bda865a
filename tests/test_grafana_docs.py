"""docs/grafana.md: its commands and queries do what it says, against the demo."""

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import meterd
from meterd.api.promapi.status import VERSION
from meterd.config.settings import DeviceSettings
from meterd.model.quantity import CATALOGUE
from tests.cli.command import run
from tests.e2e.dashboards import BOARDS
from tests.e2e.running import Daemon, daemon, eventually

TOP = Path(meterd.__file__).parent.parent
PAGE = (TOP / "docs" / "grafana.md").read_text("utf-8")
SOURCE = TOP / "config" / "grafana" / "provisioning" / "datasources" / "meterd.yaml"
# Where the page says that meterd listens.
ADDRESS = "http://127.0.0.1:8420"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def queries() -> list[str]:
    return [line for block in blocks("promql") for line in block.splitlines()]


async def asked(demo: Daemon, query: str) -> bool | None:
    """True once a query finds something."""
    out = await curl(demo, f"curl -s {ADDRESS}/prometheus/api/v1/query --data-urlencode", query)
    answer = json.loads(out)
    assert answer["status"] == "success", (query, answer)
    return bool(answer["data"]["result"]) or None


async def curl(demo: Daemon, line: str, query: str = "") -> str:
    words = [f"query={query}"] if query else []
    line = line.replace(ADDRESS, demo.url) + ' "$@"' * len(words)
    ended = await run("sh", "-c", line, "sh", *words, cwd=demo.log.parent, env={"no_proxy": "*"})
    assert ended.code == 0, (line, ended.err)
    return ended.out


@pytest.mark.needs("curl")
async def test_its_commands_and_queries_find_something_in_the_demo(tmp_path: Path) -> None:
    async with daemon("demo", "--listen", "127.0.0.1:0", folder=tmp_path) as demo:
        for query in queries():
            # Costs need a tariff: that they are right is for tests/api/test_prom_prices.py.
            if "meterd_tariff_price" in query:
                await asked(demo, query)
                continue

            async def look(query: str = query) -> bool | None:
                return await asked(demo, query)

            await eventually(look, query)
        (shell,) = blocks("sh")
        for line in shell.splitlines():
            assert json.loads(await curl(demo, line))["data"], line
        for path in re.findall(r"`http://127\.0\.0\.1:8420(/api/v1/[^`]+)`", PAGE):
            await _rest(demo, path)


async def _rest(demo: Daemon, path: str) -> None:
    """An URL for Infinity has the rows and columns that the page names."""
    times = {"${__timeFrom}": "now-1h", "${__timeTo}": "now"}
    filled = re.sub(r"\$\{\w+\}", lambda match: times[match[0]], path)
    status, body = await demo.text(filled)
    assert status == 200, body
    answer = json.loads(body)
    if "/energy" in path:
        assert {"start", "value", "device"} <= answer["energy"][0].keys()
    else:
        ((time, value), *_) = answer["series"][0]["points"]
        assert isinstance(time, int)
        assert isinstance(value, float)


def test_its_login_is_what_the_file_has_as_a_comment() -> None:
    (login,) = blocks("yaml")
    uncommented = re.sub(r"(?m)^( *)# (?=\S+:|  )", r"\1", SOURCE.read_text("utf-8"))
    (source,) = YAML(typ="safe", pure=True).load(uncommented)["datasources"]
    wanted = YAML(typ="safe", pure=True).load(login)
    assert source["basicAuth"] is wanted["basicAuth"] is True
    assert source["basicAuthUser"] == wanted["basicAuthUser"]
    assert wanted["secureJsonData"].items() <= source["secureJsonData"].items()
    assert source["jsonData"]["httpHeaderName1"] == "Authorization"
    assert source["url"] == f"{ADDRESS}/prometheus"


def test_the_data_source_knows_how_often_meterd_polls_and_what_it_says_it_is() -> None:
    (source,) = YAML(typ="safe", pure=True).load(SOURCE.read_text("utf-8"))["datasources"]
    interval = DeviceSettings.model_fields["interval"].default
    assert source["jsonData"]["timeInterval"] == f"{interval:g}s"
    assert source["jsonData"]["prometheusVersion"] == VERSION


def test_no_secret_stands_in_a_dashboard_or_in_the_file() -> None:
    for text in (SOURCE.read_text("utf-8"), *map(json.dumps, BOARDS.values())):
        for secret in re.findall(r"(?:basicAuthPassword|httpHeaderValue1):(.+)", text):
            assert "$METERD_" in secret


def test_every_dashboard_has_its_row() -> None:
    assert re.findall(r"(?m)^\| `(meterd-\w+)` \|", PAGE) == [
        "meterd-overview",
        "meterd-meter",
        "meterd-energy",
        "meterd-ups",
        "meterd-itself",
    ]
    assert {f"`{name}`" for name in BOARDS} <= set(re.findall(r"`[\w-]+`", PAGE))


def test_names_are_those_of_the_catalogue() -> None:
    rows = re.findall(r"(?m)^\| `([\w.]+)`(?:, `([\w.]+)`)? \| `(meterd_\w+)", PAGE)
    assert len(rows) == 7
    for quantity, other, metric in rows:
        assert CATALOGUE[quantity].prometheus == metric
        assert not other or CATALOGUE[other].prometheus == metric
