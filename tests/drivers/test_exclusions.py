"""Nothing that a meter refuses, or is silent about, is left out for ever: hours on virtual time."""

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from meterd.daemon.link_plan import Letting
from meterd.drivers.modbus import SPLIT_BUDGET, WITNESSES, ModbusMeter, ModbusOptions
from meterd.model.clock import SystemClock
from meterd.model.driver import Driver
from meterd.model.event import Event, EventKind
from meterd.model.sample import Poll
from meterd.poll.bus import Bus
from meterd.poll.cycle import PollTarget
from meterd.poll.normalise import Normaliser
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Link, Times
from tests.virtual import now, virtual
from tests.virtual.modbus import No, Scripted

Framer = Literal["socket", "rtu", "ascii"]

FEW = """\
rows:
  voltage.l1:           {function: 3, address: 0, type: u16, scale: 0.1, unit: V}
  active_power:         {function: 3, address: 1, type: s32, unit: W}
  active_energy.import: {function: 4, address: 100, type: u32, unit: kWh}
"""


def many(rows: int, *, optional: Iterable[int] = (), tier: str = "fast") -> str:
    """A map of so many rows of one register each."""
    return "rows:\n" + "".join(
        f"  x.r{n}: {{function: 3, address: {n}, type: u16, tier: {tier}"
        f"{', optional: true' if n in optional else ''}}}\n"
        for n in range(rows)
    )


class Moody:
    """Registers that tell their address. `bad` are refused with `code`, or met with silence if
    that is 0; so is what is longer than `most`, or crosses the border before register `border`."""

    def __init__(self) -> None:
        self.bad: set[int] = set()
        self.code = 2
        self.most = 125
        self.border: int | None = None

    def __call__(self, unit: int, function: int, address: int, count: int) -> list[int] | None:
        wanted = range(address, address + count)
        across = self.border is not None and address < self.border < address + count
        if self.bad & set(wanted) or count > self.most or across:
            if self.code:
                raise No(self.code)
            return None
        return list(wanted)


@dataclass
class Field:
    """A polled meter: its server, what its registers do, its polls and its events."""

    server: Scripted
    moody: Moody
    link: Link
    meter: ModbusMeter
    polls: list[Poll] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    start: float = field(default_factory=now)

    def take(self, poll: Poll) -> None:
        self.polls.append(poll)

    def kinds(self) -> Counter[EventKind]:
        return Counter(event.kind for event in self.events)

    def told(self, kind: EventKind) -> list[str]:
        return [str(event) for event in self.events if event.kind is kind]

    def asked(self, register: int) -> list[float]:
        """When a request touched this register, in seconds since the start."""
        touching = (a for a in self.server.log if a.address <= register < a.address + a.count)
        return [round(a.at - self.start, 2) for a in touching]

    @property
    def values(self) -> dict[str, float | None]:
        poll = self.polls[-1]
        return dict(zip(poll.layout.quantities, poll.values, strict=True))

    def missing(self) -> set[str]:
        return {name for name, value in self.values.items() if value is None}


@contextlib.asynccontextmanager
async def polled(
    folder: Path,
    rows: str,
    moody: Moody | None = None,
    *,
    framer: Framer = "socket",
    interval: float = 1.0,
    wrap: Callable[[Driver, Link], Driver] = lambda driver, _: driver,
) -> AsyncIterator[Field]:
    file = folder / "own.yaml"
    file.write_text(rows)
    moody = moody or Moody()
    server = Scripted(moody, framer=framer)
    await server.start_tcp()
    link = open_link(parse(server.url), defaults={}, times=Times(timeout=0.3))
    meter = ModbusMeter(link, ModbusOptions(map=str(file), unit=1), interval=interval)
    here = Field(server, moody, link, meter)
    device = PollTarget("m", wrap(meter, link), interval, Normaliser("m"), None, here.events.append)
    bus = asyncio.create_task(Bus("m", [device], [here], SystemClock()).run())
    try:
        yield here
    finally:
        bus.cancel()
        await asyncio.gather(bus, return_exceptions=True)
        await link.close()
        await server.stop()


def gaps(times: list[float]) -> list[float]:
    return [b - a for a, b in itertools.pairwise(times)]


@virtual
@pytest.mark.parametrize("code", [1, 2, 3])
@pytest.mark.parametrize("framer", ["socket", "rtu"])
async def test_a_meter_that_refuses_everything_for_a_while_is_down_and_back_within_seconds(
    tmp_path: Path, framer: Framer, code: int
) -> None:
    async with polled(tmp_path, FEW, framer=framer) as here:
        await asyncio.sleep(5.5)
        assert all(poll.up for poll in here.polls)
        here.server.refuses = code
        since = len(here.polls), len(here.server.log)
        await asyncio.sleep(6)
        struck = here.polls[since[0] :]
        assert [poll.up for poll in struck] == [False] * len(struck)
        fault = struck[0].fault
        assert fault is not None
        assert fault.code == "all_refused"
        assert f"exception {code}" in fault.text
        assert all(name in fault.text for name in ("voltage.l1", "active_power", "active_energy"))
        assert {poll.fault for poll in struck} == {fault}, "the text flaps"
        assert len(here.server.log) - since[1] <= 3 * len(struck) + WITNESSES
        here.server.refuses = 0
        await asyncio.sleep(1.5)
        assert [poll.up for poll in here.polls[-1:]] == [True]
        assert here.missing() == set()
        assert len(here.server.clients) == 1
        # Then it is switched off: that is seen, too.
        here.server.behave = lambda asked, reply: []
        await asyncio.sleep(3)
        assert not here.polls[-1].up
    down, back = EventKind.DEVICE_DOWN, EventKind.DEVICE_BACK
    assert here.kinds() == {down: 2, back: 1}


@virtual
@pytest.mark.parametrize("code", [1, 2, 3])
async def test_a_refused_row_is_tried_after_growing_pauses_and_taken_back(
    tmp_path: Path, code: int
) -> None:
    async with polled(tmp_path, many(32)) as here:
        await asyncio.sleep(3.5)
        here.moody.bad, here.moody.code = {13}, code
        await asyncio.sleep(2600)
        # What the search took is over within a poll.
        tries = [at for at in here.asked(13) if at > 4.5]
        pauses = [5, 10, 20, 40, 80, 160, 320, 600, 600]
        assert gaps([4.0, *tries])[: len(pauses)] == pytest.approx(pauses, abs=1.1)
        assert max(gaps(tries)) <= 601.5
        assert here.missing() == {"x.r13"}
        reason = next(s.reason for s in here.polls[-1].samples() if s.quantity == "x.r13")
        assert f"refuses register 13 (function 3): exception {code}" in reason
        (listed,) = here.meter.left_out()
        assert (listed.rows, listed.registers, listed.cause) == (("x.r13",), (13,), "refused")
        assert 0 <= listed.again <= 600
        here.moody.bad = set()
        await asyncio.sleep(602)
        assert here.missing() == set()
        assert here.meter.left_out() == []
    assert here.kinds() == {EventKind.ROWS_LEFT_OUT: 1, EventKind.ROWS_BACK: 1}
    (out,), (back,) = (here.told(kind) for kind in here.kinds())
    assert out.startswith("m: x.r13: left out: the meter refuses register 13 (function 3): ")
    assert f"exception {code}" in out
    assert back == "m: x.r13: back: the meter answers register 13 (function 3) now"
    assert all(poll.up for poll in here.polls)


@virtual
async def test_no_poll_has_more_than_one_extra_request_once_it_is_known_what_is_refused(
    tmp_path: Path,
) -> None:
    async with polled(tmp_path, many(60)) as here:
        here.moody.bad = {3, 17, 30, 31, 44, 59}
        await asyncio.sleep(1800)
    each = Counter(int(asked.at - here.start + 0.5) for asked in here.server.log)
    plan = min(each[second] for second in range(100, 1790))
    # Until each row is known, those beside it are asked for in pieces.
    assert max(each[second] for second in range(1, 60)) <= plan + 3
    assert max(each[second] for second in range(60, 1790)) <= plan + 1
    assert here.missing() == {f"x.r{n}" for n in here.moody.bad}


@virtual
async def test_rows_that_went_together_are_back_together(tmp_path: Path) -> None:
    """As those of a battery that was off."""
    async with polled(tmp_path, many(100)) as here:
        await asyncio.sleep(2.5)
        here.moody.bad = set(range(40, 90))
        await asyncio.sleep(10)
        here.moody.bad = set()
        await asyncio.sleep(30)
        assert here.missing() == set()
        assert here.kinds()[EventKind.ROWS_BACK] <= 5
    assert here.kinds()[EventKind.ROWS_LEFT_OUT] == 1
    # The search ends at its budget: some of their neighbours are left out with them at first.
    assert 50 <= int(here.told(EventKind.ROWS_LEFT_OUT)[0].split()[1]) <= 60


@virtual
async def test_a_whole_request_that_is_refused_while_others_are_answered(tmp_path: Path) -> None:
    """One function, or one block, is away for a minute; the rest goes on."""
    async with polled(tmp_path, FEW) as here:
        await asyncio.sleep(2.5)
        here.moody.bad, here.moody.code = set(range(100, 102)), 1
        await asyncio.sleep(60)
        assert here.missing() == {"active_energy.import"}
        here.moody.bad = set()
        await asyncio.sleep(120)
        assert here.missing() == set()
    assert here.kinds() == {EventKind.ROWS_LEFT_OUT: 1, EventKind.ROWS_BACK: 1}


@virtual
@pytest.mark.parametrize("code", [2, 3, 0], ids=["address", "value", "silent"])
async def test_a_limit_that_was_learned_in_a_bad_phase_is_given_up(
    tmp_path: Path, code: int
) -> None:
    moody = Moody()
    moody.most, moody.code = 8, code
    async with polled(tmp_path, many(32), moody) as here:
        await asyncio.sleep(20)
        assert here.missing() == set()
        (listed,) = here.meter.left_out()
        assert (listed.most, listed.rows) == (8, ())
        assert len(here.meter.traffic()) == 4
        moody.most = 125
        await asyncio.sleep(600)
        assert len(here.meter.traffic()) == 1
        assert here.meter.left_out() == []


@virtual
async def test_a_limit_that_stands_is_tried_at_ever_longer_pauses(tmp_path: Path) -> None:
    moody = Moody()
    moody.most = 8
    async with polled(tmp_path, many(32), moody) as here:
        await asyncio.sleep(3600)
        tries = [a.at for a in here.server.log if a.count > 8 and a.at > here.start + 2]
        assert len(tries) <= 14
        assert here.missing() == set()
    assert all(poll.up for poll in here.polls)
    assert here.events == []


@virtual
async def test_a_border_that_no_request_might_cross_is_open_again(tmp_path: Path) -> None:
    moody = Moody()
    moody.border = 16
    async with polled(tmp_path, many(32), moody) as here:
        await asyncio.sleep(200)
        assert here.missing() == set()
        assert len(here.meter.traffic()) == 2
        moody.border = None
        await asyncio.sleep(601)
        assert len(here.meter.traffic()) == 1


@virtual
async def test_an_optional_row_is_left_out_without_a_word_and_told_when_it_appears(
    tmp_path: Path,
) -> None:
    moody = Moody()
    moody.bad = {5}
    async with polled(tmp_path, many(32, optional={5}), moody) as here:
        await asyncio.sleep(1900)
        tries = [at for at in here.asked(5) if at > 1]
        assert gaps([0.0, *tries]) == pytest.approx([600, 600, 600], abs=2)
        assert "x.r5" not in here.values
        assert here.events == []
        moody.bad = set()
        await asyncio.sleep(602)
        assert here.values["x.r5"] == 5
    assert here.kinds() == {EventKind.ROWS_BACK: 1}


@virtual
async def test_slow_rows_and_texts_that_come_back_are_read_at_once(tmp_path: Path) -> None:
    rows = many(4) + "".join(
        f"  {name}: {{function: 3, address: {address}, type: u16, tier: {tier}}}\n"
        for name, address, tier in (("x.slow", 50, "slow"), ("info.serial_number", 90, "static"))
    )
    moody = Moody()
    moody.bad = {50, 90}
    async with polled(tmp_path, rows, moody) as here:
        await asyncio.sleep(3)
        moody.bad = set()
        await asyncio.sleep(7)
        texts = [poll.info for poll in here.polls if poll.info]
        assert texts[-1] == {"info.serial_number": "90"}
        assert any(poll.value("x.slow") == 50 for poll in here.polls[-5:])


@virtual
async def test_scale_registers_that_were_refused_are_asked_for_again(tmp_path: Path) -> None:
    rows = (
        'rows:\n  voltage.l1: {function: 3, address: 10, type: s16, scale: "@3000", unit: V}\n'
        "  frequency: {function: 3, address: 3, type: u16, unit: Hz}\n"
    )
    moody = Moody()
    moody.bad = {3000}

    def registers(unit: int, function: int, address: int, count: int) -> list[int] | None:
        words = moody(unit, function, address, count)
        return [0] if address == 3000 and words else words

    async with polled(tmp_path, rows, moody) as here:
        here.server._registers = registers
        await asyncio.sleep(3)
        assert here.values["voltage.l1"] is None
        moody.bad = set()
        await asyncio.sleep(20)
        assert here.values["voltage.l1"] == 10


@virtual
async def test_a_high_word_that_was_refused_is_asked_for_again(tmp_path: Path) -> None:
    rows = (
        "rows:\n"
        "  active_power: {function: 3, words: [10, 3000], word_order: little, type: s32, unit: W}\n"
        "  frequency: {function: 3, address: 3, type: u16, unit: Hz}\n"
    )
    moody = Moody()
    moody.bad = {3000}

    def registers(unit: int, function: int, address: int, count: int) -> list[int] | None:
        words = moody(unit, function, address, count)
        return [1] if address == 3000 and words else words

    async with polled(tmp_path, rows, moody) as here:
        here.server._registers = registers
        await asyncio.sleep(3)
        assert here.values["active_power"] is None
        moody.bad = set()
        await asyncio.sleep(20)
        assert here.values["active_power"] == 65536 + 10


@virtual
async def test_a_row_that_comes_and_goes_costs_ever_less(tmp_path: Path) -> None:
    async with polled(tmp_path, many(32)) as here:
        for _ in range(60):
            here.moody.bad = {13}
            await asyncio.sleep(20)
            here.moody.bad = set()
            await asyncio.sleep(20)
        polls = len(here.polls)
        assert len(here.server.log) < 3.2 * polls
        assert here.kinds()[EventKind.ROWS_BACK] < 20
        # Its neighbours lose nothing by it.
        others = [poll for poll in here.polls if poll.value("x.r12") is None]
    assert others == []


@virtual
@pytest.mark.parametrize("tier", ["slow", "static"])
async def test_a_meter_of_which_nothing_is_due_is_asked_for_one_row_all_the_same(
    tmp_path: Path, tier: str
) -> None:
    async with polled(tmp_path, many(6, tier=tier)) as here:
        await asyncio.sleep(30.5)
        assert len(here.server.log) == len(here.polls) == 31
        assert all(poll.up for poll in here.polls)
        assert [a.count for a in here.server.log][-5:] == [1] * 5
        here.server.behave = lambda asked, reply: []
        await asyncio.sleep(2)
        assert not here.polls[-1].up


@virtual
async def test_the_last_row_that_is_refused_takes_the_meter_down(tmp_path: Path) -> None:
    """One row is left out; later all others are refused, too, one after the other."""
    async with polled(tmp_path, many(3)) as here:
        await asyncio.sleep(2.5)
        for bad in ({2}, {1, 2}, {0, 1, 2}):
            here.moody.bad = set(bad)
            await asyncio.sleep(3)
        assert here.polls[-1].fault is not None
        assert here.polls[-1].fault.code == "all_refused"
        here.moody.bad = set()
        await asyncio.sleep(1.5)
        assert here.missing() == set()
    assert here.kinds()[EventKind.ROWS_BACK] == 1


@virtual
async def test_a_meter_with_a_single_good_row_is_found_to_be_there(tmp_path: Path) -> None:
    moody = Moody()
    moody.bad = set(range(32)) - {21}
    async with polled(tmp_path, many(32), moody) as here:
        await asyncio.sleep(60)
        assert here.polls[-1].up
        assert here.values["x.r21"] == 21
    assert here.kinds()[EventKind.DEVICE_DOWN] <= 1


@virtual
async def test_what_is_refused_for_good_does_not_hide_that_the_meter_is_back(
    tmp_path: Path,
) -> None:
    """The first request of the plan is refused for ever, and for a while all others are, too."""
    rows = many(40) + FEW.removeprefix("rows:\n").replace("address: ", "address: 30")
    moody = Moody()
    moody.bad = set(range(40))
    async with polled(tmp_path, rows, moody) as here:
        await asyncio.sleep(30.5)
        assert here.values["voltage.l1"] == 30.0
        here.server.refuses = 2
        await asyncio.sleep(45)
        assert here.polls[-1].fault is not None
        here.server.refuses = 0
        await asyncio.sleep(1.5)
        assert here.values["voltage.l1"] == 30.0
    assert here.kinds()[EventKind.DEVICE_BACK] == 1
    assert here.kinds()[EventKind.ROWS_LEFT_OUT] == 1


@virtual
async def test_a_device_that_takes_one_client_only_is_not_searched_at_each_poll(
    tmp_path: Path,
) -> None:
    """`keep_open: false`: the link is opened anew for each poll, which says nothing."""
    moody = Moody()
    moody.bad = {13}
    text = "  info.serial_number: {function: 3, address: 90, type: u16, tier: static}\n"
    async with polled(tmp_path, many(32) + text, moody, wrap=Letting) as here:
        await asyncio.sleep(5.5)
        before = len(here.server.log), len(here.polls)
        await asyncio.sleep(20)
        asked, polls = len(here.server.log) - before[0], len(here.polls) - before[1]
        assert asked <= 2 * polls + 3
        moody.bad = set()
        await asyncio.sleep(120)
        assert here.missing() == set()
    assert here.kinds() == {EventKind.ROWS_LEFT_OUT: 1, EventKind.ROWS_BACK: 1}


@virtual
async def test_a_reconnect_tells_nothing_that_was_told_before(tmp_path: Path) -> None:
    moody = Moody()
    moody.bad = {13}
    async with polled(tmp_path, many(32), moody) as here:
        for _ in range(5):
            await asyncio.sleep(10)
            here.server.hang_up()
        await asyncio.sleep(10)
        since = len(here.server.log)
        here.server.hang_up()
        await asyncio.sleep(3.2)
        # What was refused before is suspected first: no search by halves.
        assert len(here.server.log) - since <= 2 * 3 + 5
        moody.bad = set()
        here.server.hang_up()
        await asyncio.sleep(3)
        assert here.missing() == set()
    assert here.kinds()[EventKind.ROWS_LEFT_OUT] == here.kinds()[EventKind.ROWS_BACK] == 1


@virtual
async def test_a_silent_row_rests_longer_than_what_it_costs(tmp_path: Path) -> None:
    async with polled(tmp_path, many(32)) as here:
        await asyncio.sleep(2.5)
        here.moody.bad, here.moody.code = {13}, 0
        await asyncio.sleep(3600)
        assert here.missing() == {"x.r13"}
        late = [at for at in here.asked(13) if at > 10]
        assert len(late) <= 10
        assert max(gaps(late)) <= 602
        here.moody.bad = set()
        await asyncio.sleep(602)
        assert here.missing() == set()
    out, back = EventKind.ROWS_LEFT_OUT, EventKind.ROWS_BACK
    assert (here.kinds()[out], here.kinds()[back]) == (1, 1)


@virtual
@pytest.mark.parametrize("framer", ["socket", "rtu"])
@pytest.mark.parametrize("seed", range(6))
async def test_after_any_row_of_bad_phases_all_is_well_within_ten_minutes(
    tmp_path: Path, seed: int, framer: Framer
) -> None:
    dice = random.Random(seed)
    rows = 40
    text = many(rows, optional={7}) + FEW.removeprefix("rows:\n").replace("address: ", "address: 3")
    async with polled(tmp_path, text, framer=framer) as here:
        for _ in range(12):
            kind = dice.choice(("some", "one", "range", "all", "long", "border", "none"))
            here.moody.code = dice.choice((1, 2, 2, 3, 4, 0))
            low = dice.randrange(rows)
            here.moody.bad = {
                "some": {n for n in range(rows) if not dice.randrange(5)},
                "one": {dice.randrange(rows)},
                "range": set(range(low, dice.randint(low, rows))),
                "all": set(range(500)),
            }.get(kind, set())
            here.moody.most = dice.randint(1, 30) if kind == "long" else 125
            here.moody.border = dice.randrange(1, rows) if kind == "border" else None
            await asyncio.sleep(dice.choice((0.5, 2, 5, 9, 40)))
        here.moody.bad, here.moody.most, here.moody.border = set(), 125, None
        since = len(here.server.log)
        await asyncio.sleep(700)
        assert here.missing() == set()
        assert here.meter.left_out() == []
        assert here.polls[-1].up
        assert len(here.server.log) - since < 700 * 5 + SPLIT_BUDGET
        assert set(here.values) >= {f"x.r{n}" for n in range(rows)}
    # Whatever went on: each value is that of its register, or there is none.
    told = ((n, poll.value(f"x.r{n}")) for poll in here.polls for n in range(rows))
    assert [pair for pair in told if pair[1] not in (None, pair[0])] == []
    out, back = (
        {name for e in here.events if e.kind is kind for name in str(e.data["rows"]).split(", ")}
        for kind in (EventKind.ROWS_LEFT_OUT, EventKind.ROWS_BACK)
    )
    assert out <= back
