"""The links of a site on virtual time: what a meter refuses, from its configuration to the log."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from meterd.cli.demo import settings
from meterd.daemon.counter_state import CounterState
from meterd.daemon.events import EventLog
from meterd.daemon.info import info_of
from meterd.daemon.link_manager import LinkManager
from meterd.daemon.link_plan import Built, Letting, guards
from meterd.drivers.megatec import MegatecOptions, MegatecUps
from meterd.model.clock import SystemClock
from meterd.model.event import EventKind
from meterd.model.sample import Reading
from meterd.poll.latest import Latest
from meterd.testing import ScriptedLink
from tests.virtual import virtual
from tests.virtual.modbus import No, Scripted

_MAP = """\
rows:
  voltage.l1:           {function: 3, address: 0, type: u16, scale: 0.1, unit: V}
  active_power:         {function: 3, address: 1, type: s32, unit: W}
  active_energy.export: {function: 3, address: 100, type: u32, unit: kWh}
"""


LINE = b"(226.0 195.0 226.0 014 49.0 27.5 30.0 0000100%d\r"


class Forgetful:
    """A store that never ran before."""

    def recall(self, name: str) -> str | None:
        return None

    def remember(self, name: str, body: str) -> None:
        """Nothing is kept."""


class Inverter:
    """Refuses some registers, or all."""

    def __init__(self) -> None:
        self.bad = range(0)
        self.code = 2

    def __call__(self, unit: int, function: int, address: int, count: int) -> list[int]:
        if any(register in self.bad for register in range(address, address + count)):
            raise No(self.code)
        return [2301] * count


@virtual
@pytest.mark.parametrize("code", [1, 2, 3])
@pytest.mark.parametrize("framer", ["socket", "rtu"])
async def test_what_is_refused_for_a_while_is_told_and_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, framer: str, code: int
) -> None:
    (tmp_path / "own.yaml").write_text(_MAP)
    inverter = Inverter()
    inverter.code = code
    server = Scripted(inverter, framer=framer)  # type: ignore[arg-type]
    await server.start_tcp()
    wanted = settings(
        f"devices:\n  inv: {{driver: modbus, map: {tmp_path}/own.yaml, link: '{server.url}', "
        "unit: 1, interval: 1s}\n"
    )
    clock = SystemClock()
    events, latest = EventLog(clock), Latest(["inv"])
    lines = LinkManager(clock, [latest], CounterState(), events)
    (built,) = lines.prepare(wanted).built
    with caplog.at_level(logging.WARNING):
        lines.start(built, Forgetful())
        await asyncio.sleep(5.5)
        inverter.bad = range(100, 200)
        await asyncio.sleep(6)
        inverter.bad = range(0)
        await asyncio.sleep(20)
        inverter.bad = range(200)
        await asyncio.sleep(6)
        state = latest.states["inv"]
        assert (state.up, state.fault and state.fault.code) == (False, "all_refused")
        inverter.bad = range(0)
        await asyncio.sleep(2)
        good = state.last
        assert good is not None
        assert good.up
        assert None not in good.values
        await server.stop()
        await asyncio.sleep(3)
    kinds = [event.kind for event in reversed(events.newest())]
    out, back, down = EventKind.ROWS_LEFT_OUT, EventKind.ROWS_BACK, EventKind.DEVICE_DOWN
    assert kinds == [out, back, down, EventKind.DEVICE_BACK, down]
    told = [record.getMessage() for record in caplog.records]
    assert told[0].startswith("inv: active_energy.export: left out: ")
    assert told[1].startswith("inv: active_energy.export: back: ")
    assert told[2].startswith("inv is down: the meter refuses all that it is asked for")
    await lines.stop()


def test_a_device_that_is_let_go_after_each_poll_has_its_counters_all_the_same() -> None:
    wanted = settings(
        "links: {l: {url: 'tcp://127.0.0.1:1', keep_open: false}}\n"
        "devices:\n  m: {driver: modbus, map: eastron_sdm120, link: l}\n"
    )
    clock = SystemClock()
    (built,) = LinkManager(clock, [], CounterState(), EventLog(clock)).prepare(wanted).built
    ((_, driver, device),) = built.drivers
    assert isinstance(driver, Letting)
    forms = guards("m", driver, device, None)._forms
    assert "active_energy.import" in forms
    assert driver.notices == []


async def test_a_device_that_is_let_go_after_each_poll_tells_what_its_driver_tells() -> None:
    wanted = settings(
        "links: {l: {url: 'tcp://127.0.0.1:1', keep_open: false, timeout: 3s}}\n"
        "devices:\n  m: {driver: modbus, map: eastron_sdm120, link: l}\n"
    )
    clock = SystemClock()
    (built,) = LinkManager(clock, [], CounterState(), EventLog(clock)).prepare(wanted).built
    ((_, driver, _),) = built.drivers
    assert isinstance(driver, Letting)
    info = info_of("m", wanted, driver)
    assert info.timeout is not None
    assert 0 < info.timeout <= 3
    assert list(info.left_out()) == []


@virtual
async def test_a_device_that_is_let_go_after_each_poll_takes_commands() -> None:
    clock = SystemClock()
    lines = LinkManager(clock, [], CounterState(), EventLog(clock))
    prepared = lines.prepare(
        settings(
            "links: {l: {url: 'tcp://127.0.0.1:1', keep_open: false}}\n"
            "devices:\n  u: {driver: megatec, link: l}\n"
        )
    )
    (built,) = prepared.built
    link = ScriptedLink({b"Q1\r": LINE % 0, b"Q\r": b""})
    ups = Letting(MegatecUps(link, MegatecOptions()), link)
    built.drivers[0] = ("u", ups, built.drivers[0][2])  # type: ignore[index]
    await lines.replace(prepared, Forgetful())
    with pytest.raises(LookupError):
        await lines.command("u", "no.such")
    with pytest.raises(LookupError):
        await lines.command("nobody", "beeper.toggle")
    await lines.command("u", "beeper.toggle")
    assert link.sent.count(b"Q\r") == 1
    await lines.stop()


class Holding:
    """A driver that holds something beside its link."""

    def __init__(self) -> None:
        self.closed = 0

    async def read(self) -> list[Reading]:
        return [Reading("temperature", 21.0, "°C")]

    async def close(self) -> None:
        self.closed += 1


def holding(built: Sequence[Built]) -> list[Holding]:
    """A driver of that kind in the place of each that was built."""
    made = []
    for one in built:
        for number, (name, _, device) in enumerate(one.drivers):
            made.append(Holding())
            one.drivers[number] = (name, made[-1], device)  # type: ignore[index]
    return made


@virtual
async def test_what_a_driver_holds_is_let_go_when_it_is_polled_no_more() -> None:
    clock = SystemClock()
    lines = LinkManager(clock, [], CounterState(), EventLog(clock))
    text = "devices:\n" + "".join(
        f"  {name}: {{driver: megatec, link: 'tcp://127.0.0.1:{port}'}}\n"
        for name, port in (("a", 1), ("b", 2))
    )
    prepared = lines.prepare(settings(text))
    first, second = holding(prepared.built)
    await lines.replace(prepared, Forgetful())
    # The link of b goes; that of a is polled on with the same driver.
    await lines.replace(lines.prepare(settings(text.rpartition("  b")[0])), Forgetful())
    assert (first.closed, second.closed) == (0, 1)
    await lines.stop()
    assert (first.closed, second.closed) == (1, 1)


async def test_who_lets_go_of_its_link_lets_go_of_all() -> None:
    driver, link = Holding(), ScriptedLink({})
    await Letting(driver, link).read()
    assert driver.closed == 1
