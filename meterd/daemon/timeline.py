"""Timestamps of polls rise per device, also where the wall clock is stepped or not set yet.

    clock not set   polls wait in memory, and are dated by how long ago they began
    a step          what was taken shortly before and after it is suspect, and one event tells it
    ... ahead, and back soon after   the polls in between get their right times
    ... back        polls follow the stored ones, half as far apart, until the clock has caught up

Many polls may have to be dated at once. The loop does it in bounded pieces, and what is polled
meanwhile waits behind them, so that the order stays.

What steps no clock is how much time passed between two polls. An offset between the two clocks that
has stood for SETTLED seconds is believed; polls of a shorter one are remembered, to be dated again.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from meterd.daemon.counter_state import Memos
from meterd.model.clock import EARLIEST_MS, Clock, suspended_s
from meterd.model.event import EventKind, Scalar
from meterd.model.sample import Poll, Quality, QualityFlag, Sink

# Values that wait for a clock, 16 MB: half an hour of 10,000 series at 10 s, weeks of a household.
MOST = 2_000_000
# Values that are remembered until the clock is believed.
MOST_REMEMBERED = 300_000
# What is done at once of much: values, and a poll costs as much as so many; 2 ms of the loop.
_PIECE = 4_000
_POLL = 20
# And beside each poll that comes meanwhile, so many times what that one costs.
_BESIDE = 3
# Seconds for which an offset has to stand. NTP sets a clock minutes after the start, or an hour
# after it where the network is late.
SETTLED = 7200.0
# Seconds after a step in which times are suspect; each device's first poll is so in any case.
AROUND = 60.0
# What is no step: how late a busy machine may hand a poll on, in ms, and how fast a clock may be
# slewed, as a share of the time that passed (chrony: 0.083), and by how many ms at most.
_NOISE_MS = 1_000.0
_SLEWED = 0.1
_SLEWED_MS = 5_000.0
# How much slower times go on while the clock has to catch up with those that are stored.
_PACE = 0.5
# ms. A clock that is further behind than this is believed at once: to catch up would take too long.
_CATCH_UP_MS = 86_400_000
# ms. Up to when the clock was believed is noted each ten minutes: what the store has of a later
# time than this after it was taken under a clock that nobody believed yet.
_NOTED_MS = 1_200_000
# Seconds in which it is told once that times are moved.
_QUIET = 600.0
# Events in an hour; more of them are counted only.
_MOST_EVENTS = 20
_HOUR = 3600.0
_MEMO = "clock"
_STRAY = "the clock was wrong: this poll stands at its right time, too"
_STEPPED = "the clock was set shortly before or after this was read"
_MOVED = "the clock was set back: this was read earlier than its time says"
_REDATED = "the clock was wrong when this was read: it was dated once that was known"

_log = logging.getLogger(__name__)

Tell = Callable[[EventKind, str, Mapping[str, Scalar]], None]
"""Makes an event of meterd itself."""


class _Taken(NamedTuple):
    """A poll; when it began, in seconds of a clock that never steps; its time in the store."""

    poll: Poll
    began: float
    stored: int = 0

    def called(self, old: str, new: str) -> "_Taken":
        if self.poll.device != old:
            return self
        return self._replace(poll=replace(self.poll, device=new))


_Work = Iterator[int]
"""Done bit by bit; it tells of how many values each bit was."""


class _Newest(NamedTuple):
    """A device's last time in the store; its poll, when that began, and after how many steps."""

    time: int
    began: float
    step: int
    poll: Poll | None = None


def _logged(_: EventKind, text: str, __: Mapping[str, Scalar]) -> None:
    _log.warning("%s", text)


class Timeline:
    """In front of the store. Every device's polls leave it with times that rise."""

    def __init__(
        self,
        clock: Clock,
        tell: Tell = _logged,
        *,
        most: int = MOST,
        most_remembered: int = MOST_REMEMBERED,
    ) -> None:
        """`tell` gets steps of the clock; `most`: values that may wait for a clock that
        is not set.
        """
        self._clock = clock
        self._tell = tell
        self._most = most
        self._most_remembered = most_remembered
        # What waits for a clock, or for what has to be dated before it.
        self._held: deque[_Taken] = deque()
        self._values = 0
        self._is_unset = False  # whether some of it waits for a clock
        self._todo: list[_Work] = []  # what is under way; the last one goes first
        self.dropped = 0  # polls
        self.sink: Sink | None = None
        self._began = self._elapsed()
        self._offset: float | None = None  # ms by which UTC is ahead of the other clock
        self._seen = self._began  # when it was looked at, in seconds of the other clock
        self._since = self._began  # since when it stands
        self._steps = 0
        # Polls that may have to be dated again, oldest first; None: the clock is believed.
        self._remembered: deque[_Taken] | None = deque()
        self._remembered_values = 0
        self._offsets: deque[float] = deque(maxlen=_MOST_EVENTS)  # by which they were dated
        self._newest: dict[str, _Newest] = {}
        # The last polls that are not among the remembered ones; they stay where they are.
        self._settled: dict[str, _Newest] = {}
        self._sure: int | None = None  # the last time at which the clock was believed
        self._moved = -_HOUR  # when it was last known that times have to be moved
        self._is_begun = False
        self._events: deque[float] = deque(maxlen=_MOST_EVENTS)
        self._untold = 0

    # -- over a restart ----------------------------------------------------------------------

    def begin(self, stored: Mapping[str, int], memos: Memos) -> None:
        """Starts from the newest stored time (Unix ms) of each device."""
        if self._is_begun:
            return
        self._is_begun = True
        newest, sure = max(stored.values(), default=0), _believed(memos)
        # A store of before there were notes: nothing says that its times are wrong.
        self._sure = newest if sure is None else sure
        for device, time in stored.items():
            before = self._newest.get(device)
            if time <= self._sure + _NOTED_MS and (before is None or before.time < time):
                stored_newest = _Newest(time, self._began, self._steps)
                self._newest[device] = self._settled[device] = stored_newest
        ahead = newest - self._clock.now_ms()
        if ahead > 0 and newest > self._sure + _NOTED_MS:
            text = f"the store has times up to {_span(ahead)} ahead, of a clock that was wrong"
            self._note(EventKind.CLOCK_BEHIND, text, {"seconds": round(ahead / 1000, 3)})

    def save(self, memos: Memos) -> None:
        """For the next start: up to when the clock was believed."""
        if self._sure is not None:
            memos.remember(_MEMO, json.dumps({"believed": self._sure}))

    # -- another name ------------------------------------------------------------------------

    def rename(self, old: str, new: str) -> None:
        """A device goes on under another name, after the last time it has under either."""
        # What is under way has the former name in hand.
        self._finish()
        self._newest = _renamed(self._newest, old, new)
        self._settled = _renamed(self._settled, old, new)
        self._held = deque(taken.called(old, new) for taken in self._held)
        if self._remembered is not None:
            self._remembered = deque(taken.called(old, new) for taken in self._remembered)

    # -- polls -------------------------------------------------------------------------------

    def take(self, poll: Poll) -> None:
        began = self._elapsed() - poll.took
        if poll.time < EARLIEST_MS or self._held or self._todo:
            self._hold(_Taken(poll, began))
        else:
            self._place(poll, began)
            self._go_on()

    def _elapsed(self) -> float:
        return self._clock.monotonic() + suspended_s()

    def _go_on(self) -> None:
        """Does one piece of the work, and calls itself later for the next one."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._finish()  # nobody waits meanwhile
            return
        self._work(_PIECE)
        if self._todo:
            loop.call_soon(self._go_on)

    def _finish(self) -> None:
        while self._todo:
            self._work(_PIECE)

    def _work(self, left: int) -> None:
        while self._todo and left > 0:
            mine = self._todo[-1]
            values = next(mine, None)
            if values is None:
                self._todo.remove(mine)
            else:
                left -= values + _POLL

    def _place(self, poll: Poll, began: float) -> None:
        """Looks whether the clock was set, and hands the poll on."""
        offset = poll.time - began * 1000
        if self._offset is None:
            self._offset = offset
        change, passed = offset - self._offset, max(0.0, began - self._seen)
        self._offset, self._seen = offset, max(began, self._seen)
        if abs(change) > _NOISE_MS + min(_SLEWED * 1000 * passed, _SLEWED_MS):
            self._todo.append(self._stepped(change, _Taken(poll, began)))
            return
        if self._remembered is not None and began - self._since >= SETTLED:
            self._remembered, self._remembered_values = None, 0
        if self._remembered is None:
            self._sure = poll.time
        self._pass(poll, began, poll.time)

    def _pass(self, poll: Poll, began: float, time: int, why: str = "") -> None:
        """To the store at this time, or after the device's last one where that is later."""
        newest = self._newest.get(poll.device)
        step = self._steps if newest is None else newest.step
        if newest is not None and time <= newest.time:
            time, why = self._after(newest, began, time), _MOVED
        if not why and self._steps and (step != self._steps or began < self._since + AROUND):
            why = _STEPPED
        self._newest[poll.device] = _Newest(time, began, self._steps, poll)
        self._hand_on(poll, time, Quality.SUSPECT if why else None, why)
        if self._remembered is not None:
            self._remember(self._remembered, _Taken(poll, began, time))

    def _after(self, newest: _Newest, began: float, time: int) -> int:
        """A time for a poll that is older than the newest stored one."""
        behind = newest.time - time
        if began - self._moved > _QUIET:
            text = f"the clock is {_span(behind)} behind what is stored: {_until(behind)}"
            self._note(EventKind.CLOCK_BEHIND, text, {"seconds": round(behind / 1000, 3)})
        self._moved = began
        if behind > _CATCH_UP_MS:
            return time
        return newest.time + max(1, round((began - newest.began) * 1000 * _PACE))

    def _hand_on(self, poll: Poll, time: int, quality: Quality | None, why: str) -> None:
        if self.sink is None:
            return
        if quality is None:
            self.sink.take(poll if poll.time == time else replace(poll, time=time))
            return
        # Whether a device answered is never in doubt, but when it did may be wrong altogether.
        columns = range(len(poll.values) - (quality is Quality.SUSPECT))
        doubts = dict.fromkeys(columns, QualityFlag(quality, why))
        if quality is Quality.SUSPECT:
            doubts.update(poll.doubts)
        self.sink.take(replace(poll, time=time, doubts=doubts))

    # -- steps -------------------------------------------------------------------------------

    def _stepped(self, change: float, taken: _Taken) -> _Work:
        """The clock was set by so many ms before this poll, which follows."""
        offset, began = taken.poll.time - taken.began * 1000, taken.began
        self._steps += 1
        previous, self._since = self._since, began
        self._moved = began
        redated = 0
        if self._remembered is None:
            self._remembered, self._settled = deque(), dict(self._newest)
            self._offsets.clear()
            yield from self._doubt_last()
        else:
            again = self._remembered
            if len(self._offsets) == _MOST_EVENTS:
                # It goes on and on: polls are not dated again for ever.
                yield from self._settle(again, until=previous)
            # A clock that comes back puts polls where it had put them, to the millisecond.
            before = (other for other in self._offsets if abs(other - offset) < _NOISE_MS)
            self._offsets.append(next(before, offset))
            redated = len(again)
            yield from self._date_again(again, self._offsets[-1])
        self._tell_step(change, redated, began * 1000 + offset)
        self._pass(taken.poll, began, taken.poll.time)

    def _tell_step(self, change: float, redated: int, now: float) -> None:
        way = "forward" if change > 0 else "back"
        text = f"the clock was set {way} by {_span(abs(change))}"
        if redated:
            text += f": {redated} polls from before have their times by the new one"
        latest = max((newest.time for newest in self._newest.values()), default=0)
        if (behind := latest - now) > 0:
            text += f": {_until(behind)}"
        data: dict[str, Scalar] = {"seconds": round(change / 1000, 3), "polls": redated}
        self._note(EventKind.CLOCK_STEPPED, text, data)

    def _doubt_last(self) -> _Work:
        """The last poll of each device before a step is suspect, too."""
        for newest in list(self._newest.values()):
            if newest.poll is not None:
                self._hand_on(newest.poll, newest.time, Quality.SUSPECT, _STEPPED)
                yield len(newest.poll.values)

    def _date_again(self, again: deque[_Taken], offset: float) -> _Work:
        """Gives the remembered polls times by the present clock."""
        self._remembered, self._remembered_values = deque(), 0
        for taken in again:
            self._hand_on(taken.poll, taken.stored, Quality.INVALID, _STRAY)
            self._newest.pop(taken.poll.device, None)
            yield len(taken.poll.values)
        self._newest = {**self._settled, **self._newest}
        for poll, began, _ in again:
            time = round(began * 1000 + offset)
            # Where the clock was right then, what it said is finer than what it says now.
            right = abs(time - poll.time) < _NOISE_MS
            self._pass(poll, began, poll.time if right else time, _REDATED)
            yield len(poll.values)

    def _remember(self, remembered: deque[_Taken], taken: _Taken) -> None:
        remembered.append(taken)
        self._remembered_values += len(taken.poll.values)
        while self._remembered_values > self._most_remembered:
            self._settle_one(remembered)

    def _settle(self, remembered: deque[_Taken], until: float) -> _Work:
        """Makes the times of polls from before `until` final."""
        while remembered and remembered[0].began < until:
            self._settle_one(remembered)
            yield 0

    def _settle_one(self, remembered: deque[_Taken]) -> None:
        oldest = remembered.popleft()
        self._remembered_values -= len(oldest.poll.values)
        self._settled[oldest.poll.device] = _Newest(oldest.stored, oldest.began, self._steps)

    def _note(self, kind: EventKind, text: str, data: Mapping[str, Scalar]) -> None:
        """An event, as long as there were not too many within the hour."""
        now = self._elapsed()
        if len(self._events) == _MOST_EVENTS and now - self._events[0] < _HOUR:
            self._untold += 1
            return
        more, self._untold = self._untold, 0
        self._events.append(now)
        counted = f"{text} (and {more} times more since the last word)" if more else text
        self._tell(kind, counted, data)

    # -- a clock that is not set -------------------------------------------------------------

    def _hold(self, taken: _Taken) -> None:
        if taken.poll.time < EARLIEST_MS:
            if not self._is_unset and self._clock.now_ms() < EARLIEST_MS:
                _log.warning("the clock is not set: polls wait in memory for the right time")
            self._is_unset = True
        self._held.append(taken)
        self._values += len(taken.poll.values)
        while self._values > self._most:
            self._values -= len(self._held.popleft().poll.values)
            self.dropped += 1
        if self._todo:
            # It ends, however busy the loop is.
            self._work(_BESIDE * (_POLL + len(taken.poll.values)))
        elif self._clock.now_ms() >= EARLIEST_MS:
            self._todo.append(self._released())
            self._go_on()

    def _released(self) -> _Work:
        """The clock is right: so is every poll, by how long ago it began."""
        now, since, waited = self._clock.now_ms(), self._elapsed(), 0
        while self._held:
            poll, began, _ = self._held.popleft()
            self._values -= len(poll.values)
            time = poll.time
            if time < EARLIEST_MS:
                time = now - round((since - began) * 1000)
                waited += 1
            self._place(replace(poll, time=time), began)
            yield len(poll.values)
        if self._is_unset:
            self._is_unset = False
            lost = f"; {self.dropped} older ones are lost" if self.dropped else ""
            _log.warning("the clock is set: %d polls have their times now%s", waited, lost)

    def close(self) -> None:
        """Finishes the work; polls that never got a time are lost."""
        self._finish()
        if self._held:
            _log.error("%d polls are lost: the clock was never set", len(self._held))
            self._held.clear()
            self._values = 0


def _renamed(newest: Mapping[str, _Newest], old: str, new: str) -> dict[str, _Newest]:
    """In their order. Of a device that is known by both names, the later one counts."""
    renamed = dict(newest)
    if (moved := renamed.pop(old, None)) is not None:
        merged = moved._replace(poll=moved.poll and replace(moved.poll, device=new))
        renamed[new] = max(merged, renamed.get(new, merged), key=lambda each: each.time)
    return renamed


def _believed(memos: Memos) -> int | None:
    try:
        return int(json.loads(memos.recall(_MEMO) or "{}")["believed"])
    except (ValueError, TypeError, KeyError):
        return None


def _until(behind: float) -> str:
    """What happens to polls whose clock is so many ms behind the stored ones, as text."""
    if behind > _CATCH_UP_MS:
        return "it is believed; what is stored of a later time is wrong"
    caught = _span(behind / (1 - _PACE))
    return f"polls follow the stored ones, half as far apart, until it has caught up in {caught}"


def _span(ms: float) -> str:
    seconds = ms / 1000
    if seconds < 100:
        return f"{seconds:.3g} s"
    if seconds < 6000:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.4g} h" if seconds < 360_000 else f"{seconds / 86_400:.4g} days"
