"""The SunSpec Alliance's own pysunspec2 and meterd say the same of the same registers."""

import asyncio
import importlib
import os
import random
import string
import struct
from collections.abc import Mapping
from typing import Any

import pytest

from meterd.drivers.sunspec.discovery import survey
from meterd.drivers.sunspec.meter import SunSpecMeter
from meterd.drivers.sunspec.models import MODELS
from meterd.drivers.sunspec.options import SunSpecOptions
from meterd.sim.modbus import ModbusServer
from meterd.wire.link import Link
from meterd.wire.modbus import ModbusClient
from tests.drivers.sunspec import device
from tests.drivers.sunspec.device import Model, Noting, chain, linked

# Registers of each point type, and how its values are packed.
PACKED = {
    "int16": ">h",
    "uint16": ">H",
    "acc32": ">I",
    "acc64": ">Q",
    "float32": ">f",
    "bitfield16": ">H",
    "bitfield32": ">I",
    "enum16": ">H",
    "uint32": ">I",
    "count": ">H",
}
ABSENT: Mapping[str, float] = {"int16": -0x8000, "acc32": 0, "acc64": 0, "float32": float("nan")}

INVERTER = {
    "current": "A",
    "voltage.l12": "PPVphAB",
    "voltage.l23": "PPVphBC",
    "voltage.l31": "PPVphCA",
    "frequency": "Hz",
    "apparent_power": "VA",
    "power_factor": "PF",
    "active_power": "W",
    "reactive_power": "VAr",
    "active_energy.export": "WH",
    "current.dc": "DCA",
    "voltage.dc": "DCV",
    "active_power.dc": "DCW",
    "temperature.ambient": "TmpCab",
    "temperature.heatsink": "TmpSnk",
    "temperature.transformer": "TmpTrns",
    "temperature.other": "TmpOt",
    "x.inverter.state": "St",
    "x.inverter.state.vendor": "StVnd",
    "x.inverter.events": "Evt1",
} | {
    f"{name}.l{i}": f"{point}ph{'ABC'[i - 1]}"
    for name, point in (("current", "A"), ("voltage", "PhV"))
    for i in (1, 2, 3)
}
METER = {
    "voltage.avg": "PhV",
    "voltage.ll.avg": "PPV",
    "frequency": "Hz",
    "x.meter.events": "Evt",
}
OF_PHASES = {
    "current": "A",
    "active_power": "W",
    "apparent_power": "VA",
    "reactive_power": "VAR",
    "power_factor": "PF",
    "active_energy.import": "TotWhImp",
    "active_energy.export": "TotWhExp",
    "apparent_energy.import": "TotVAhImp",
    "apparent_energy.export": "TotVAhExp",
    "reactive_energy.q1": "TotVArhImpQ1",
    "reactive_energy.q2": "TotVArhImpQ2",
    "reactive_energy.q3": "TotVArhExpQ3",
    "reactive_energy.q4": "TotVArhExpQ4",
}
METER |= OF_PHASES
METER |= {f"{n}.l{i}": f"{p}ph{'ABC'[i - 1]}" for n, p in OF_PHASES.items() for i in (1, 2, 3)}
METER |= {f"voltage.l{i}": f"PhVph{'ABC'[i - 1]}" for i in (1, 2, 3)}
# Meter models spell the line voltages in two ways, and phases with ph or Ph.
LINES = {"voltage.l12": "AB", "voltage.l23": "BC", "voltage.l31": "CA"}
PHV_METER = METER | {name: f"PhVph{lines}" for name, lines in LINES.items()}
PPV_METER = METER | {name: f"PPVph{lines}" for name, lines in LINES.items()}
INVERTERS = (101, 102, 103, 111, 112, 113)
POINTS: Mapping[int, Mapping[str, str]] = {
    **dict.fromkeys(INVERTERS, INVERTER),
    **dict.fromkeys((202, 203, 204), PHV_METER),
    **dict.fromkeys((201, 211, 212, 213, 214), PPV_METER),
    120: {
        "x.rating.type": "DERTyp",
        "x.rating.active_power": "WRtg",
        "x.rating.apparent_power": "VARtg",
        "x.rating.current": "ARtg",
        "x.rating.energy": "WHRtg",
        "x.rating.charge": "AhrRtg",
        "x.rating.charge_power": "MaxChaRte",
        "x.rating.discharge_power": "MaxDisChaRte",
        **{f"x.rating.reactive_power.q{i}": f"VArRtgQ{i}" for i in (1, 2, 3, 4)},
        **{f"x.rating.power_factor.q{i}": f"PFRtgQ{i}" for i in (1, 2, 3, 4)},
    },
    122: {
        "x.connection.pv": "PVConn",
        "x.connection.storage": "StorConn",
        "x.connection.grid": "ECPConn",
        "active_energy.export": "ActWh",
        "apparent_energy.export": "ActVAh",
        "x.available.reactive_power": "VArAval",
        "x.available.active_power": "WAval",
        "x.insulation_resistance": "Ris",
        **{f"x.reactive_energy.q{i}": f"ActVArhQ{i}" for i in (1, 2, 3, 4)},
    },
    123: {
        "x.control.connected": "Conn",
        "x.control.active_power_limit": "WMaxLimPct",
        "x.control.active_power_limit.enabled": "WMaxLim_Ena",
        "x.control.power_factor": "OutPFSet",
        "x.control.power_factor.enabled": "OutPFSet_Ena",
        "x.control.reactive_power.of_rating": "VArWMaxPct",
        "x.control.reactive_power.of_maximum": "VArMaxPct",
        "x.control.reactive_power.of_available": "VArAvalPct",
        "x.control.reactive_power.mode": "VArPct_Mod",
        "x.control.reactive_power.enabled": "VArPct_Ena",
    },
    124: {
        "x.storage.charge_power.max": "WChaMax",
        "x.storage.control": "StorCtl_Mod",
        "x.storage.reserve": "MinRsvPct",
        "battery.charge": "ChaState",
        "x.storage.available": "StorAval",
        "battery.voltage": "InBatV",
        "x.storage.state": "ChaSt",
        "x.storage.discharge_rate": "OutWRte",
        "x.storage.charge_rate": "InWRte",
    },
}
TEXTS = {
    "info.manufacturer": "Mn",
    "info.model": "Md",
    "info.options": "Opt",
    "info.firmware": "Vr",
    "info.serial_number": "SN",
}


@pytest.fixture(scope="module")
def oracle() -> Any:
    """pysunspec2's Modbus client; skipped, or failed with METERD_TEST_ALL=1, without it."""
    try:
        return importlib.import_module("sunspec2.modbus.client")
    except ModuleNotFoundError:
        reason = "needs the Python package pysunspec2, which is not installed here"
        if os.environ.get("METERD_TEST_ALL") == "1":
            pytest.fail(f"METERD_TEST_ALL=1, but this {reason}")
        pytest.skip(reason)


def made_up(points: list[dict[str, Any]], dice: random.Random, *, absent: float) -> list[int]:
    """Registers of a model by its published definition; a part of the points is absent."""
    data = b""
    for point in points[2:]:
        kind, size = point["type"], 2 * point["size"]
        if kind == "sunssf":
            data += struct.pack(">h", dice.randint(-3, 3))
        elif kind == "string":
            text = "".join(dice.choices(string.ascii_letters, k=dice.randint(1, size)))
            data += text.encode().ljust(size, b"\0")
        elif kind == "pad":
            data += b"\x80\x00"
        elif dice.random() < absent:
            nothing = ABSENT.get(kind)
            data += b"\xff" * size if nothing is None else struct.pack(PACKED[kind], nothing)
        elif kind == "float32":
            data += struct.pack(">f", dice.uniform(-1e6, 1e6))
        else:
            data += dice.randbytes(size)
    return list(struct.unpack(f">{len(data) // 2}H", data))


def defined(oracle: Any, number: int) -> list[dict[str, Any]]:
    """The points of a model as pysunspec2 ships them."""
    points: list[dict[str, Any]] = oracle.device.get_model_def(number)["group"]["points"]
    return points


def scanned(oracle: Any, server: ModbusServer) -> Any:
    """What pysunspec2 finds; it blocks."""
    theirs = oracle.SunSpecModbusClientDeviceTCP(
        slave_id=1, ipaddr="127.0.0.1", ipport=server.port, timeout=5
    )
    theirs.scan()
    theirs.close()
    return theirs


async def ours(link: Link, number: int) -> dict[str, float | str | None]:
    meter = SunSpecMeter(link, SunSpecOptions(part=number))
    return {one.quantity: one.value for one in await meter.read()}


def wanted(point: Any, definition: Mapping[str, Any], number: int) -> float | None:
    """The oracle's value in the house's unit and sign."""
    value: float | None = point.cvalue
    if value is None:
        # An accumulator at 0 is not implemented, unless the model demands it.
        counts = definition["type"].startswith("acc") and definition.get("mandatory") == "M"
        return 0.0 if counts else None
    if definition["name"].startswith("PF") and definition.get("units") == "Pct":
        value /= 100
    generated = number in INVERTERS and definition["name"] in ("W", "VAr")
    return -value if generated else value


@pytest.mark.parametrize("absent", [0.0, 0.3])
@pytest.mark.parametrize("number", POINTS)
async def test_every_value_of_a_model_agrees(oracle: Any, number: int, absent: float) -> None:
    dice = random.Random(number)
    points = defined(oracle, number)
    definitions = {point["name"].lower(): point for point in points}
    models: list[Model] = [
        (1, made_up(defined(oracle, 1), dice, absent=0)),
        (number, made_up(points, dice, absent=absent)),
    ]
    async with linked(Noting(chain(40000, *models))) as (link, server):
        theirs = await asyncio.to_thread(scanned, oracle, server)
        said = await ours(link, number)
    (common,), (model,) = theirs.models[1], theirs.models[number]
    assert said.keys() == POINTS[number].keys() | TEXTS.keys()
    for quantity, name in POINTS[number].items():
        definition = definitions[name.lower()]
        expected = wanted(model.points[definition["name"]], definition, number)
        if expected is None:
            assert said[quantity] is None, (quantity, name)
        else:
            # A float32 is told in as few digits as name it.
            assert said[quantity] == pytest.approx(expected, rel=2**-24), (quantity, name)
    for quantity, name in TEXTS.items():
        assert said[quantity] == common.points[name].value


@pytest.mark.parametrize("base", [0, 40000, 50000])
async def test_both_find_the_same_models_at_the_same_registers(oracle: Any, base: int) -> None:
    vendor: Model = (64001, [7] * 19)
    models = (device.common("A", "1", pad=True), device.inverter(), vendor, device.meter())
    async with linked(Noting(chain(base, *models))) as (link, server):
        theirs = await asyncio.to_thread(scanned, oracle, server)
        found = await survey(ModbusClient(link, 1))
    assert theirs.base_addr == found.place.base == base
    assert [(one.number, one.address, one.length) for one in found.found] == [
        (model.model_id, model.model_addr, model.model_len) for model in theirs.model_list
    ]


def test_the_oracle_has_every_model_at_the_length_that_is_asked_for(oracle: Any) -> None:
    for number, model in MODELS.items():
        assert sum(point["size"] for point in defined(oracle, number)) - 2 == max(model.lengths)
