"""`meterd scan`: units, maps in words, and the command to go on with."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from meterd.sim.frames import Adu
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import FixedBank
from meterd.sim.serve import meter_bank, serve_ups
from meterd.sim.transports import ServerLine
from tests.cli.command import COMMAND, PATIENCE, beside, meterd
from tests.cli.inside import inside

NOON = 12 * 3600.0
MAPS = "eastron_sdm120,eastron_sdm630,abb_b23"


@pytest.fixture
async def bus() -> AsyncIterator[ModbusServer]:
    """A gateway with two meters of different models, and a unit that no map fits."""
    banks = {
        2: meter_bank("eastron_sdm630", offset=NOON),
        3: meter_bank("abb_b23", offset=NOON),
        4: FixedBank({3: {9000: 1}}),
    }
    server = ModbusServer(banks)  # type: ignore[arg-type]
    await server.start_tcp()
    yield server
    await server.stop()


class Asked:
    """Tells when unit 5 is asked for."""

    def __init__(self, server: ModbusServer) -> None:
        self.unit_5 = asyncio.Event()
        self._received = server.received
        server.received = self._hear  # type: ignore[method-assign]

    def _hear(self, line: ServerLine, request: Adu) -> None:
        if request.unit == 5:
            self.unit_5.set()
        self._received(line, request)


async def test_units_are_listed_with_their_maps_and_what_to_try_next(bus: ModbusServer) -> None:
    done = await meterd("scan", bus.url, "--units", "1-5", "--map", MAPS, "--timeout", "100ms")
    assert (done.code, done.err) == (0, "")
    head, *lines = [line.split("\t") for line in done.out.splitlines()]
    assert head == ["unit", "answers_ms", "maps", "seen", "try"]
    assert [(unit, maps.split(",")[0], tried) for unit, _, maps, _, tried in lines] == [
        ("2", "eastron_sdm630 (likely)", f"meterd poll eastron_sdm630@{bus.url}/2"),
        ("3", "abb_b23 (likely)", f"meterd poll abb_b23@{bus.url}/3"),
        ("4", "none fits", f"meterd probe {bus.url}/4 0"),
    ]
    assert all(0 < float(line[1]) < 100 for line in lines)


async def test_what_it_says_to_try_next_works(bus: ModbusServer) -> None:
    done = await meterd("scan", bus.url, "--units", "2", "--map", MAPS, "--format", "json")
    [found] = done.document["found"]
    assert found["guesses"][0]["map"] == "eastron_sdm630"
    assert any("frequency" in text for text in found["guesses"][0]["because"])
    polled = await meterd(*found["try"].split()[1:], "--format", "json")
    assert polled.code == 0, polled.err
    assert polled.document["devices"][0]["up"]


@pytest.mark.parametrize("format_", ["table", "tsv", "ndjson", "csv"])
async def test_it_prints_in_every_format(bus: ModbusServer, format_: str) -> None:
    done = await meterd(
        "scan", bus.url, "--units", "2", "--map", "eastron_sdm630", "--format", format_
    )
    assert done.code == 0, done.err
    assert "eastron_sdm630 (likely)" in done.out


async def test_below_a_table_the_commands_can_be_copied(bus: ModbusServer) -> None:
    words = ("--units", "2", "--map", "eastron_sdm630", "--format", "table")
    done = await meterd("scan", bus.url, *words)
    assert "meterd poll" not in done.out
    assert f"\n  meterd poll eastron_sdm630@{bus.url}/2\n" in done.err


async def test_a_ups_is_found_on_a_serial_line() -> None:
    async with serve_ups() as server:
        url = f"serial://{server.path}"
        done = await meterd("scan", url, "--units", "1-2", "--timeout", "50ms", "--format", "json")
    [found] = done.document["found"]
    assert (found["unit"], found["guesses"][0]["map"]) == (None, "megatec")
    assert found["try"] == f"meterd poll megatec@{url}"


async def test_nobody_there_is_a_failure_with_words() -> None:
    server = ModbusServer({})
    await server.start_tcp()
    done = await meterd("scan", server.url, "--units", "1-3", "--timeout", "20ms")
    await server.stop()
    assert (done.code, done.out) == (1, "unit\tanswers_ms\tmaps\tseen\ttry\n")
    assert "nobody answers" in done.err
    gone = await meterd("scan", server.url, "--units", "1-3")
    assert gone.code == 1
    assert "refused the connection" in gone.err


async def test_ctrl_c_prints_what_was_found_so_far(bus: ModbusServer) -> None:
    asked = Asked(bus)
    async with beside(*COMMAND, "scan", f"{bus.url}?framer=socket", "--timeout", "500ms") as scan:
        # Units 2, 3 and 4 were found by the time that the next one is asked.
        await asyncio.wait_for(asked.unit_5.wait(), PATIENCE)
        scan.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(scan.communicate(), PATIENCE)
    assert scan.returncode == 1
    assert [line.split("\t")[0] for line in out.decode().splitlines()] == ["unit", "2", "3", "4"]
    assert "stopped" in err.decode()
    assert "Traceback" not in err.decode()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("tcp:/x",), "must start with tcp://"),
        (("tcp://127.0.0.1?framer=ascii",), "framer"),
        (("tcp://127.0.0.1", "--units", "0-256"), "units are 0 to 255"),
        (("tcp://127.0.0.1", "--units", "9-2"), "write 1-247"),
        (("tcp://127.0.0.1", "--units", ","), "names no unit"),
        (("tcp://127.0.0.1", "--timeout", "3"), "no duration such as 300ms"),
        (("serial:///dev/null", "--baud", "x"), "--baud"),
        (("serial:///dev/null", "--parity", "Q"), "--parity"),
        (("tcp://127.0.0.1", "--map", "eastron_sdm63"), "did you mean eastron_sdm630"),
    ],
)
def test_wrong_words_are_explained(
    words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, "scan", *words)
    assert (done.code, done.out) == (78, "")
    assert says in done.err


def test_speeds_are_for_serial_lines(capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, "scan", "tcp://127.0.0.1", "--baud", "9600")
    assert done.code == 2
    assert "serial" in done.err


async def test_no_bar_where_stderr_is_no_terminal(bus: ModbusServer) -> None:
    done = await meterd("scan", bus.url, "--units", "2", "--map", "eastron_sdm630")
    assert done.err == ""
