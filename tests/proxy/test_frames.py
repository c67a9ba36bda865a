"""Requests of other programs, taken apart byte by byte."""

import asyncio
import struct

import pytest

from meterd.proxy.frames import (
    NoModbusFrame,
    ProxyRefusal,
    ProxyRequest,
    RegisterSpan,
    next_request,
    payload_bytes,
    span_of,
)


def pdu(function: int, address: int = 0, count: int = 1) -> bytes:
    return struct.pack(">BHH", function, address, count)


async def cut(data: bytes) -> ProxyRequest:
    reader = asyncio.StreamReader()
    reader.feed_data(data[7:])
    reader.feed_eof()
    return await next_request(reader, data[:7])


async def test_a_request_and_its_answers_byte_by_byte() -> None:
    request = await cut(bytes.fromhex("1234 0000 0006 11 04 0048 0002"))
    assert request == ProxyRequest(0x1234, 0x11, bytes.fromhex("04 0048 0002"))
    assert span_of(request.pdu) == RegisterSpan(4, 72, 2)
    assert request.answer(b"\x43\x66\x19\x9a") == bytes.fromhex("1234 0000 0007 11 04 04 4366199A")
    assert request.refusal(11) == bytes.fromhex("1234 0000 0003 11 84 0B")


@pytest.mark.parametrize(
    "header",
    [
        "0001 0001 0006 01",  # protocol
        "0001 0000 0000 01",
        "0001 0000 0001 01",  # no function
        "0001 0000 00FF 01",
        "0001 0000 EA60 01",
        "4745 5420 2F20 48",  # GET / H
    ],
)
async def test_what_is_no_modbus_ends_the_stream(header: str) -> None:
    with pytest.raises(NoModbusFrame):
        await cut(bytes.fromhex(header) + bytes(300))


@pytest.mark.parametrize("function", [1, 2, 3, 4])
def test_the_four_reads_are_taken(function: int) -> None:
    most = 2000 if function <= 2 else 125
    for count in (1, most):
        assert span_of(pdu(function, 7, count)) == RegisterSpan(function, 7, count)
    for count in (0, most + 1, 0xFFFF):
        with pytest.raises(ProxyRefusal) as caught:
            span_of(pdu(function, 7, count))
        assert caught.value.code == 3


@pytest.mark.parametrize("function", sorted(set(range(256)) - {1, 2, 3, 4}))
def test_every_other_function_is_exception_1(function: int) -> None:
    with pytest.raises(ProxyRefusal) as caught:
        span_of(pdu(function))
    assert caught.value.code == 1
    writes = function in (5, 6, 15, 16, 21, 22, 23)
    assert caught.value.cause == ("writes" if writes else "other_functions")


@pytest.mark.parametrize("size", [1, 2, 4, 6, 253])
def test_a_read_of_another_length_is_exception_3(size: int) -> None:
    with pytest.raises(ProxyRefusal) as caught:
        span_of(bytes([4]) + bytes(size - 1))
    assert caught.value.code == 3


def test_registers_end_at_65535() -> None:
    assert span_of(pdu(4, 0xFFFF, 1)).end == 0x10000
    with pytest.raises(ProxyRefusal) as caught:
        span_of(pdu(4, 0xFFFF, 2))
    assert caught.value.code == 2


def test_bits_are_packed_by_eight() -> None:
    assert [payload_bytes(RegisterSpan(1, 0, n)) for n in (1, 8, 9, 2000)] == [1, 1, 2, 250]
    assert payload_bytes(RegisterSpan(3, 0, 125)) == 250
