"""A UPS on a serial port under faults: no line is ever taken for another one's answer."""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from meterd.alerts.engine import Alerts
from meterd.alerts.rule import Rule
from meterd.drivers.megatec import MegatecOptions, MegatecUps
from meterd.errors import LinkCode, LinkError
from meterd.model.alert import AlertState
from meterd.model.clock import SystemClock
from meterd.model.sample import Poll, Reading
from meterd.poll.bus import Bus
from meterd.poll.cycle import PollTarget, poll_once
from meterd.poll.normalise import Normaliser
from meterd.sim.faults import SimulatedFault, parse_faults
from meterd.sim.megatec import UpsServer
from meterd.sim.pty import PtyPort
from meterd.sim.serve import serve_ups
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Link, Times
from tests.alerts.polls import FakeClock
from tests.faults.rig import SLACK, polling
from tests.virtual import now, virtual

INTERVAL = 0.2
TIMEOUT = 0.1
# The first pause before a port that is gone is looked for again, in seconds.
FIRST_PAUSE = 1.0


class Desk:
    """A UPS, the bus that polls it, and what it gave."""

    def __init__(self, server: UpsServer, link: Link) -> None:
        self.server = server
        self.link = link
        self.polls: list[Poll] = []
        self.bus = Bus(link.url, [self._device()], [self], SystemClock())

    def _device(self) -> PollTarget:
        return PollTarget(
            "ups", MegatecUps(self.link, MegatecOptions()), INTERVAL, Normaliser("ups")
        )

    def take(self, poll: Poll) -> None:
        self.polls.append(poll)

    async def polled(self, times: int, *, up: bool | None = None) -> list[Poll]:
        """The next polls; with `up`, until so many of them ended like that."""
        known = len(self.polls)
        async with asyncio.timeout(60):
            while sum(up in (None, poll.up) for poll in self.polls[known:]) < times:
                await asyncio.sleep(0.005)
        return self.polls[known:]


@contextlib.asynccontextmanager
async def executor(folder: Path) -> AsyncIterator[Desk]:
    async with serve_ups(link_path=folder / "ups") as server:
        server.latency = 0.005
        link = open_link(parse(server.url), defaults={}, times=Times(timeout=TIMEOUT))
        found = Desk(server, link)
        async with polling(found.bus):
            await found.polled(2)
            yield found
        await link.close()
    assert all(poll.value("input.voltage") is None for poll in found.polls if not poll.up)


@virtual
async def test_pulled_and_plugged_in_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with executor(tmp_path) as d:
            caplog.clear()
            began = now()
            d.server.unplug(1.0)
            await d.polled(1, up=False)
            await d.polled(1, up=True)
            seconds = now() - began
            gone = [poll for poll in d.polls if not poll.up]
    assert seconds < 1.0 + 2 * FIRST_PAUSE + INTERVAL + SLACK
    # Polls go on, and cost nothing: the port is looked for twice.
    assert len(gone) > 4
    assert max(poll.took for poll in gone) < SLACK
    assert d.link.counters["open_failures"] <= 2
    assert len(caplog.records) == 2, [record.getMessage() for record in caplog.records]


@virtual
async def test_an_echo_before_each_answer_is_skipped(tmp_path: Path) -> None:
    async with executor(tmp_path) as d:
        d.server.faults = parse_faults("echo")
        polls = await d.polled(4)
    assert all(poll.up for poll in polls)
    assert d.link.counters["echo"] >= 3


@pytest.mark.parametrize(
    "fault",
    [
        SimulatedFault("timeout"),
        SimulatedFault("truncate", number=20),
        SimulatedFault("garbage"),
        SimulatedFault("late", seconds=0.15),
    ],
    ids=lambda fault: fault.kind,
)
@virtual
async def test_what_is_no_answer_gives_no_reading_and_ends_in_time(
    fault: SimulatedFault, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with executor(tmp_path) as d:
            d.server.faults = (fault,)
            struck = (await d.polled(3, up=False))[:3]
            d.server.faults = ()
            began = now()
            await d.polled(1, up=True)
            seconds = now() - began
    assert not any(poll.up for poll in struck)
    # Two ways to ask, and silence for one timeout before each.
    assert max(poll.took for poll in struck) < 4 * TIMEOUT + SLACK
    assert seconds < INTERVAL + 4 * TIMEOUT + SLACK
    assert len(caplog.records) == 2


@virtual
async def test_nothing_but_garbage_asks_for_the_baud_rate_and_gives_no_reading(
    tmp_path: Path,
) -> None:
    async with executor(tmp_path) as d:
        d.server.faults = (SimulatedFault("garbage"),)
        struck = (await d.polled(5, up=False))[:5]
        d.server.faults = (SimulatedFault("timeout"),)
        silent = await d.polled(2, up=False)
    told = [poll.fault.text for poll in struck if poll.fault]
    assert any("is the line really set to 2400 8N1?" in text for text in told), told
    last = silent[-1].fault
    assert last is not None
    assert "hint" not in last.text


@virtual
async def test_a_port_that_another_program_holds_is_named(tmp_path: Path) -> None:
    async with serve_ups(link_path=tmp_path / "ups") as server:
        links = [
            open_link(parse(server.url), defaults={}, times=Times(timeout=TIMEOUT))
            for _ in range(2)
        ]
        first, second = (MegatecUps(link, MegatecOptions()) for link in links)
        await first.read()
        with pytest.raises(LinkError, match=r"/ups is in use by another program") as caught:
            await second.read()
        assert caught.value.code == "port_taken"
        for link in links:
            await link.close()


class Tattling(Counter[str]):
    """A link's counters, which tell at once when an answer was given up."""

    def __init__(self, told: Callable[[], None]) -> None:
        super().__init__()
        self._told = told

    def __setitem__(self, cause: str, times: int) -> None:
        super().__setitem__(cause, times)
        if cause == "timeout":
            self._told()


class NumberedUps:
    """Each status line carries its own number twice; one in five comes when nobody waits any more.

    It comes half a timeout after it was given up, or with the next question, if that is asked
    sooner than a timeout after. Later than that it does not come: by then it is nobody's to tell
    from a right one.
    """

    TIMEOUT = 0.02

    def __init__(self, folder: Path, seed: int) -> None:
        self.number = self.late = 0
        self._random = random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._held = b""
        self._given_up = 0.0
        self.port = PtyPort(self._hear, folder / f"ups{seed}")
        self.port.open()

    def _hear(self, data: bytes) -> None:
        *commands, self._buffer = (self._buffer + data).split(b"\r")
        for _ in commands:
            self._release()
            self.number += 1
            line = f"({self.number:05.1f} 195.0 {self.number:05.1f} 014 50.0 27.5 30.0 00001000\r"
            if self._random.random() < 0.2:
                self._held = line.encode()
            else:
                self.port.write(line.encode())

    def given_up(self) -> None:
        """The link tells that it waits no more."""
        self._given_up = self._loop.time()
        self._loop.call_later(self.TIMEOUT / 2, self._release)

    def _release(self) -> None:
        line, self._held = self._held, b""
        if line and self._loop.time() - self._given_up < 0.9 * self.TIMEOUT:
            self.late += 1
            self.port.write(line)


async def _ask_often(folder: Path, seed: int, times: int) -> tuple[int, int, int]:
    """Good readings, late lines, and readings that were made of a late line."""
    ups = NumberedUps(folder, seed)
    link = open_link(
        parse(f"serial://{ups.port.name}"),
        defaults={"baud": "115200"},
        times=Times(timeout=ups.TIMEOUT),
    )
    link.counters = Tattling(ups.given_up)
    driver = MegatecUps(link, MegatecOptions(protocol="megatec", ratings=False, vendor=False))
    good = mixed = 0
    for _ in range(times):
        with contextlib.suppress(LinkError):
            said = {r.quantity: r.value for r in await driver.read()}
            good += 1
            mixed += {said["input.voltage"], said["output.voltage"]} != {float(ups.number)}
    await link.close()
    ups.port.close()
    return good, ups.late, mixed


@virtual
async def test_no_late_line_is_taken_for_the_answer_to_the_next_question(tmp_path: Path) -> None:
    found = await asyncio.gather(*(_ask_often(tmp_path, seed, 100) for seed in range(5)))
    good, late, mixed = (sum(column) for column in zip(*found, strict=True))
    print(f"500 polls: {good} good, {late} late lines, {mixed} mixed")
    assert good >= 100
    assert late >= 50
    assert mixed == 0


class DiesOnBattery:
    """A UPS that says twice that its mains are gone, and then nothing."""

    def __init__(self) -> None:
        self._said = 0

    async def read(self) -> list[Reading]:
        self._said += 1
        if self._said > 2:
            raise LinkError("no answer in time", code=LinkCode.TIMEOUT)
        return [Reading("input.voltage", 0.0, "V"), Reading("ups.status.ob", 1.0)]


@virtual
async def test_a_ups_that_falls_silent_on_battery_is_told_of_after_three_polls() -> None:
    every = 10
    clock = FakeClock()
    rules = [
        Rule("on battery", "ups.status.ob", equals=1, severity="critical"),
        Rule("silent", "device.up", equals=0, hold=2.0 * every, severity="critical"),
    ]
    alerts = Alerts(rules, {}, clock=clock)
    device = PollTarget("ups", DiesOnBattery(), every, Normaliser("ups"))
    fired: dict[str, float] = {}
    for second in range(7 * every):
        if second % every == 0:
            await poll_once(device, [alerts], clock)
        alerts.tick()
        for alert in alerts.active():
            if alert.state is AlertState.FIRING:
                fired.setdefault(alert.rule, second)
        clock.move(1)
    last_word = 1 * every
    assert fired["on battery"] == 0
    assert abs(fired["silent"] - (last_word + 3 * every)) <= 1
    # That it is silent is no proof that the mains are back.
    assert {a.rule for a in alerts.active() if a.state is AlertState.FIRING} == set(fired)
