"""Simulated SunSpec devices, written down word by word from the published models."""

import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import FixedBank
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Link, Times

NA_U = 0xFFFF
NA_S = 0x8000
NAN = (0x7FC0, 0x0000)
END = (0xFFFF, 0)
TIMEOUT = 0.2

Model = tuple[int, list[int]]


def text(value: str, words: int) -> list[int]:
    """Two characters a register, padded with NUL."""
    data = value.encode().ljust(2 * words, b"\0")
    return list(struct.unpack(f">{words}H", data))


def f32(value: float) -> tuple[int, int]:
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    return high, low


def u32(value: int) -> tuple[int, int]:
    return value >> 16, value & 0xFFFF


def u64(value: int) -> tuple[int, ...]:
    return struct.unpack(">4H", struct.pack(">Q", value))


def s16(value: int) -> int:
    return value & 0xFFFF


def common(model: str, serial: str, *, pad: bool = False) -> Model:
    """Model 1: manufacturer, model, options, version, serial number, device address."""
    words = [*text("Acme", 16), *text(model, 16), *text("", 8), *text("1.2.3", 8)]
    return 1, [*words, *text(serial, 16), 1, *([NA_S] if pad else [])]


def inverter(watts: int = 5000) -> Model:
    """Model 103. The phase voltages have a scale of their own, as all groups do."""
    words = [2170, 723, 724, 723, s16(-2)]  # A, AphA..C, A_SF
    words += [NA_U, NA_U, NA_U, 2301, 2302, 2299, s16(-1)]  # PPV, PhV, V_SF
    words += [s16(watts // 10), 1, 5001, s16(-2)]  # W, W_SF, Hz, Hz_SF
    words += [501, 1, s16(-120), 0, s16(-9980), s16(-2)]  # VA, VAr, PF and their scales
    words += [*u32(1_234_567), 1]  # WH, WH_SF
    words += [NA_U, NA_S, 6105, s16(-1), 5150, 0]  # DCA, DCV, DCW and their scales
    words += [412, NA_S, NA_S, NA_S, s16(-1)]  # TmpCab, Snk, Trns, Ot, Tmp_SF
    words += [4, NA_U, 0, 0x0080, 0, 0, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF]
    return 103, [*words, 0xFFFF, 0xFFFF]


# What the house says of it. Not implemented: line voltages, DC current, three temperatures.
INVERTER_SAYS = {
    "current": 21.7,
    "current.l1": 7.23,
    "current.l2": 7.24,
    "current.l3": 7.23,
    "voltage.l12": None,
    "voltage.l23": None,
    "voltage.l31": None,
    "voltage.l1": 230.1,
    "voltage.l2": 230.2,
    "voltage.l3": 229.9,
    "active_power": -5000,
    "frequency": 50.01,
    "apparent_power": 5010,
    "reactive_power": 120,
    "power_factor": -0.998,
    "active_energy.export": 12_345_670,
    "current.dc": None,
    "voltage.dc": 610.5,
    "active_power.dc": 5150,
    "temperature.ambient": 41.2,
    "temperature.heatsink": None,
    "temperature.transformer": None,
    "temperature.other": None,
    "x.inverter.state": 4,
    "x.inverter.state.vendor": None,
    "x.inverter.events": 128,
}


def meter(watts: int = -1500, number: int = 203) -> Model:
    """Model 203: powers, voltages and totals are there; energies of phases are not."""
    words = [s16(-66), s16(-22), s16(-23), s16(-21), s16(-1)]
    words += [2300, 2301, 2302, 2299, 3985, 3986, 3987, 3984, s16(-1)]
    words += [4999, s16(-2)]
    words += [s16(watts), s16(-500), s16(-501), s16(-499), 0]
    words += [1510, NA_S, NA_S, NA_S, 0]
    words += [s16(-90), NA_S, NA_S, NA_S, 0]
    words += [s16(-99), NA_S, NA_S, NA_S, 0]
    # TotWhExp has counted, TotWhImp is mandatory and still 0; 0 elsewhere means nothing.
    words += [*u32(70_003), *[0] * 6, *u32(0), *[0] * 6, s16(-1)]
    # VAh: the scale says that none of it is there.
    words += [*u32(55), *[0] * 14, NA_S]
    words += [*u32(4_000_000_001), *[0] * 30, 3]
    return number, [*words, 0, 4]


METER_SAYS = {
    "current": -6.6,
    "current.l1": -2.2,
    "voltage.avg": 230.0,
    "voltage.l3": 229.9,
    "voltage.ll.avg": 398.5,
    "voltage.l31": 398.4,
    "frequency": 49.99,
    "active_power": -1500,
    "active_power.l2": -501,
    "apparent_power": 1510,
    "apparent_power.l1": None,
    "reactive_power": -90,
    "power_factor": -0.99,
    "active_energy.export": 7000.3,
    "active_energy.export.l1": None,
    "active_energy.import": 0,
    "active_energy.import.l3": None,
    "apparent_energy.export": None,
    "reactive_energy.q1": 4_000_000_001_000,
    "reactive_energy.q4.l3": None,
    "x.meter.events": 4,
}


def float_inverter() -> Model:
    """Model 113, asleep: zeros and NaN."""
    there = {22: f32(0.0), 24: f32(50.0), 28: f32(0.0), 30: f32(100.0), 32: f32(98765.4)}
    words = [word for at in range(2, 48, 2) for word in there.get(at, NAN)]
    return 113, [*words, 2, NA_U, *[0] * 4, *[0xFFFF] * 8]


def float_meter() -> Model:
    """Model 213, where point number N holds N + 0.5."""
    words = [word for n in range(61) for word in f32(n + 0.5)]
    return 213, [*words, 0, 0]


def nameplate() -> Model:
    words = [4, 10, 3, 105, 2, *[s16(n) for n in (44, -44, 44, -44)], 2, 16, 0]
    return 120, [*words, *[s16(n) for n in (80, -80, 80, -80)], s16(-2), *[NA_U, NA_S] * 4, NA_S]


def extended(produced: int) -> Model:
    words = [7, 0, 1, *u64(produced), *u64(0), *[0] * 16]
    return 122, [*words, NA_S, NA_S, 98, 2, *[0xFFFF] * 4, *[0] * 4, 0, 0, 1, 150, 4]


def storage() -> Model:
    return 124, [
        *[500, 100, 100, 0, NA_U, NA_U, 873, NA_U, 5120, 4, NA_S, NA_S, *[NA_U] * 4],
        *[1, 0, NA_S, NA_S, s16(-1), NA_S, s16(-2), NA_S],
    ]


def chain(base: int, *models: Model, end: Iterable[int] = END) -> dict[int, int]:
    """Registers: the marker, the models one after the other, and the end."""
    words = [0x5375, 0x6E53]
    for number, data in models:
        words += [number, len(data), *data]
    return dict(enumerate([*words, *end], start=base))


class Noting(FixedBank):
    """Notes what is asked."""

    def __init__(self, words: Mapping[int, int], *, function: int = 3, most: int = 125) -> None:
        super().__init__({function: words}, most)
        self.asked: list[tuple[int, int, int]] = []

    def read(self, function: int, address: int, count: int) -> list[int]:
        self.asked.append((function, address, count))
        return super().read(function, address, count)

    def become(self, words: Mapping[int, int]) -> None:
        """From now on other registers."""
        self.words = dict.fromkeys(self.words, words)


@asynccontextmanager
async def linked(
    bank: Noting, kind: type[ModbusServer] = ModbusServer
) -> AsyncIterator[tuple[Link, ModbusServer]]:
    """A real link to a device with these registers."""
    server = kind({1: bank})
    await server.start_tcp()
    link = open_link(parse(server.url), defaults={}, times=Times(timeout=TIMEOUT))
    try:
        yield link, server
    finally:
        await link.close()
        await server.stop()
