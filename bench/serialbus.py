"""Whose a serial bus' time is: an SDM630 at 9600 baud on a pty, and a unit that is not there.

What is neither wire nor the meter's own is lost. The dead unit is asked for an hour of a loop
whose clock jumps to whatever is due next.
"""

import asyncio
import logging
import random
import selectors
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pymodbus.framer import FramerRTU

from bench.report import Figure
from bench.slowmeter import reply_to
from meterd.drivers.costs import Costs
from meterd.drivers.map_library import load_map
from meterd.drivers.modbus import ModbusMeter, ModbusOptions
from meterd.model.sample import Poll
from meterd.poll.bus import Bus
from meterd.poll.cycle import PollTarget
from meterd.poll.normalise import Normaliser
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Link, Times
from meterd.wire.modbus import ModbusClient
from meterd.wire.serial import SerialLink
from meterd.wire.stream import Stream

MAP = "eastron_sdm630"
BAUD = 9600
TAU = 0.01
POLLS = 12
COST = Costs.serial(BAUD, tau=TAU)
_CHARACTER = 10 / BAUD
_SILENCE = 3.5 * _CHARACTER
# Bytes of a reply that are no registers.
_AROUND = 5
_REQUEST = 8
DEAD = 2
HOUR = 3600.0
# Until the pauses before a silent unit are at their longest.
STEADY = 900.0


class _Meter:
    """The meter's process: where it is, and the account that it keeps."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.path = self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def account(self) -> tuple[float, int]:
        """Seconds from request to reply, and requests, since the last time."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        spent, requests = self._line().split()
        return float(spent), int(requests)


@contextmanager
def _meter() -> Iterator[_Meter]:
    command = [sys.executable, "-m", "bench.slowmeter", str(BAUD), str(TAU)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield _Meter(process)
        assert process.stdin is not None
        process.stdin.close()


async def _polls(meter: _Meter, link: Link) -> list[Figure]:
    """Polls of the fast rows, one after the other."""
    driver = ModbusMeter(link, ModbusOptions(map=MAP), interval=1.0)
    for _ in range(3):  # these fetch slow rows, too
        await driver.read()
    meter.account()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(POLLS):
        await driver.read()
    taken = loop.time() - began
    spent, requests = meter.account()
    blocks = [(reply - _AROUND) // 2 for _, reply in driver.traffic()]
    arithmetic = POLLS * sum(COST.seconds(4, words) for words in blocks)
    # The silence after a reply is the wire's own as well.
    lost = 1 - (spent + requests * _SILENCE) / taken
    return [
        Figure("SDM630 at 9600 on a pty, requests a poll", requests / POLLS, "", len(blocks)),
        Figure("SDM630 at 9600 on a pty, a poll", taken / POLLS, "s"),
        Figure("the same by arithmetic", arithmetic / POLLS, "s"),
        Figure("measured beyond arithmetic", (taken / arithmetic - 1) * 100, "%", 1),
        Figure("bus time that is neither wire nor meter", lost * 100, "%", 1),
    ]


async def _each_alone(meter: _Meter, link: Link) -> list[Figure]:
    """The same rows as some pollers ask for them: a request for each."""
    client = ModbusClient(link, 1)
    rows = [row for row in load_map(MAP).rows if row.tier == "fast"]
    meter.account()
    began = asyncio.get_running_loop().time()
    for row in rows:
        await client.read(row.function, row.address, row.words)
    taken = asyncio.get_running_loop().time() - began
    return [
        Figure("one request a value: requests a poll", meter.account()[1], ""),
        Figure("one request a value: a poll", taken, "s"),
    ]


async def _on_pty(meter: _Meter) -> list[Figure]:
    link = open_link(parse(f"serial://{meter.path}?baud={BAUD}"), defaults={})
    figures = await _polls(meter, link) + await _each_alone(meter, link)
    await link.close()
    return figures


class _Jump(selectors.DefaultSelector):
    """Waits for nothing: the clock is put forward instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    """A loop in which an hour passes in seconds."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


class _Clock:
    """The loop's own time."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now_ms(self) -> int:
        return round(self.monotonic() * 1000)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Wire(asyncio.WriteTransport):
    """The bus: unit 1 answers as fast as the wire lets it, all others never."""

    requests = 0

    def __init__(self, stream: Stream, reply_to: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self._stream = stream
        self._reply_to = reply_to

    def write(self, data: Any) -> None:
        request = bytes(data)
        if request[0] == DEAD:
            return
        _Wire.requests += 1
        reply = self._reply_to(request)
        taken = (_REQUEST + len(reply)) * _CHARACTER + _SILENCE + TAU
        self._stream.loop.call_later(taken, self._stream.data_received, reply)

    def abort(self) -> None:
        self._stream.lost = True


class _Bus9600(SerialLink):
    """A serial link as it is, but for the port."""

    reply_to = staticmethod(reply_to)

    async def _open(self) -> Stream:
        stream = Stream()
        stream.connection_made(_Wire(stream, self.reply_to))
        return stream


class _Zeros(_Bus9600):
    """All registers are 0, so that answers of one length are all the same."""

    @staticmethod
    def reply_to(request: bytes) -> bytes:
        _, function, _, count = struct.unpack(">BBHH", request[:6])
        frame = request[:1] + bytes([function, 2 * count]) + bytes(2 * count)
        return frame + FramerRTU.compute_CRC(frame).to_bytes(2, "big")


class _Places(_Bus9600):
    """Each register holds its own address, so that no two answers are the same."""

    @staticmethod
    def reply_to(request: bytes) -> bytes:
        _, function, address, count = struct.unpack(">BBHH", request[:6])
        words = struct.pack(f">{count}H", *range(address, address + count))
        frame = request[:1] + bytes([function, 2 * count]) + words
        return frame + FramerRTU.compute_CRC(frame).to_bytes(2, "big")


class _Times:
    """A sink that adds up what the polls of each device took, once all is steady."""

    def __init__(self) -> None:
        self.took: dict[str, list[float]] = {}

    def take(self, poll: Poll) -> None:
        if poll.time > STEADY * 1000:
            self.took.setdefault(poll.device, []).append(poll.took)


async def _hour(units: tuple[int, ...]) -> tuple[dict[str, list[float]], int]:
    """What each poll took by unit, and how many were skipped, with these units on the bus."""
    address = parse(f"serial:///dev/none?baud={BAUD}")
    link = _Bus9600(address, address.settled({}), Times())
    times = _Times()
    devices = [
        PollTarget(str(unit), meter, 1.0, Normaliser(str(unit)))
        for unit in units
        for meter in [ModbusMeter(link, ModbusOptions(map=MAP, unit=unit), interval=1.0)]
    ]
    bus = Bus("bench", devices, [times], _Clock())
    polling = asyncio.create_task(bus.run())
    await asyncio.sleep(STEADY)
    skipped = bus.skipped
    await asyncio.sleep(HOUR)
    polling.cancel()
    return times.took, bus.skipped - skipped


def _jumping(units: tuple[int, ...]) -> tuple[dict[str, list[float]], int]:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(_hour(units))


def _dead_unit() -> list[Figure]:
    """Its own polls, and what they make its neighbour wait."""
    # That the dead unit is down is what is wanted here.
    logging.getLogger("meterd.poll.bus").setLevel(logging.ERROR)
    random.seed(1)
    alone, _ = _jumping((1,))
    both, skipped = _jumping((1, DEAD))
    usual = sum(alone["1"]) / len(alone["1"])
    waited = sum(both["1"]) - usual * len(both["1"])
    share = (sum(both[str(DEAD)]) + waited) / HOUR * 100
    tries = len(both[str(DEAD)])
    return [
        Figure("a dead unit at 1 Hz beside an SDM630: tries an hour", tries, ""),
        Figure("a dead unit: share of the link's time", share, "%", 1),
        Figure("a dead unit: polls its neighbour skips", skipped / HOUR * 100, "%"),
    ]


async def _steady(kind: type[_Bus9600], register_map: str) -> tuple[float, float]:
    """Seconds of bus time and requests of a poll each second, once the link is no longer new."""
    address = parse(f"serial:///dev/none?baud={BAUD}")
    link = kind(address, address.settled({}), Times())
    meter = ModbusMeter(link, ModbusOptions(map=register_map), interval=1.0)
    loop = asyncio.get_running_loop()
    taken = 0.0
    for number in range(2 * POLLS):
        if number == POLLS:
            taken, _Wire.requests = 0.0, 0
        began = loop.time()
        await meter.read()
        taken += loop.time() - began
        await asyncio.sleep(1.0)
    return taken / POLLS, _Wire.requests / POLLS


def _equal_answers(folder: str) -> list[Figure]:
    """What it costs that an answer like the one before is asked for once more."""
    blocks = Path(folder, "blocks.yaml")
    rows = "".join(
        f"  x.r{n}: {{function: 3, address: {n}, type: u16}}\n"
        for start in range(0, 1000, 100)
        for n in range(start, start + 10)
    )
    blocks.write_text("limits: {bridge: 0}\nrows:\n" + rows)
    figures = []
    for name, register_map in ((MAP, MAP), ("ten blocks of ten registers", str(blocks))):
        for what, kind in (("all values differ", _Places), ("all values are 0", _Zeros)):
            with asyncio.Runner(loop_factory=_Loop) as runner:
                seconds, requests = runner.run(_steady(kind, register_map))
            figures.append(Figure(f"{name}, {what}: requests a poll", requests, ""))
            figures.append(Figure(f"{name}, {what}: a poll", seconds, "s"))
    return figures


def measure() -> list[Figure]:
    with _meter() as meter:
        figures = asyncio.run(_on_pty(meter))
    with tempfile.TemporaryDirectory() as folder:
        figures += _equal_answers(folder)
    return [*figures, *_dead_unit()]
