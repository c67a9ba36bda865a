"""Answers that are not as asked: what the fault says of them, and which setting would help."""

import asyncio
import struct
from pathlib import Path

import pytest

from meterd.drivers.modbus import ModbusMeter, ModbusOptions
from meterd.errors import LinkError
from meterd.sim.frames import with_crc
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Link, Times
from meterd.wire.modbus import ModbusClient, Refused
from tests.virtual import virtual
from tests.virtual.modbus import Asked, Behave, Piece, Scripted, answer, before

LATENCY = 0.01


async def asked(
    behave: Behave, *, framer: str = "socket", link_framer: str = "", unit: int = 1, polls: int = 1
) -> tuple[str, bytes, Link]:
    """What reading 4 registers from 10 says: the fault, or the registers, and its link."""
    server = Scripted(_places, framer=framer, behave=behave)  # type: ignore[arg-type]
    await server.start_tcp()
    url = server.url.replace(f"framer={framer}", f"framer={link_framer or framer}")
    link = open_link(parse(url), defaults={}, times=Times(timeout=0.3))
    client = ModbusClient(link, unit)
    text, data = "", b""
    for _ in range(polls):
        try:
            data = await client.read(3, 10, 4)
        except LinkError as error:
            text = str(error)
        await asyncio.sleep(0.5)
    await link.close()
    await server.stop()
    return text, data, link


def _places(_: int, __: int, address: int, count: int) -> list[int]:
    return list(range(address, address + count))


RIGHT = struct.pack(">4H", 10, 11, 12, 13)


def wide(request: Asked, _: bytes) -> list[Piece]:
    body = bytes([request.unit]) + answer(3, [1, 2] * request.count)
    if request.tid:
        return [(LATENCY, struct.pack(">HHH", request.tid, 0, len(body)) + body)]
    return [(LATENCY, with_crc(body))]


def as_unit(unit: int) -> Behave:
    def behave(request: Asked, reply: bytes) -> list[Piece]:
        if request.tid:
            return [(LATENCY, reply[:6] + bytes([unit]) + reply[7:])]
        return [(LATENCY, with_crc(bytes([unit]) + reply[1:-2]))]

    return behave


@pytest.mark.parametrize("framer", ["socket", "rtu"])
@virtual
async def test_twice_as_many_words_are_said_to_be_wide_registers(framer: str) -> None:
    text, _, _ = await asked(wide, framer=framer)
    assert "asked unit 1, function 3, 4 registers (8 bytes)" in text
    assert "got unit 1, function 3, 16 bytes: 03 10 00 01" in text
    assert "limits: {words: wide}" in text


@pytest.mark.parametrize("framer", ["socket", "rtu"])
@pytest.mark.parametrize("unit", [0, 1, 255])
@virtual
async def test_a_server_that_answers_as_another_unit_is_named_with_the_setting(
    framer: str, unit: int
) -> None:
    text, _, _ = await asked(as_unit(unit), framer=framer, unit=7)
    assert "asked unit 7" in text
    assert f"got unit {unit}, function 3, 8 bytes" in text
    assert f"set `unit: {unit}`" in text


@virtual
async def test_a_length_that_is_one_too_long_is_read() -> None:
    def long(_: Asked, reply: bytes) -> list[Piece]:
        return [(LATENCY, reply[:5] + bytes([reply[5] + 1]) + reply[6:])]

    text, data, link = await asked(long, polls=3)
    assert (text, data) == ("", RIGHT)
    assert link.counters["long_length"] == 3
    assert link.counters["opened"] == 1


@virtual
async def test_a_refusal_whose_length_is_one_too_long_is_one() -> None:
    server = Scripted(_places, behave=lambda a, r: [(LATENCY, r[:5] + b"\x04" + r[6:])])
    server.refuses = 2
    await server.start_tcp()
    link = open_link(parse(server.url), defaults={}, times=Times(timeout=0.3))
    with pytest.raises(Refused):
        await ModbusClient(link, 1).read(3, 10, 4)
    await link.close()
    await server.stop()


@virtual
async def test_a_longer_frame_is_not_cut_to_what_was_asked() -> None:
    """The length says one more, and one more byte follows: it is no part of what comes next."""

    def padded(_: Asked, reply: bytes) -> list[Piece]:
        return [(LATENCY, reply[:5] + bytes([reply[5] + 1]) + reply[6:] + b"\xaa")]

    text, data, _ = await asked(padded, polls=3)
    assert "wrong_count" in text
    assert data == b""


@pytest.mark.parametrize("framer", ["socket", "rtu"])
@virtual
async def test_four_stray_bytes_before_a_frame_are_passed_over(framer: str) -> None:
    text, data, link = await asked(before(b"\xde\xad\xbe\xef"), framer=framer, polls=3)
    assert (text, data) == ("", RIGHT)
    assert link.counters["noise"] > 0


@virtual
async def test_bytes_left_behind_a_frame_do_not_spoil_the_next() -> None:
    text, data, _ = await asked(lambda _, r: [(LATENCY, r + b"\x12\x34")], polls=3)
    assert (text, data) == ("", RIGHT)


@virtual
async def test_serial_frames_where_modbus_tcp_was_expected_are_named() -> None:
    def rtu(request: Asked, _: bytes) -> list[Piece]:
        return [(LATENCY, with_crc(b"\x01" + answer(3, [1, 2, 3, 4])))]

    text, _, _ = await asked(rtu)
    assert "got 01 03 08 00 01 00 02" in text
    assert "?framer=rtu" in text
    assert "asked unit 1, function 3, 4 registers" in text


@virtual
async def test_a_serial_refusal_where_modbus_tcp_was_expected_is_named() -> None:
    text, _, _ = await asked(lambda _, r: [(LATENCY, with_crc(b"\x01\x83\x02"))])
    assert "01 83 02" in text
    assert "?framer=rtu" in text


@virtual
async def test_modbus_tcp_where_serial_frames_were_expected_is_named() -> None:
    def tcp(request: Asked, _: bytes) -> list[Piece]:
        return [(LATENCY, b"\x00\x01\x00\x00\x00\x0b\x01" + answer(3, [1, 2, 3, 4]))]

    text, _, _ = await asked(tcp, framer="rtu")
    assert "got bytes that are no frame: 00 01 00 00 00 0b 01 03" in text
    assert "leave ?framer" in text


WIDE = """
limits: {words: wide}
rows:
  x.float: {function: 3, address: 10, type: f32}
  x.small: {function: 3, address: 11, type: u16}
  x.long: {function: 4, address: 40000, type: u32}
"""


@pytest.mark.parametrize("framer", ["socket", "rtu"])
@virtual
async def test_a_map_of_wide_registers_reads_them(framer: str, tmp_path: Path) -> None:
    file = tmp_path / "wide.yaml"
    file.write_text(WIDE)
    held = {10: struct.unpack(">HH", struct.pack(">f", 230.5)), 11: (0, 77), 40000: (1, 2)}

    def read(_: int, __: int, address: int, count: int) -> list[int]:
        return [word for n in range(address, address + count) for word in held[n]]

    server = Scripted(read, framer=framer)  # type: ignore[arg-type]
    await server.start_tcp()
    link = open_link(parse(server.url), defaults={}, times=Times(timeout=0.3))
    meter = ModbusMeter(link, ModbusOptions(map=str(file)))
    values = {reading.quantity: reading.value for reading in await meter.read()}
    assert values == {"x.float": 230.5, "x.small": 77, "x.long": 65538}
    assert [(a.function, a.address, a.count) for a in server.log] == [(3, 10, 2), (4, 40000, 1)]
    await link.close()
    await server.stop()
