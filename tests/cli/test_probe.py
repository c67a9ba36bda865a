"""`meterd probe`: one register in every decoding, and what address was really sent."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import FixedBank
from tests.cli.command import Ended, meterd
from tests.cli.inside import inside

# 230.4 as a float at 70, big-endian; SDM630 as text at 100.
HOLDING = {69: 0, 70: 0x4366, 71: 0x6666, 72: 0, 73: 0}
TEXT = {100: 0x5344, 101: 0x4D36, 102: 0x3330, 103: 0}


@pytest.fixture
async def meter() -> AsyncIterator[ModbusServer]:
    server = ModbusServer({1: FixedBank({3: {**HOLDING, **TEXT}})})
    await server.start_tcp()
    yield server
    await server.stop()


async def probe(server: ModbusServer, *words: str) -> Ended:
    return await meterd("probe", f"{server.url}/1", *words, "--format", "json")


def row(done: Ended, kind: str, order: str = "") -> dict[str, object]:
    rows = done.document["decodings"]
    [found] = [one for one in rows if (one["type"], one["order"]) == (kind, order)]
    assert isinstance(found, dict)
    return found


async def test_a_register_and_its_neighbours_are_shown_in_every_decoding(
    meter: ModbusServer,
) -> None:
    done = await probe(meter, "70", "--function", "3")
    assert (done.code, done.document["unit"], done.document["address"]) == (0, 1, 70)
    assert "address 70 (0x0046), zero-based as sent, function 3" in done.err
    float_row = row(done, "f32", "ABCD")
    assert float_row["here"] == 230.4
    assert float_row["looks_like"] == "here: voltage"
    assert (row(done, "hex")["before"], row(done, "hex")["after"]) == ("0000", "6666")
    kinds = {(one["type"], one["order"]) for one in done.document["decodings"]}
    plain = "u16 s16 hex u32 s32 f32 u48 s48 u64 s64 f64 bcd str"
    assert {kind for kind, _ in kinds} == set(plain.split())
    assert {order for kind, order in kinds if kind == "f64"} == {"ABCD", "CDAB", "BADC", "DCBA"}


async def test_a_register_that_was_counted_from_one_shows_beside_its_neighbour(
    meter: ModbusServer,
) -> None:
    done = await probe(meter, "71", "--function", "3")
    assert "before: voltage" in str(row(done, "f32", "ABCD")["looks_like"])


async def test_a_meter_on_a_serial_line_is_probed(tmp_path: Path) -> None:
    server = ModbusServer({3: FixedBank({3: HOLDING})}, framer="rtu")
    server.start_pty(tmp_path / "bus")
    target = f"serial://{tmp_path / 'bus'}?baud=19200&unit=3"
    done = await meterd("probe", target, "40071", "--format", "json")
    await server.stop()
    assert row(done, "f32", "ABCD")["here"] == 230.4
    assert done.document["unit"] == 3


@pytest.mark.parametrize("address", ["40071", "400071", "0x46"])
async def test_references_count_from_one_and_name_their_function(
    meter: ModbusServer, address: str
) -> None:
    done = await probe(meter, address)
    assert row(done, "f32", "ABCD")["here"] == 230.4
    assert "address 70 (0x0046)" in done.err


async def test_with_a_function_the_number_is_the_address(meter: ModbusServer) -> None:
    done = await probe(meter, "40071", "--function", "3")
    assert done.code == 1
    assert "address 40071 (0x9C87)" in done.err


async def test_a_refused_function_is_told_once_and_the_other_is_shown(meter: ModbusServer) -> None:
    done = await probe(meter, "70")
    assert done.code == 0
    assert {one["function"] for one in done.document["decodings"]} == {3}
    assert "function 4, address 70: exception 1: illegal function" in done.err


async def test_refusals_and_silence_are_in_words(meter: ModbusServer) -> None:
    refused = await probe(meter, "500", "--function", "3")
    assert (refused.code, refused.document["decodings"]) == (1, [])
    assert "function 3, address 500: exception 2: illegal data address" in refused.err
    silent = await meterd("probe", f"{meter.url}/9?timeout=100ms", "70", "--function", "3")
    assert silent.code == 1
    assert "function 3, address 70: no answer" in silent.err


async def test_fewer_registers_are_asked_for_where_the_end_is_near(meter: ModbusServer) -> None:
    done = await probe(meter, "72", "--function", "3")
    assert row(done, "u32", "ABCD")["here"] == 0
    assert row(done, "u16")["after"] == 0


async def test_a_text_is_as_long_as_the_count(meter: ModbusServer) -> None:
    done = await probe(meter, "100", "--function", "3", "--count", "3")
    assert row(done, "str")["here"] == "SDM630"
    assert "here: text" in str(row(done, "str")["looks_like"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("tcp://127.0.0.1/1", "x"), "write 70, 0x46, 30071 or 40071"),
        (("tcp://127.0.0.1/1", "65536"), "allowed 0..65535"),
        (("tcp://127.0.0.1/300", "0"), "unit 300, allowed 0..255"),
        (("127.0.0.1", "0"), "must start with tcp://"),
    ],
)
def test_wrong_words_are_explained(
    words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, "probe", *words)
    assert (done.code, done.out) == (78, "")
    assert says in done.err
