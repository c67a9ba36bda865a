"""What a reply is taken for, frame by frame: no link, and virtual time."""

import asyncio
import struct
from typing import cast

import pytest

from meterd.errors import ProtocolError
from meterd.sim.frames import with_crc
from meterd.wire.link import Link
from meterd.wire.replies import RtuReply, payload, shape, shown, split_rtu
from meterd.wire.traffic import HeardFrame, Read, Traffic
from tests.virtual import virtual
from tests.wire.test_fuzz import NoLink

UNIT = 7


class Line(NoLink):
    """A link that a `Traffic` can be of."""

    timeout = 0.5
    url = "tcp://192.0.2.1:502"


def asked(function: int, address: int, count: int) -> bytes:
    return with_crc(struct.pack(">BBHH", UNIT, function, address, count))


def answered(*registers: int) -> bytes:
    return with_crc(struct.pack(f">BBB{len(registers)}H", UNIT, 3, 2 * len(registers), *registers))


def reply(traffic: Traffic, read: Read) -> RtuReply:
    size = payload(read[0], read[2])
    return RtuReply(cast("Link", traffic._link), UNIT, read[0], size, traffic=traffic, read=read)


@pytest.mark.parametrize("function", [1, 2])
def test_bits_come_eight_to_a_byte(function: int) -> None:
    assert [payload(function, count) for count in (1, 8, 9, 2000)] == [1, 1, 2, 250]
    assert [shape(function, count) for count in (1, 8, 9, 2000)] == [1, 1, 2, 250]


@pytest.mark.parametrize("function", [3, 4])
def test_registers_come_as_two_bytes_each(function: int) -> None:
    assert [payload(function, count) for count in (1, 125)] == [2, 250]
    assert [shape(function, count) for count in (1, 125)] == [1, 125]


@pytest.mark.parametrize(
    ("function", "most", "shows"), [(1, 2000, 250), (2, 2000, 250), (3, 125, 125), (4, 125, 125)]
)
def test_a_read_of_somebody_else_is_heard_up_to_what_one_may_ask(
    function: int, most: int, shows: int
) -> None:
    for count, shown_count in ((most, shows), (1, 1)):
        request = asked(function, 0, count)
        (heard,) = split_rtu(request)
        assert heard == HeardFrame(request, UNIT, function, shown_count, is_request=True)
    for count in (0, most + 1):
        assert list(split_rtu(asked(function, 0, count))) == []


@pytest.mark.parametrize(("function", "count", "other"), [(1, 16, 17), (2, 16, 17), (3, 2, 3)])
def test_who_asks_for_as_much_of_the_same_unit_is_a_rival(
    function: int, count: int, other: int
) -> None:
    mine = RtuReply(cast("Link", NoLink()), UNIT, function, payload(function, count))
    for asked_for, is_rival in ((other, False), (count, True)):
        mine.unmatched.extend(split_rtu(asked(function, 99, asked_for)))
        assert mine.has_rival_request() is is_rival


def test_the_first_twelve_bytes_are_shown_and_that_there_were_more() -> None:
    assert shown(bytes(range(12))) == "00 01 02 03 04 05 06 07 08 09 0a 0b"
    assert shown(bytes(range(13))) == "00 01 02 03 04 05 06 07 08 09 0a 0b …"


@virtual
async def test_before_the_answer_a_copy_of_an_earlier_one_is_passed_over() -> None:
    line = Line()
    traffic = Traffic(cast("Link", line), split_rtu)
    traffic.keep(answered(1, 2), (3, 0, 2), asyncio.get_running_loop().time())
    await asyncio.sleep(0.1)
    buffer = bytearray(answered(1, 2) + answered(3, 4))
    assert reply(traffic, (3, 10, 2)).parse(buffer) == struct.pack(">2H", 3, 4)
    assert (bytes(buffer), line.counters["copies"]) == (b"", 1)


@virtual
async def test_three_answers_that_came_in_pairs_prove_that_the_fourth_is_one() -> None:
    line = Line()
    traffic = Traffic(cast("Link", line), split_rtu)
    for value in (1, 2, 3):
        with pytest.raises(ProtocolError, match="two replies"):
            reply(traffic, (3, value, 2)).parse(bytearray(answered(value, 9) * 2))
    buffer = bytearray(answered(4, 9) * 2)
    assert reply(traffic, (3, 4, 2)).parse(buffer) == struct.pack(">2H", 4, 9)
    assert (bytes(buffer), line.counters["copies"]) == (b"", 1)
