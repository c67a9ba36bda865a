"""meterd polls meters that are libmodbus in C, and says exactly what their registers hold."""

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from meterd.drivers.map_library import load_map
from meterd.drivers.registers import Row
from meterd.model.quantity import Kind
from tests.cli.command import meterd, run, samples
from tests.e2e.running import first_line, pty_pair

pytestmark = pytest.mark.needs("cc", "libmodbus-dev")

SOURCE = Path(__file__).with_name("libmodbus_server.c")
# To canonical units: this test knows what a kilowatt-hour is by itself.
TIMES = {"kWh": 1000, "kvarh": 1000, "kVAh": 1000}
EM340_REGISTERS = 20487
SERIAL_NUMBER = "AN14870"


@pytest.fixture
async def server(tmp_path: Path) -> Path:
    """The C program, compiled."""
    program = tmp_path / "libmodbus_server"
    flags = (await run("pkg-config", "--cflags", "--libs", "libmodbus")).out.split()
    built = await run("cc", "-Wall", "-Werror", "-o", program, SOURCE, *flags)
    assert built.code == 0, built.err
    return program


def lines(words: Mapping[int, Iterable[int]]) -> str:
    """As the server reads them."""
    hexed = ((address, " ".join(f"{word:04X}" for word in some)) for address, some in words.items())
    return "".join(f"{address} {text}\n" for address, text in hexed)


def fast_and_slow(name: str) -> list[Row]:
    return [row for row in load_map(name).rows if not row.quantity.startswith("info.")]


def meant(row: Row, value: float) -> float | None:
    """A counter counts from 0 on."""
    return None if row.kind is Kind.COUNTER and value < 0 else value


def floats() -> tuple[dict[int, tuple[int, ...]], dict[str, float | None]]:
    """Registers of an SDM630, and what they mean. Odd values are negative: no counter is."""
    words: dict[int, tuple[int, ...]] = {}
    expected: dict[str, float | None] = {}
    for number, row in enumerate(fast_and_slow("eastron_sdm630")):
        value = (number + 1) * 1.25 * (-1) ** number
        words[row.address] = struct.unpack(">2H", struct.pack(">f", value))
        expected[row.quantity] = meant(row, value * TIMES.get(row.unit, 1))
    # 230.1 has no exact float32: the nearest is 0x4366199A.
    words[0] = (0x4366, 0x199A)
    return words, expected | {"voltage.l1": 230.1}


def little_endian_words() -> tuple[dict[int, tuple[int, ...]], dict[str, float | None]]:
    """Registers of an EM340, low word first, and what they mean."""
    words: dict[int, tuple[int, ...]] = {}
    expected: dict[str, float | None] = {}
    for number, row in enumerate(fast_and_slow("carlo-gavazzi_em340")):
        raw = (70_003 + number) * (-1) ** number if row.words == 2 else 501 + number
        high, low = struct.unpack(">2H", struct.pack(">i", raw))
        words[row.address] = (low, high)[: row.words]
        value = raw * row.scale if row.scale >= 1 else raw / round(1 / row.scale)
        expected[row.quantity] = meant(row, value)
    words[20480] = tuple(SERIAL_NUMBER.encode())
    return words, expected


async def test_floats_of_an_sdm630_over_tcp(server: Path) -> None:
    words, expected = floats()
    async with first_line(server, "tcp", "400", given=lines(words)) as port:
        target = f"eastron_sdm630@tcp://127.0.0.1:{port}/1"
        polled = await meterd("poll", target, "--format", "json")
    assert samples(polled) == {**expected, "device.up": 1}


async def test_low_words_first_of_an_em340_over_tcp(server: Path) -> None:
    words, expected = little_endian_words()
    count = str(EM340_REGISTERS)
    async with first_line(server, "tcp", count, given=lines(words)) as port:
        target = f"carlo-gavazzi_em340@tcp://127.0.0.1:{port}/1"
        polled = await meterd("poll", target, "--format", "json")
    assert samples(polled) == {**expected, "device.up": 1}
    (device,) = polled.document["devices"]
    assert device["info"]["info.serial_number"] == SERIAL_NUMBER


async def test_registers_that_libmodbus_refuses_are_absent_and_nothing_else_is(
    server: Path,
) -> None:
    words, expected = floats()
    kept = {address: some for address, some in words.items() if address < 80}
    async with first_line(server, "tcp", "80", given=lines(kept)) as port:
        target = f"eastron_sdm630@tcp://127.0.0.1:{port}/1"
        polled = await meterd("poll", target, "--format", "json")
    within = {row.quantity for row in fast_and_slow("eastron_sdm630") if row.address < 80}
    found = samples(polled)
    assert {name: found[name] for name in within} == {name: expected[name] for name in within}
    absent = {name for name in found if name not in within and name != "device.up"}
    assert len(absent) > 10
    assert {found[name] for name in absent} == {None}
    said = polled.document["devices"][0]["samples"]
    assert all("illegal data address" in said[name]["reason"] for name in absent)


@pytest.mark.needs("socat")
@pytest.mark.parametrize("model", ["eastron_sdm630", "carlo-gavazzi_em340"])
async def test_over_a_serial_line(server: Path, tmp_path: Path, model: str) -> None:
    words, expected = floats() if "sdm" in model else little_endian_words()
    async with (
        pty_pair(tmp_path) as (ours, theirs),
        first_line(server, "rtu", theirs, str(EM340_REGISTERS), given=lines(words)),
    ):
        target = f"{model}@serial://{ours}?baud=9600&unit=1"
        polled = await meterd("poll", target, "--format", "json")
    assert samples(polled) == {**expected, "device.up": 1}
