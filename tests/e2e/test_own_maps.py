"""Meters that meterd does not ship, by maps as people write them, served by pymodbus.

`own_maps/<meter>.yaml` is the map, `own_maps/<meter>.txt` what the registers hold and mean, in
the format of tests/transcripts/README.md. What is asked for and not written there, the server
refuses; of functions 1 and 2 each word is one bit.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest

from meterd.drivers.map_library import shipped
from tests.cli.inside import inside
from tests.e2e.servers.pymodbus_areas import Run, serving
from tests.transcripts_reader import Bank, parse

FOLDER = Path(__file__).parent / "own_maps"


@dataclass(frozen=True, slots=True)
class Meter:
    """The unit that it answers to, the most registers that it gives at once.

    `filled`: it answers to what lies between its registers, too, with rubbish.
    """

    unit: int
    most: int = 125
    filled: bool = False


METERS = {
    "acme_contacts": Meter(3),
    "acme_orders": Meter(0),
    "acme_sparse": Meter(1),
    "bytepack_nt4": Meter(247, 16),
    "chint_dtsu666": Meter(1),
    "etactica_em": Meter(7, 24),
    "farscale_p1": Meter(1, 50),
    "ionic_9000": Meter(100, 64),
    "iskra_mc330": Meter(33, 16, filled=True),
    "lumel_nd20": Meter(1),
    "rayleigh_ri-d175": Meter(1, 40),
    "satec_pm130": Meter(255, 2),
    "shelly_pro-3em": Meter(1, 60),
    "tariffo_b2": Meter(17, 10, filled=True),
    "veris_e50": Meter(1, filled=True),
    "wattera_x3": Meter(3),
}
BANKS = [
    pytest.param(name, bank, id=f"{name}, {bank.name}")
    for name in METERS
    for bank in parse((FOLDER / f"{name}.txt").read_text("utf-8"))
]


def runs(bank: Bank, *, filled: bool) -> Iterator[Run]:
    """Its registers, in runs without holes."""
    registers = dict(bank.registers)
    if filled:
        for (function, low), (other, high) in pairwise(sorted(bank.registers)):
            if function == other and high - low <= 125:
                registers |= {(function, hole): 0x7E57 for hole in range(low + 1, high)}
    numbered = enumerate(sorted(registers))
    for _, run in groupby(numbered, key=lambda pair: (pair[1][0], pair[1][1] - pair[0])):
        keys = [key for _, key in run]
        yield *keys[0], [registers[key] for key in keys]


Capture = pytest.CaptureFixture[str]


async def polled(name: str, bank: Bank, capsys: Capture, *, said: bool) -> Any:
    """The device as `meterd poll --format json` prints it; its unit is `said`, or the map's."""
    meter = METERS[name]
    async with serving(meter.unit, meter.most, runs(bank, filled=meter.filled)) as port:
        unit = f"/{meter.unit}" if said else ""
        target = f"{FOLDER / name}.yaml@tcp://127.0.0.1:{port}{unit}"
        # The command runs a loop of its own.
        done = await asyncio.to_thread(inside, capsys, "poll", target, "--format", "json")
    assert done.code == 0, done.err
    (device,) = done.document["devices"]
    return device


@pytest.mark.parametrize(("name", "bank"), BANKS)
async def test_every_value_is_what_was_worked_out(name: str, bank: Bank, capsys: Capture) -> None:
    device = await polled(name, bank, capsys, said=bank.name == "usual")
    assert (device["up"], device["error"]) == (True, None)
    samples = {name: tuple(one.values())[:3] for name, one in device["samples"].items()}
    assert samples.pop("device.up") == (1, "1", "good")
    expected = {case.quantity: case.expected for case in bank.cases}
    texts = {name: expected.pop(name) for name in list(expected) if name.startswith("info.")}
    units = {case.quantity: case.unit for case in bank.cases if case.unit}
    assert {name: samples[name][0] for name in expected} == expected
    assert {name: samples[name][1] for name in units} == units
    quality = {name: "invalid" if value is None else "good" for name, value in expected.items()}
    assert {name: samples[name][2] for name in expected} == quality
    if bank.name == "usual":
        assert set(samples) == set(expected)
        assert device["info"] == texts


@pytest.mark.parametrize("name", METERS)
def test_the_maps_are_without_mistakes(name: str, capsys: Capture) -> None:
    done = inside(capsys, "maps", "--check", str(FOLDER / f"{name}.yaml"), "--format", "json")
    assert done.code == 0, done.err
    reads = json.loads(done.out)["plan"]
    assert max(one["registers"] for one in reads if one["function"] > 2) <= METERS[name].most


def test_none_of_them_is_in_the_catalogue() -> None:
    assert not set(METERS) & set(shipped())
    assert {file.stem for file in FOLDER.glob("*.yaml")} == set(METERS)
