"""`meterd poll`: the contract's document, the rows of the other formats, and exit codes."""

import csv
import io
import json
import re
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import FixedBank
from meterd.sim.serve import serve_ups
from tests.cli.command import Ended, meterd

OK, SOME_FAILED, ALL_FAILED, USAGE, CONFIGURATION = 0, 4, 5, 2, 78
NOBODY = "tcp://127.0.0.1:1"
MAP = """\
source: made up for this test
confidence: CONFIDENCE
maker: Me
model: Mine
rows:
  voltage.l1: {function: 4, address: 0, type: f32, unit: V}
  active_power: {function: 4, address: 2, type: s16, unit: kW, scale: 0.1}
  frequency: {function: 4, address: 3, type: u16, unit: Hz, scale: 0.01, na: [0xFFFF]}
  x.gone: {function: 4, address: 50, type: u16, unit: '1'}
  info.serial_number: {function: 4, address: 4, type: u16, tier: static}
"""
SAMPLES = {
    "voltage.l1": {"value": 230.1, "unit": "V", "quality": "good"},
    "active_power": {"value": -1200.0, "unit": "W", "quality": "good"},
    "device.up": {"value": 1.0, "unit": "1", "quality": "good"},
}


@pytest.fixture
async def url() -> AsyncIterator[str]:
    high, low = struct.unpack(">2H", struct.pack(">f", 230.1))
    words = {0: high, 1: low, 2: 0x10000 - 12, 3: 0xFFFF, 4: 4711}
    server = ModbusServer({1: FixedBank({4: words})})
    await server.start_tcp()
    yield server.url
    await server.stop()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return _write_map(tmp_path, "high")


def _write_map(folder: Path, confidence: str) -> Path:
    file = folder / "own.yaml"
    file.write_text(MAP.replace("CONFIDENCE", confidence))
    return file


def configure(folder: Path, *links: str) -> Path:
    """A configuration with one device m0, m1, … for each link."""
    devices = (
        f'  m{n}: {{driver: modbus, map: ./own.yaml, unit: 1, link: "{link}"}}\n'
        for n, link in enumerate(links)
    )
    file = folder / "meterd.yaml"
    file.write_text(f"devices:\n{''.join(devices)}")
    return file


async def target(own: Path, url: str, *format_: str) -> Ended:
    return await meterd("poll", f"./{own.name}@{url}/1", *format_, cwd=own.parent)


async def test_json_is_the_contracts_document(own: Path, url: str) -> None:
    polled = await target(own, url, "--format", "json")
    assert (polled.code, polled.err) == (OK, "")
    (device,) = polled.document["devices"]
    assert polled.document.keys() == {"devices"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", device.pop("time"))
    absent = {name: device["samples"].pop(name) for name in ("frequency", "x.gone")}
    assert device == {
        "device": "own",
        "up": True,
        "error": None,
        "info": {"info.serial_number": "4711"},
        "samples": SAMPLES,
    }
    for sample in absent.values():
        assert (sample["value"], sample["quality"]) == (None, "invalid")
    assert "not available" in absent["frequency"]["reason"]
    assert "illegal data address" in absent["x.gone"]["reason"]


async def test_the_other_formats_have_the_same_rows(own: Path, url: str) -> None:
    document = (await target(own, url, "--format", "json")).document["devices"][0]["samples"]
    expected = [
        {"device": "own", "quantity": name, "reason": "", **sample}
        for name, sample in document.items()
    ]
    ndjson = (await target(own, url, "--format", "ndjson")).out.splitlines()
    assert [json.loads(line) for line in ndjson] == expected
    texts = [
        {k: f"{v:g}" if isinstance(v, float) else v or "" for k, v in row.items()}
        for row in expected
    ]
    found = (await target(own, url, "--format", "csv")).out
    assert list(csv.DictReader(io.StringIO(found))) == texts
    header, *lines = ((await target(own, url)).out).splitlines()
    assert [dict(zip(header.split("\t"), x.split("\t"), strict=True)) for x in lines] == texts
    table = (await target(own, url, "--format", "table")).out.splitlines()
    assert table[0].split() == ["device", "quantity", "value", "unit", "quality", "reason"]
    assert table[1].split() == ["own", "voltage.l1", "230.1", "V", "good"]
    assert len(table) == 1 + len(texts)


async def test_some_that_failed_are_code_4_and_said_on_stderr(
    tmp_path: Path, own: Path, url: str
) -> None:
    file = configure(tmp_path, url, NOBODY)
    polled = await meterd("poll", "-c", file, "--format", "json")
    assert polled.code == SOME_FAILED
    good, bad = polled.document["devices"]
    assert (good["up"], good["error"]) == (True, None)
    assert (bad["device"], bad["up"], bad["samples"]) == ("m1", False, {})
    assert bad["error"]["code"] == "refused"
    assert polled.err.splitlines() == [f"m1: {bad['error']['text']} [refused]"]
    assert (await meterd("poll", "m0", "-c", file)).code == OK


async def test_all_that_failed_are_code_5(tmp_path: Path, own: Path) -> None:
    file = configure(tmp_path, NOBODY, NOBODY)
    polled = await meterd("poll", "-c", file)
    assert polled.code == ALL_FAILED
    assert len(polled.err.splitlines()) == 2
    assert "Traceback" not in polled.err
    assert (await target(own, NOBODY)).code == ALL_FAILED


async def test_a_ups_needs_no_configuration(tmp_path: Path) -> None:
    async with serve_ups(link_path=tmp_path / "ups") as server:
        polled = await meterd("poll", f"megatec@serial://{server.path}", "--format", "json")
    assert polled.code == OK, polled.err
    (device,) = polled.document["devices"]
    assert device["device"] == "megatec"
    assert device["samples"]["ups.status.ol"] == {"value": 1.0, "unit": "1", "quality": "good"}
    assert device["samples"]["battery.voltage"]["unit"] == "V"


async def test_two_targets_with_one_map_get_names_of_their_own(own: Path, url: str) -> None:
    words = (f"./{own.name}@{url}/1", f"./{own.name}@{url}/9")
    polled = await meterd("poll", *words, "--format", "json", cwd=own.parent)
    assert polled.code == SOME_FAILED
    assert [device["device"] for device in polled.document["devices"]] == ["own-1", "own-2"]


async def test_a_map_of_low_confidence_is_warned_of_on_stderr(tmp_path: Path, url: str) -> None:
    polled = await target(_write_map(tmp_path, "low"), url, "--format", "json")
    assert polled.code == OK
    assert "low confidence" in polled.err
    assert polled.document["devices"][0]["samples"]["voltage.l1"]["value"] == 230.1


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("eastron_sdm63@tcp://127.0.0.1:1/1",), CONFIGURATION, "eastron_sdm630"),
        (("eastron_sdm630@127.0.0.1:1",), CONFIGURATION, "MAP@tcp://HOST:502/UNIT"),
        (("eastron_sdm630@tcp://127.0.0.1:1/300",), CONFIGURATION, "255"),
        (("eastron_sdm630@tcpp://127.0.0.1:1",), CONFIGURATION, "tcp"),
        (("eastron_sdm630@tcp://127.0.0.1:1?framer=rut",), CONFIGURATION, "framer"),
        (("megatec@serial:///dev/ttyUSB0?baud=fast",), CONFIGURATION, "baud"),
        (("m0", "megatec@serial:///dev/ttyUSB0"), USAGE, "not both"),
        (("nobody", "-c", "meterd.yaml"), CONFIGURATION, "m0"),
        (("-c", "absent.yaml"), CONFIGURATION, "absent.yaml"),
        ((), CONFIGURATION, "meterd demo"),
    ],
)
async def test_what_cannot_be_polled_is_said_with_what_to_do(
    tmp_path: Path, own: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    folder = own.parent if words else tmp_path / "empty"
    folder.mkdir(exist_ok=True)
    if words:
        configure(own.parent, NOBODY)
    ended = await meterd("poll", *words, cwd=folder)
    assert ended.code == code
    assert ended.out == ""
    assert says in ended.err
    assert "Traceback" not in ended.err


async def test_the_configuration_is_found_as_the_contract_says(
    tmp_path: Path, own: Path, url: str
) -> None:
    file = configure(tmp_path, url)
    assert (await meterd("poll", cwd=tmp_path)).code == OK
    away = tmp_path / "away"
    away.mkdir()
    polled = await meterd("poll", cwd=away, env={"METERD_CONFIG": str(file)})
    # Its map stands beside it, wherever meterd was started.
    assert polled.code == OK, polled.err
