"""What the server puts on the wire, byte by byte, rightly and on request wrongly."""

import asyncio
import struct
from pathlib import Path

import pytest

from meterd.errors import ConfigError
from meterd.sim.fault_effects import FAULT_ACTIONS, SOCKET_ONLY
from meterd.sim.faults import SimulatedFault
from meterd.sim.frames import with_crc
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import FixedBank
from meterd.sim.transports import Framer
from tests.sim.raw import Heard, RawClient, raw, registers

pytestmark = pytest.mark.virtual

FRAMERS: tuple[Framer, ...] = ("socket", "rtu")
ADDRESS, COUNT, TID = 4, 6, 0x0102
DATA = registers(ADDRESS, COUNT)

both = pytest.mark.parametrize("framer", FRAMERS)


def wrap(framer: Framer, pdu: bytes, unit: int = 1, tid: int = TID) -> bytes:
    """A frame, put together without the code under test where it is not a CRC."""
    if framer == "rtu":
        return with_crc(bytes([unit]) + pdu)
    return struct.pack(">HHHB", tid, 0, len(pdu) + 1, unit) + pdu


def read(framer: Framer, unit: int = 1, tid: int = TID) -> bytes:
    return wrap(framer, struct.pack(">BHH", 4, ADDRESS, COUNT), unit, tid)


def good(framer: Framer, unit: int = 1, tid: int = TID) -> bytes:
    data = registers(ADDRESS, COUNT, unit)
    return wrap(framer, bytes([4, len(data)]) + data, unit, tid)


def test_a_reply_is_exactly_these_bytes() -> None:
    # 1004 = 0x03EC … 1009 = 0x03F1
    registers_hex = "03EC 03ED 03EE 03EF 03F0 03F1"
    assert good("socket") == bytes.fromhex(f"0102 0000 000F 01 04 0C {registers_hex}")


@both
async def test_a_request_is_answered(framer: Framer) -> None:
    async with raw(framer) as (server, client):
        assert await client.ask(read(framer)) == Heard(good(framer))
        assert await client.ask(read(framer, unit=2)) == Heard(good(framer, unit=2))
        assert server.requests == 2
        assert not server.injected


@both
async def test_requests_in_one_packet_are_answered_in_turn(framer: Framer) -> None:
    async with raw(framer) as (_, client):
        request = read(framer) + read(framer, unit=2)
        assert await client.ask(request) == Heard(good(framer) + good(framer, unit=2))


@both
@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        (bytes.fromhex("03 0004 0001"), 1),
        (bytes.fromhex("06 0004 0001"), 1),
        (bytes.fromhex("04 0028 0001"), 2),
        (bytes.fromhex("04 0004 0000"), 3),
        (bytes.fromhex("04 0000 007E"), 3),
    ],
)
async def test_what_a_meter_cannot_do_is_an_exception(
    framer: Framer, pdu: bytes, code: int
) -> None:
    async with raw(framer) as (_, client):
        refusal = wrap(framer, bytes([pdu[0] | 0x80, code]))
        assert await client.ask(wrap(framer, pdu)) == Heard(refusal)


async def test_coils_are_packed_lowest_first() -> None:
    server = ModbusServer(
        {1: FixedBank({2: {0: 1, 1: 0, 2: 1, 8: 1} | dict.fromkeys(range(3, 8), 0)})}
    )
    await server.start_tcp()
    client = RawClient(server)
    await client.open()
    heard = await client.ask(wrap("socket", bytes.fromhex("02 0000 0009")))
    assert heard.data == wrap("socket", bytes.fromhex("02 02 05 01"))
    await client.close()
    await server.stop()


@both
async def test_a_unit_that_is_not_there_says_nothing(framer: Framer) -> None:
    async with raw(framer) as (_, client):
        assert await client.ask(read(framer, unit=9)) == Heard(b"")


async def test_a_gateway_may_say_that_a_unit_is_not_there() -> None:
    async with raw("socket", unknown_unit="refuse") as (_, client):
        refusal = wrap("socket", b"\x84\x0b", unit=9)
        assert await client.ask(read("socket", unit=9)) == Heard(refusal)


async def test_a_stream_that_is_no_modbus_is_closed() -> None:
    async with raw("socket") as (_, client):
        assert await client.ask(b"GET / HTTP/1.1\r\n\r\n") == Heard(b"", "eof")


async def test_a_request_with_a_bad_crc_is_not_answered() -> None:
    async with raw("rtu") as (_, client):
        assert await client.ask(read("rtu")[:-1] + b"\0") == Heard(b"")
        assert await client.ask(read("rtu")) == Heard(good("rtu"))


async def test_half_an_rtu_request_is_forgotten_after_silence() -> None:
    async with raw("rtu") as (_, client):
        assert await client.ask(read("rtu")[:5]) == Heard(b"")
        assert await client.ask(read("rtu")) == Heard(good("rtu"))


# The faults.


@both
async def test_timeout_says_nothing(framer: Framer) -> None:
    async with raw(framer, SimulatedFault("timeout", every=2)) as (server, client):
        assert await client.ask(read(framer)) == Heard(good(framer))
        assert await client.ask(read(framer)) == Heard(b"")
        assert server.injected == {"timeout": 1}


@both
async def test_late_comes_after_the_reply_to_the_next_request(framer: Framer) -> None:
    async with raw(framer, SimulatedFault("late", seconds=0.3)) as (server, client):
        assert await client.ask(read(framer)) == Heard(b"")
        server.faults = ()
        assert await client.ask(read(framer, unit=2, tid=7)) == Heard(good(framer, 2, 7))
        assert await client.listen(0.3) == Heard(good(framer))


async def test_behind_a_shared_wire_a_late_reply_meets_the_next_connection() -> None:
    async with raw("rtu", SimulatedFault("late", seconds=0.2), shared_wire=True) as (
        server,
        client,
    ):
        assert await client.ask(read("rtu"), 0.05) == Heard(b"")
        await client.close()
        again = RawClient(server)
        await again.open()
        assert await again.listen(0.4) == Heard(good("rtu"))
        await again.close()


@both
async def test_wrong_unit_and_function_change_only_that(framer: Framer) -> None:
    data = bytes([len(DATA)]) + DATA
    async with raw(framer, SimulatedFault("wrong_unit")) as (server, client):
        assert await client.ask(read(framer)) == Heard(wrap(framer, b"\x04" + data, unit=2))
        server.faults = (SimulatedFault("wrong_function"),)
        assert await client.ask(read(framer)) == Heard(wrap(framer, b"\x01" + data))


async def test_transaction_ids_are_wrong_or_zero() -> None:
    async with raw("socket", SimulatedFault("wrong_tid")) as (server, client):
        heard = await client.ask(read("socket"))
        assert heard.data[2:] == good("socket")[2:]
        assert heard.data[:2] not in (b"\0\0", b"\1\2")
        server.faults = (SimulatedFault("zero_tid"),)
        assert await client.ask(read("socket")) == Heard(good("socket", tid=0))


@pytest.mark.parametrize("kind", sorted(SOCKET_ONLY))
async def test_rtu_has_no_transaction_id_to_get_wrong(kind: str) -> None:
    with pytest.raises(ConfigError, match=kind):
        ModbusServer({}, framer="rtu", faults=[SimulatedFault(kind)])


@both
async def test_wrong_count_is_a_register_less(framer: Framer) -> None:
    async with raw(framer, SimulatedFault("wrong_count")) as (_, client):
        short = wrap(framer, bytes([4, len(DATA) - 2]) + DATA[:-2])
        assert await client.ask(read(framer)) == Heard(short)


@both
async def test_lying_count_has_the_registers_but_another_number(framer: Framer) -> None:
    async with raw(framer, SimulatedFault("lying_count")) as (_, client):
        place = 2 if framer == "rtu" else 8
        for _ in range(5):
            heard = (await client.ask(read(framer), 0.05)).data
            lie = heard[place]
            assert lie != len(DATA)
            assert heard == wrap(framer, bytes([4, lie]) + DATA)


@both
async def test_truncate_cuts_where_it_is_told(framer: Framer) -> None:
    async with raw(framer) as (server, client):
        for end in range(1, len(good(framer))):
            server.faults = (SimulatedFault("truncate", number=end),)
            assert await client.ask(read(framer), 0.02) == Heard(good(framer)[:end])
        server.faults = (SimulatedFault("truncate"),)
        heard = (await client.ask(read(framer))).data
        assert 0 < len(heard) < len(good(framer))
        assert good(framer).startswith(heard)


@both
async def test_garbage_is_something_else_entirely(framer: Framer) -> None:
    async with raw(framer, SimulatedFault("garbage")) as (_, client):
        heard = (await client.ask(read(framer))).data
        assert heard
        assert DATA not in heard


@both
async def test_extra_is_somebody_elses_valid_reply_before_the_right_one(framer: Framer) -> None:
    foreign = set()
    async with raw(framer, SimulatedFault("extra")) as (server, client):
        for _ in range(12):
            heard = (await client.ask(read(framer), 0.03)).data
            assert heard.endswith(good(framer))
            foreign.add(heard.removesuffix(good(framer)))
        assert server.injected["extra"] == 12
    of_unit_2 = good(framer, unit=2)
    assert of_unit_2 in foreign
    (of_other_block,) = foreign - {of_unit_2}
    if framer == "rtu":
        data = registers(ADDRESS + 1, COUNT - 1)
        assert of_other_block == wrap(framer, bytes([4, len(data)]) + data)
    else:
        data = registers(ADDRESS + COUNT, COUNT)
        assert of_other_block == wrap(framer, bytes([4, len(data)]) + data, tid=TID - 1)


@both
async def test_duplicate_says_it_twice(framer: Framer) -> None:
    async with raw(framer, SimulatedFault("duplicate")) as (_, client):
        assert await client.ask(read(framer)) == Heard(2 * good(framer))


@both
async def test_dribble_comes_byte_by_byte_and_the_next_reply_waits(framer: Framer) -> None:
    async with raw(framer, SimulatedFault("dribble", seconds=0.03)) as (server, client):
        begun = (await client.ask(read(framer), 0.02)).data
        assert 0 < len(begun) < len(good(framer))
        server.faults = ()
        rest = (await client.ask(read(framer, unit=2))).data
        assert begun + rest == good(framer) + good(framer, unit=2)


@both
async def test_exception_and_busy_are_refusals(framer: Framer) -> None:
    async with raw(framer, SimulatedFault("exception", number=0x42)) as (server, client):
        assert await client.ask(read(framer)) == Heard(wrap(framer, b"\x84\x42"))
        server.faults = (SimulatedFault("busy", number=2),)
        replies = [(await client.ask(read(framer), 0.03)).data for _ in range(3)]
        busy = wrap(framer, b"\x84\x06")
        assert replies == [busy, busy, good(framer)]
        assert server.injected == {"exception": 1, "busy": 2}


@both
async def test_close_and_reset_end_the_connection(framer: Framer) -> None:
    async with raw(framer, SimulatedFault("close")) as (server, client):
        assert await client.ask(read(framer)) == Heard(b"", "eof")
        await client.open()
        server.faults = (SimulatedFault("reset"),)
        half = good(framer)[: len(good(framer)) // 2]
        assert await client.ask(read(framer)) == Heard(half, "reset")


@both
async def test_unplug_goes_away_and_comes_back_on_the_same_port(framer: Framer) -> None:
    async with raw(framer, SimulatedFault("unplug", seconds=0.3)) as (server, client):
        port = server.port
        assert (await client.ask(read(framer))).ending == "eof"
        with pytest.raises(ConnectionRefusedError):
            await client.open()
        await asyncio.sleep(0.35)
        server.faults = ()
        await client.open()
        assert await client.ask(read(framer)) == Heard(good(framer))
        assert server.port == port


async def test_a_refusal_has_no_registers_to_spoil() -> None:
    async with raw("socket", SimulatedFault("wrong_count")) as (server, client):
        request = wrap("socket", bytes.fromhex("04 0028 0001"))
        assert await client.ask(request) == Heard(wrap("socket", b"\x84\x02"))
        assert not server.injected


async def test_the_same_seed_misbehaves_the_same() -> None:
    faults = [SimulatedFault(kind, 0.3) for kind in ("garbage", "wrong_tid", "truncate", "extra")]
    seen = []
    for seed in (3, 3, 4):
        async with raw("socket", *faults, seed=seed) as (_, client):
            seen.append([(await client.ask(read("socket"), 0.01)).data for _ in range(20)])
    assert seen[0] == seen[1] != seen[2]


def test_every_fault_is_tried_above() -> None:
    source = Path(__file__).read_text("utf-8")
    assert all(f'"{kind}"' in source for kind in FAULT_ACTIONS)


async def test_a_port_that_is_taken_is_a_clear_error() -> None:
    async with raw("socket") as (server, _):
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{server.port}"):
            await ModbusServer({}).start_tcp("127.0.0.1", server.port)
