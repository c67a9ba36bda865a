"""The driver of Modbus meters, at a simulated meter that refuses some of its registers."""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from meterd.drivers.modbus import ModbusMeter, ModbusOptions
from meterd.errors import DeviceError, LinkError
from meterd.model.sample import Reading
from meterd.sim.faults import SimulatedFault
from meterd.sim.frames import Adu
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import RefusalRule, RefusedRequest
from meterd.sim.transports import Framer
from meterd.testing import FakeClock
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Link, Times

pytestmark = pytest.mark.virtual

ROWS = 32
# What finding refused registers may cost on one connection.
EXTRA = 20
STATIC = 100

HEAD = """\
source: made up for this test
confidence: low
maker: Nobody
model: Refuser
limits: {max_registers: 125}
rows:
"""


class Picky:
    """Register N holds N + 1000. Notes every request; refuses those that touch `bad`."""

    def __init__(self, bad: Iterable[int] = (), code: int = RefusedRequest.ADDRESS) -> None:
        self.bad = set(bad)
        self.code = code
        self.functions = {3, 4}
        self.asked: list[range] = []

    def read(self, function: int, address: int, count: int) -> list[int]:
        wanted = range(address, address + count)
        self.asked.append(wanted)
        if function not in self.functions:
            raise RefusalRule(RefusedRequest.FUNCTION)
        if self.bad & set(wanted):
            raise RefusalRule(self.code)
        return [1000 + register for register in wanted]

    def touched_bad(self, since: int) -> bool:
        return any(self.bad & set(wanted) for wanted in self.asked[since:])


class Rig:
    """A meter with its map, behind a real link to a simulated one."""

    def __init__(self, bank: Picky, link: Link, server: ModbusServer, file: Path) -> None:
        self.bank = bank
        self.link = link
        self.server = server
        self.clock = FakeClock()
        options = ModbusOptions(map=str(file), unit=1)
        self.meter = ModbusMeter(link, options, monotonic=self.clock.monotonic)

    async def read(self) -> tuple[dict[str, Reading], int]:
        """The readings by quantity, and how many requests they cost."""
        before = len(self.bank.asked)
        readings = await self.meter.read()
        found = {reading.quantity: reading for reading in readings}
        assert len(found) == len(readings)
        return found, len(self.bank.asked) - before


def write(folder: Path, *more: str, optional: Iterable[int] = ()) -> Path:
    """A map of ROWS rows, one register each, and those of `more`."""
    rows = [
        f"  x.r{n}: {{function: 4, address: {n}, type: u16, unit: '1'"
        f"{', optional: true' if n in optional else ''}}}\n"
        for n in range(ROWS)
    ]
    file = folder / "refuser.yaml"
    file.write_text(HEAD + "".join([*rows, *more]))
    return file


@pytest.fixture
def bank() -> Picky:
    return Picky()


@pytest.fixture
async def server(bank: Picky) -> AsyncIterator[ModbusServer]:
    server = ModbusServer({1: bank})
    await server.start_tcp()
    yield server
    await server.stop()


@pytest.fixture
async def link(server: ModbusServer) -> AsyncIterator[Link]:
    link = open_link(parse(server.url), defaults={})
    yield link
    await link.close()


def present(found: dict[str, Reading]) -> dict[str, object]:
    return {name: reading.value for name, reading in found.items() if reading.value is not None}


def everything_but(*absent: int) -> dict[str, object]:
    return {f"x.r{n}": 1000 + n for n in range(ROWS) if n not in absent}


async def test_a_meter_that_refuses_nothing_is_read_in_one_request(
    bank: Picky, link: Link, server: ModbusServer, tmp_path: Path
) -> None:
    rig = Rig(bank, link, server, write(tmp_path))
    found, cost = await rig.read()
    assert present(found) == everything_but()
    assert (cost, bank.asked) == (1, [range(ROWS)])


@pytest.mark.parametrize("bad", [{0}, {13}, {ROWS - 1}, {3, 17}, {10, 11}], ids=str)
@pytest.mark.parametrize(
    "code", [RefusedRequest.ADDRESS, RefusedRequest.COUNT], ids=["address", "value"]
)
async def test_refused_rows_are_found_once_and_left_alone(
    bank: Picky, link: Link, server: ModbusServer, tmp_path: Path, bad: set[int], code: int
) -> None:
    bank.bad, bank.code = bad, code
    rig = Rig(bank, link, server, write(tmp_path))
    found, cost = await rig.read()
    assert cost <= 1 + EXTRA
    assert present(found) == everything_but(*bad)
    for register in bad:
        reading = found[f"x.r{register}"]
        assert reading.value is None
        assert f"register {register} " in reading.reason
        assert f"exception {code}" in reading.reason
    since = len(bank.asked)
    again, less = await rig.read()
    assert again == found
    assert less < cost
    assert not bank.touched_bad(since)


async def test_the_search_for_many_refused_rows_has_an_end(
    bank: Picky, link: Link, server: ModbusServer, tmp_path: Path
) -> None:
    bank.bad = set(range(0, ROWS, 3))
    rig = Rig(bank, link, server, write(tmp_path))
    found, cost = await rig.read()
    assert cost <= 1 + EXTRA
    # Not one is missing: it has its value, or a reason.
    assert found.keys() == everything_but().keys()
    good = everything_but(*bank.bad)
    assert present(found).items() <= good.items()
    assert all(reading.reason for reading in found.values() if reading.value is None)
    since = len(bank.asked)
    again, _ = await rig.read()
    assert present(again) == present(found)
    assert not bank.touched_bad(since)


async def test_optional_rows_are_absent_without_a_word(
    bank: Picky, link: Link, server: ModbusServer, tmp_path: Path
) -> None:
    bank.bad = {5, 6}
    rig = Rig(bank, link, server, write(tmp_path, optional={5}))
    for _ in range(2):
        found, _ = await rig.read()
        assert "x.r5" not in found
        assert found["x.r6"].value is None
        assert present(found) == everything_but(5, 6)


async def test_after_a_reconnect_refused_rows_are_asked_again(
    bank: Picky, link: Link, server: ModbusServer, tmp_path: Path
) -> None:
    bank.bad = {5, 13}
    rig = Rig(bank, link, server, write(tmp_path, optional={5}))
    await rig.read()
    bank.bad = set()
    assert present((await rig.read())[0]) == everything_but(5, 13)
    for line in tuple(server.lines):
        line.hang_up()
    # The meter may hang up between two polls: the one after next knows of it at the latest.
    await rig.read()
    found, _ = await rig.read()
    assert present(found) == everything_but()
    # The search may cost as much again.
    bank.bad = {9}
    await link.close()
    assert present((await rig.read())[0]) == everything_but(9)


async def test_texts_are_read_once_a_connection(
    bank: Picky, link: Link, server: ModbusServer, tmp_path: Path
) -> None:
    text = f"  info.serial_number: {{function: 3, address: {STATIC}, type: u32, tier: static}}\n"
    rig = Rig(bank, link, server, write(tmp_path, text))
    expected = str((1000 + STATIC << 16) + 1001 + STATIC)

    async def polls() -> list[tuple[str, int]]:
        """What each of three polls says of the text, and how many requests it took."""
        found = []
        for _ in range(3):
            readings, cost = await rig.read()
            text = readings.get("info.serial_number")
            found.append(("" if text is None else str(text.value), cost))
        return found

    assert await polls() == [(expected, 2), ("", 1), ("", 1)]
    await link.close()
    # The link opens in the middle of a poll, so the next one begins anew.
    assert await polls() == [("", 1), (expected, 2), ("", 1)]


async def test_a_function_that_the_meter_lacks_costs_one_request(
    bank: Picky, link: Link, server: ModbusServer, tmp_path: Path
) -> None:
    bank.functions = {4}
    many = [f"  x.h{n}: {{function: 3, address: {n}, type: u16, unit: '1'}}\n" for n in range(16)]
    rig = Rig(bank, link, server, write(tmp_path, *many))
    found, cost = await rig.read()
    assert cost == 2
    assert present(found) == everything_but()
    assert all("illegal function" in found[f"x.h{n}"].reason for n in range(16))
    assert (await rig.read())[1] == 1


async def test_half_a_poll_is_none(
    bank: Picky, link: Link, server: ModbusServer, tmp_path: Path
) -> None:
    other = "  x.other: {function: 3, address: 0, type: u16, unit: '1'}\n"
    rig = Rig(bank, link, server, write(tmp_path, other))
    server.faults = (SimulatedFault("timeout", every=2),)
    with pytest.raises(LinkError) as failure:
        await rig.read()
    assert failure.value.code == "timeout"
    server.faults = ()
    found, _ = await rig.read()
    assert present(found) == everything_but() | {"x.other": 1000}


async def test_a_meter_in_trouble_is_no_meter_that_refuses(
    bank: Picky, link: Link, server: ModbusServer, tmp_path: Path
) -> None:
    rig = Rig(bank, link, server, write(tmp_path))
    server.faults = (SimulatedFault("exception", number=4),)
    with pytest.raises(DeviceError) as failure:
        await rig.read()
    assert failure.value.code == "exception_4"
    server.faults = ()
    found, cost = await rig.read()
    assert (present(found), cost) == (everything_but(), 1)


async def test_its_plan_tells_the_bytes_of_a_poll(
    bank: Picky, link: Link, server: ModbusServer, tmp_path: Path
) -> None:
    rig = Rig(bank, link, server, write(tmp_path))
    # MBAP: 7 bytes and the PDU; the reply's has function, byte count and the registers.
    assert rig.meter.traffic() == [(7 + 5, 7 + 2 + 2 * ROWS)]


class Short(Picky):
    """Gives `most` registers at once and refuses more."""

    def __init__(self, most: int, code: int = RefusedRequest.ADDRESS) -> None:
        super().__init__()
        self.most = most
        self.no = code

    def read(self, function: int, address: int, count: int) -> list[int]:
        if count <= self.most:
            return super().read(function, address, count)
        self.asked.append(range(address, address + count))
        raise RefusalRule(self.no)


class Mute(ModbusServer):
    """Says nothing where others refuse."""

    def answer(self, request: Adu) -> Adu | None:
        reply = super().answer(request)
        return None if reply is None or reply.pdu[0] & 0x80 else reply


def blocks_of(most: int, blocks: Iterable[int]) -> int:
    """How many requests fetch blocks of so many rows of one register each."""
    return sum(-(-rows // most) for rows in blocks)


# Three groups of rows, too far from each other to be asked for together.
GROUPS = {0: ROWS, 1000: 16, 2000: 12}


def groups(folder: Path) -> Path:
    more = [
        f"  x.r{n}: {{function: 4, address: {n}, type: u16, unit: '1'}}\n"
        for first, size in GROUPS.items()
        for n in range(first, first + size)
        if first
    ]
    return write(folder, *more)


@pytest.mark.parametrize("most", [20, 11, 4, 2, 1])
@pytest.mark.parametrize(
    "code", [RefusedRequest.ADDRESS, RefusedRequest.COUNT], ids=["address", "value"]
)
async def test_a_meter_that_gives_less_at_once_than_its_map_says_loses_no_row(
    tmp_path: Path, most: int, code: int
) -> None:
    bank = Short(most, code)
    server = ModbusServer({1: bank})
    await server.start_tcp()
    link = open_link(parse(server.url), defaults={})
    try:
        rig = Rig(bank, link, server, groups(tmp_path))
        best = blocks_of(most, GROUPS.values())
        found, cost = await rig.read()
        assert len(present(found)) == len(found) == sum(GROUPS.values())
        assert all(found[f"x.r{n}"].value == 1000 + n for n in (0, ROWS - 1, 1000, 2011))
        assert cost <= best + EXTRA
        # It is known for good: neither the next poll nor a new connection searches again.
        assert (await rig.read())[1] == best
        await link.close()
        await rig.read()
        again, cost = await rig.read()
        assert (present(again), cost) == (present(found), best)
    finally:
        await link.close()
        await server.stop()


@pytest.mark.parametrize("framer", ["socket", "rtu"])
@pytest.mark.parametrize("most", [20, 11, 4])
async def test_a_meter_that_is_silent_when_asked_for_too_much_is_found_out(
    tmp_path: Path, most: int, framer: Framer
) -> None:
    bank = Short(most)
    server = Mute({1: bank}, framer=framer)
    await server.start_tcp()
    link = open_link(parse(server.url), defaults={}, times=Times(timeout=0.1))
    try:
        rig = Rig(bank, link, server, groups(tmp_path))
        with pytest.raises(LinkError, match="no answer"):
            await rig.read()
        since = len(bank.asked)
        found, _ = await rig.read()
        best = blocks_of(most, GROUPS.values())
        assert len(bank.asked) - since <= best + EXTRA
        assert len(present(found)) == len(found) == sum(GROUPS.values())
        await link.close()
        since = len(bank.asked)
        assert len(present((await rig.read())[0])) == len(found)
        assert len(bank.asked) - since <= 2 * best
    finally:
        await link.close()
        await server.stop()


async def test_a_meter_that_is_not_there_is_asked_once_a_poll(tmp_path: Path) -> None:
    server = ModbusServer({2: Picky()})
    server.faults = (SimulatedFault("timeout"),)
    await server.start_tcp()
    link = open_link(parse(server.url), defaults={}, times=Times(timeout=0.02))
    try:
        rig = Rig(Picky(), link, server, write(tmp_path))
        for polls in range(1, 6):
            with pytest.raises(LinkError):
                await rig.meter.read()
            assert link.counters["exchanges"] == polls
    finally:
        await link.close()
        await server.stop()


async def test_two_meters_of_one_model_behind_a_gateway_are_asked_for_different_lengths(
    tmp_path: Path,
) -> None:
    rows = [f"  x.s{n}: {{function: 4, address: {ROWS + n}, type: u16, unit: '1', tier: slow}}\n"
            for n in range(4)]  # fmt: skip
    file = write(tmp_path, *rows)
    banks = {unit: Picky() for unit in (1, 2, 3)}
    server = ModbusServer(banks)
    await server.start_tcp()
    link = open_link(parse(server.url), defaults={})
    try:
        options = {unit: ModbusOptions(map=str(file), unit=unit) for unit in banks}
        meters = [ModbusMeter(link, one, interval=1.0) for one in options.values()]
        for _ in range(4):
            said = [{r.quantity: r.value for r in await meter.read()} for meter in meters]
        # An ordinary poll: what nobody wants may come along, but only what is known.
        lengths = [len(bank.asked[-1]) for bank in banks.values()]
        assert sorted(lengths) == [ROWS, ROWS + 1, ROWS + 2]
        assert all(one == everything_but() for one in said)
    finally:
        await link.close()
        await server.stop()


async def test_what_is_learnt_of_one_meter_is_not_held_against_its_twin(tmp_path: Path) -> None:
    """One model, one map, one bus: one gives 11 registers at once, another 20, one refuses one."""
    banks = {1: Short(11), 2: Short(20), 3: Picky({5}), 4: Picky()}
    server = ModbusServer(banks)
    await server.start_tcp()
    link = open_link(parse(server.url), defaults={})
    try:
        file = str(groups(tmp_path))
        options = {unit: ModbusOptions(map=file, unit=unit) for unit in banks}
        meters = {unit: ModbusMeter(link, one, interval=1.0) for unit, one in options.items()}
        said: dict[int, dict[str, object]] = {}
        for _ in range(3):
            for unit, meter in meters.items():
                since = len(banks[unit].asked)
                said[unit] = {r.quantity: r.value for r in await meter.read()}
        for unit, most in {1: 11, 2: 20}.items():
            asked = banks[unit].asked[-blocks_of(most, GROUPS.values()) :]
            assert max(len(one) for one in asked) <= most
        assert len(banks[4].asked) - since == len(GROUPS)
        whole = said[4]
        assert None not in whole.values()
        assert len(whole) == sum(GROUPS.values())
        assert said[1] == said[2] == whole
        assert said[3] == {**whole, "x.r5": None}
    finally:
        await link.close()
        await server.stop()
