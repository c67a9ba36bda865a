"""Writes: sent once, done only when the unit repeats them."""

import pytest
from pymodbus.framer import FramerAscii, FramerRTU
from pymodbus.pdu import DecodePDU

from meterd.errors import LinkError
from meterd.testing import ScriptedLink
from meterd.wire.modbus import Refused
from meterd.wire.write import write

RTU = FramerRTU(DecodePDU(is_server=False))
ASCII = FramerAscii(DecodePDU(is_server=False))
ONE = bytes.fromhex("06 1000 CAFE")
SEVERAL = bytes.fromhex("10 1000 0002 04 CAFE 0007")
ECHO = bytes.fromhex("10 1000 0002")


def frame(pdu: bytes, unit: int = 3) -> bytes:
    return RTU.encode(pdu, unit, 0)


def mbap(pdu: bytes, unit: int = 3, ticket: int = 1) -> bytes:
    return (
        ticket.to_bytes(2, "big")
        + b"\0\0"
        + (len(pdu) + 1).to_bytes(2, "big")
        + bytes([unit])
        + pdu
    )


@pytest.mark.parametrize("chop", [0, 1, 3])
async def test_one_register_is_written_when_the_unit_repeats_it(chop: int) -> None:
    for framer, wrap in (
        ("rtu", frame),
        ("socket", mbap),
        ("ascii", lambda p: ASCII.encode(p, 3, 0)),
    ):
        link = ScriptedLink({wrap(ONE): wrap(ONE)}, chop=chop, framer=framer)
        await write(link, 3, 6, 0x1000, (0xCAFE,))
        assert link.sent == [wrap(ONE)]


async def test_several_are_written_when_the_unit_tells_their_number() -> None:
    for framer, wrap in (("rtu", frame), ("socket", mbap)):
        link = ScriptedLink({wrap(SEVERAL): wrap(ECHO)}, framer=framer)
        await write(link, 3, 16, 0x1000, (0xCAFE, 7))
        assert link.sent == [wrap(SEVERAL)]


@pytest.mark.parametrize("exception", [1, 2, 3])
async def test_a_no_is_a_refusal(exception: int) -> None:
    for framer, wrap in (("rtu", frame), ("socket", mbap)):
        link = ScriptedLink({wrap(ONE): wrap(bytes([0x86, exception]))}, framer=framer)
        with pytest.raises(Refused):
            await write(link, 3, 6, 0x1000, (0xCAFE,))


@pytest.mark.parametrize(
    "reply",
    [
        bytes.fromhex("06 1000 CAFF"),  # another value
        bytes.fromhex("06 1001 CAFE"),  # another register
        bytes.fromhex("10 1000 0001"),  # another function
        bytes.fromhex("03 02 CAFE"),  # an answer to a read
    ],
)
async def test_what_is_not_the_same_is_no_yes_and_is_not_sent_again(reply: bytes) -> None:
    for framer, wrap in (("rtu", frame), ("socket", mbap)):
        link = ScriptedLink({wrap(ONE): wrap(reply)}, framer=framer)
        with pytest.raises(LinkError, match="nobody knows whether register 4096 was written"):
            await write(link, 3, 6, 0x1000, (0xCAFE,))
        assert len(link.sent) == 1


async def test_another_units_reply_is_no_yes() -> None:
    for framer, wrap in (("rtu", frame), ("socket", mbap)):
        link = ScriptedLink({wrap(ONE): wrap(ONE, 4)}, framer=framer)
        with pytest.raises(LinkError):
            await write(link, 3, 6, 0x1000, (0xCAFE,))
        assert link.counters["wrong_unit"] == 1


async def test_another_transactions_reply_is_no_yes() -> None:
    link = ScriptedLink({mbap(ONE): mbap(ONE, ticket=9)}, framer="socket")
    with pytest.raises(LinkError):
        await write(link, 3, 6, 0x1000, (0xCAFE,))


async def test_function_6_writes_one() -> None:
    with pytest.raises(ValueError, match="function 6 writes no 2 registers"):
        await write(ScriptedLink({}), 3, 6, 0, (1, 2))


@pytest.mark.parametrize("chop", [0, 1])
async def test_noise_and_a_copy_around_the_reply_change_nothing(chop: int) -> None:
    link = ScriptedLink({frame(ONE): b"\x00\x10" + frame(ONE) + frame(ONE)}, chop=chop)
    await write(link, 3, 6, 0x1000, (0xCAFE,))
    assert link.sent == [frame(ONE)]


async def test_a_lying_length_is_no_yes() -> None:
    long = mbap(ONE)[:5] + b"\x07" + mbap(ONE)[6:]
    link = ScriptedLink({mbap(ONE): long}, framer="socket")
    with pytest.raises(LinkError, match="nobody knows"):
        await write(link, 3, 6, 0x1000, (0xCAFE,))
