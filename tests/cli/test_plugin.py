"""A driver of somebody else's: what it gives that cannot be kept is told, by `poll` and `check`."""

import json
import os
from pathlib import Path

import pytest

from tests.cli.command import meterd

DRIVER = """\
from meterd.model.sample import Reading
from pydantic import BaseModel


class Boiler:
    "A boiler."

    class Options(BaseModel):
        pass

    def __init__(self, link, options):
        pass

    async def read(self):
        return READINGS
"""
GIVES = """[
            Reading("gas_volume", 812.5, "m³"),
            Reading("temperature", 140.0, "°F"),
            Reading("active_power", 1.2, "kw"),
        ]"""
SITE = """\
devices:
  boiler: {driver: boiler, link: "tcp://127.0.0.1:1"}
"""


def install(folder: Path, readings: str) -> dict[str, str]:
    """The driver as pip would have installed it, and the environment that finds it."""
    (folder / "boiler.py").write_text(DRIVER.replace("READINGS", readings), encoding="utf-8")
    info = folder / "boiler-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: boiler\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[meterd.drivers]\nboiler = boiler:Boiler\n")
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH", ""))))
    return {"PYTHONPATH": path}


async def test_what_a_plug_in_gives_and_cannot_be_kept_is_told_by_name(tmp_path: Path) -> None:
    env = install(tmp_path, GIVES)
    (tmp_path / "meterd.yaml").write_text(SITE)
    ended = await meterd("poll", "--format", "json", cwd=tmp_path, env=env)
    assert ended.code == 0
    samples = json.loads(ended.out)["devices"][0]["samples"]
    assert samples["temperature"] == {"value": 60.0, "unit": "°C", "quality": "good"}
    assert samples.keys() == {"temperature", "device.up"}
    lines = ended.err.splitlines()
    assert [line for line in lines if line.startswith("boiler: gas_volume is left out")]
    assert [line for line in lines if "active_power is left out" in line and "kW?" in line]


async def test_check_online_tells_it_too(tmp_path: Path) -> None:
    env = install(tmp_path, GIVES)
    (tmp_path / "meterd.yaml").write_text(SITE)
    ended = await meterd("check", "--online", cwd=tmp_path, env=env)
    assert "gas_volume is left out" in ended.out + ended.err


@pytest.mark.parametrize("readings", ['{"voltage.l1": 230.0}', "None", '[("voltage.l1", 230.0)]'])
async def test_what_is_no_reading_at_all_is_a_fault_of_the_driver(
    tmp_path: Path, readings: str
) -> None:
    env = install(tmp_path, readings)
    ended = await meterd("poll", "boiler@tcp://127.0.0.1:1", cwd=tmp_path, env=env)
    assert ended.code == 5
    assert "driver_bug" in ended.err


async def test_the_load_of_a_driver_that_tells_none_is_not_known(tmp_path: Path) -> None:
    env = install(tmp_path, GIVES)
    link = '"tcp://127.0.0.1:1"'
    text = (
        f"devices:\n  a: {{driver: boiler, link: {link}}}\n  b: {{driver: boiler, link: {link}}}\n"
    )
    (tmp_path / "meterd.yaml").write_text(text)
    ended = await meterd("check", "--format", "json", cwd=tmp_path, env=env)
    assert ended.code == 0
    rows = [row for row in json.loads(ended.out) if "device" in row]
    for row in rows:
        unknown = ("reads", "bytes", "seconds", "load_percent", "bus_percent")
        assert [row[key] for key in unknown] == [None] * len(unknown)
    assert "the load of a, b is not known: the driver has no traffic()" in ended.err
    assert "devices take" not in ended.err
