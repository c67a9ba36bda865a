"""A meter's guests: answered from what was read, else in turn with the polls, at a bounded cost."""

import asyncio
import itertools
from collections import Counter
from typing import cast

import pytest

from meterd.errors import DeviceError, LinkCode, LinkError, MeterdError
from meterd.proxy.frames import ProxyRefusal, RegisterSpan
from meterd.proxy.proxied_meter import (
    REPLY_SIZES_MAX,
    TIMEOUT_SHARE_MAX,
    WAITING_MAX,
    LinkQueue,
    ProxiedMeter,
    ProxyRoute,
)
from meterd.testing import FakeClock
from meterd.wire.modbus import ModbusClient, Observer
from meterd.wire.replies import ModbusException, Refused

SPAN = RegisterSpan(4, 10, 2)
MAX_AGE = 2.0


class FakeClient:
    """Answers registers that name themselves; fails where told to, and waits for `gate`."""

    def __init__(self, clock: FakeClock, took: float = 0.1) -> None:
        self.observe: Observer | None = None
        self.asked: list[RegisterSpan] = []
        self.error: MeterdError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self._clock = clock
        self._took = took

    async def read(self, function: int, address: int, count: int) -> bytes:
        self.asked.append(RegisterSpan(function, address, count))
        await self.gate.wait()
        self._clock.pass_by(self._took)
        if self.error is not None:
            raise self.error
        data = b"".join((address + i).to_bytes(2, "big") for i in range(count))
        if self.observe is not None:
            self.observe(function, address, count, data)
        return data


class Rig:
    def __init__(self, **way: object) -> None:
        self.clock = FakeClock()
        self.client = FakeClient(self.clock)
        self.turn = asyncio.Lock()
        self.counters: Counter[str] = Counter()
        self.lane = LinkQueue()
        self.alive = True
        client = cast("ModbusClient", self.client)
        self.way = ProxyRoute("tcp://h:502", client, self.turn, lambda: self.alive, **way)  # type: ignore[arg-type]
        self.guest = ProxiedMeter(self.way, self.lane, self.clock, MAX_AGE, self.counters)

    async def refused(self, span: RegisterSpan = SPAN) -> int:
        with pytest.raises(ProxyRefusal) as caught:
            await self.guest.read(span)
        self.counters[caught.value.cause] += 1
        return caught.value.code


async def test_what_a_poll_just_read_is_not_asked_again() -> None:
    rig = Rig()
    await rig.client.read(4, 0, 80)
    assert await rig.guest.read(SPAN) == bytes.fromhex("000A 000B")
    assert len(rig.client.asked) == 1
    assert rig.counters == {"remembered": 1}


async def test_what_was_not_read_is_asked_and_then_remembered() -> None:
    rig = Rig()
    for _ in range(3):
        assert await rig.guest.read(SPAN) == bytes.fromhex("000A 000B")
    assert rig.client.asked == [SPAN]
    assert rig.counters == {"asked": 1, "remembered": 2}


async def test_what_is_too_old_is_asked_again() -> None:
    rig = Rig()
    await rig.client.read(4, 0, 80)
    rig.clock.pass_by(MAX_AGE + 0.001)
    await rig.guest.read(SPAN)
    assert rig.client.asked[-1] == SPAN


async def test_guests_wait_for_the_poll_and_are_served_from_it() -> None:
    rig = Rig()
    async with rig.turn:
        guests = [asyncio.create_task(rig.guest.read(SPAN)) for _ in range(3)]
        await asyncio.sleep(0)
        await rig.client.read(4, 0, 80)
    assert await asyncio.gather(*guests) == [bytes.fromhex("000A 000B")] * 3
    assert len(rig.client.asked) == 1


async def test_a_poll_waits_for_one_guest_at_most() -> None:
    """On a bus that is polled without a pause, with eight guests: poll, guest, poll, guest …"""
    rig = Rig()
    order: list[str] = []

    async def bus() -> None:
        for _ in range(20):
            async with rig.turn:
                order.append("poll")
                await asyncio.sleep(0)

    async def guest(number: int) -> None:
        for address in range(2):
            await rig.guest.read(RegisterSpan(3, 100 * number + address, 1))
            order.append("guest")

    await asyncio.gather(bus(), *(guest(number) for number in range(WAITING_MAX)))
    assert order.count("guest") == 16
    polls_over = max(place for place, who in enumerate(order) if who == "poll")
    during = order[:polls_over]
    assert "guest" in during
    assert not any(a == b == "guest" for a, b in itertools.pairwise(during))


async def test_more_guests_than_may_wait_hear_busy_at_once() -> None:
    rig = Rig()
    async with rig.turn:
        waiting = [
            asyncio.create_task(rig.guest.read(RegisterSpan(4, address, 1)))
            for address in range(WAITING_MAX)
        ]
        await asyncio.sleep(0)
        assert await rig.refused() == 6
    await asyncio.gather(*waiting)
    assert rig.lane.waiting == 0
    assert await rig.guest.read(SPAN)


async def test_a_guest_that_waited_too_long_hears_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterd.proxy.proxied_meter.WAIT_MAX_S", 0.01)
    rig = Rig()
    async with rig.turn:
        assert await rig.refused() == 6
    assert rig.lane.waiting == 0
    assert await rig.guest.read(SPAN)


async def test_an_exchange_that_has_begun_is_never_cut_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("meterd.proxy.proxied_meter.WAIT_MAX_S", 0.01)
    rig = Rig()
    rig.client.gate.clear()
    task = asyncio.create_task(rig.guest.read(SPAN))
    await asyncio.sleep(0.05)
    rig.client.gate.set()
    assert await task == bytes.fromhex("000A 000B")


async def test_a_meter_that_is_down_is_not_asked() -> None:
    rig = Rig()
    rig.alive = False
    assert await rig.refused() == 11
    assert rig.client.asked == []


async def test_a_meter_found_down_while_a_guest_waited_is_not_asked() -> None:
    rig = Rig()
    async with rig.turn:
        task = asyncio.create_task(rig.refused())
        await asyncio.sleep(0)
        rig.alive = False
    assert await task == 11
    assert rig.client.asked == []


async def test_what_is_fresh_is_served_even_if_the_meter_went_down() -> None:
    rig = Rig()
    await rig.client.read(4, 0, 80)
    rig.alive = False
    assert await rig.guest.read(SPAN)
    rig.clock.pass_by(MAX_AGE + 0.001)
    assert await rig.refused() == 11


async def test_silence_costs_the_link_a_small_share_of_its_time() -> None:
    rig = Rig()
    rig.client.error = LinkError("no answer in time", code=LinkCode.TIMEOUT)
    end = rig.clock.now + 1000
    while rig.clock.now < end:
        assert await rig.refused() == 11
        rig.clock.pass_by(0.05)
    lost = 0.1 * rig.counters["lost"]
    assert 0.5 * TIMEOUT_SHARE_MAX < lost / 1000 <= TIMEOUT_SHARE_MAX
    assert rig.counters["resting"] > 1000


async def test_resting_from_silence_does_not_hide_what_is_fresh() -> None:
    rig = Rig()
    rig.client.error = LinkError("no answer in time", code=LinkCode.TIMEOUT)
    await rig.refused(RegisterSpan(3, 500, 1))
    rig.client.error = None
    await rig.client.read(4, 0, 80)
    assert await rig.guest.read(SPAN)
    assert await rig.refused(RegisterSpan(3, 500, 1)) == 11


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused(2), 2),
        (ModbusException(4), 4),
        (ModbusException(66), 66),
        (DeviceError("no"), 4),
        (LinkError("reset", code=LinkCode.CLOSED), 11),
    ],
)
async def test_a_meters_no_is_passed_on(error: MeterdError, code: int) -> None:
    rig = Rig()
    rig.client.error = error
    assert await rig.refused() == code
    assert not rig.turn.locked()


async def test_what_the_map_forbids_never_reaches_the_meter() -> None:
    rig = Rig(most=50, unreadable=((20, 29), (40, 40)))
    assert await rig.refused(RegisterSpan(4, 100, 51)) == 3
    for first, count in ((20, 1), (29, 1), (15, 6), (29, 30), (0, 50), (40, 1)):
        assert await rig.refused(RegisterSpan(4, first, count)) == 2
    assert rig.client.asked == []
    for first, count in ((19, 1), (30, 10), (41, 9), (100, 50)):
        assert await rig.guest.read(RegisterSpan(4, first, count))


async def test_where_sizes_tell_replies_apart_guests_may_not_use_them_up() -> None:
    rig = Rig(told_apart=False)
    for count in range(1, REPLY_SIZES_MAX + 1):
        assert await rig.guest.read(RegisterSpan(4, 200 * count, count))
    assert await rig.refused(RegisterSpan(4, 1, REPLY_SIZES_MAX + 1)) == 3
    assert await rig.guest.read(RegisterSpan(4, 1, REPLY_SIZES_MAX))


async def test_the_kinds_of_requests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterd.proxy.proxied_meter.DISTINCT_REQUESTS_MAX", 3)
    rig = Rig()
    for address in (1, 2, 3, 1, 2, 3):
        rig.clock.pass_by(MAX_AGE + 1)
        assert await rig.guest.read(RegisterSpan(3, address, 1))
    assert await rig.refused(RegisterSpan(3, 4, 1)) == 3
    assert {span.address for span in rig.client.asked} == {1, 2, 3}


async def test_a_guest_that_left_watches_no_more_and_never_blinds_the_next() -> None:
    rig = Rig()
    other = ProxiedMeter(rig.way, rig.lane, rig.clock, MAX_AGE, Counter())
    rig.guest.stop_observing()
    assert rig.client.observe is not None
    other.stop_observing()
    assert rig.client.observe is None
