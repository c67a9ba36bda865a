"""Counter guard over stored reads: later reads are available, so they help to judge each one.

    raw reads in time order ──▶ the AHEAD reads after each ──▶ CounterGuard ──▶ totals in time order
                                  a spike, a dip: left out
                                  a jump: another meter

The totals are a function of the reads alone, whatever came in which order.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import NamedTuple

from meterd.model.event import EventKind
from meterd.model.sample import Quality, QualityFlag
from meterd.poll.counter_guard import (
    DEFAULT_POWER,
    DEFAULT_RESOLUTION,
    READS_TO_AGREE,
    CounterGuard,
    decimal,
)
from meterd.poll.guard_state import GuardOutcome, GuardState, Step
from meterd.poll.guard_state import Read as GuardRead

# Later reads that are examined to tell a spike, a dip or a jump,
AHEAD = 12
# and earlier good reads that give the counter's usual rate.
PAST = 6
# Equal reads in a row after which a counter is at rest and its last rise is forgotten.
STANDING = 96
# Reads that a spike or a dip lasts at most; a longer one is the counter's real value.
_SPIKE_READS_MAX = AHEAD - READS_TO_AGREE - 1
# Without a configured max_power, a rise above so many seconds at the default power, and so many
# times as fast as all rises around it, is taken for another meter.
_JUMP_FACTOR = 100.0
_JUMP_POWER_S = 90.0
# Rises needed on each side of a jump to know the usual rate.
_RISES_MIN = 2
# An interval this many times the longest around it is a gap in the data.
_GAP_STEPS = 3
# Wh. Usual rollover values, where the register's is unknown: decimal digits, and 32 bits.
WRAPS = (*(10.0**n for n in range(6, 12)), *(2**32 * 10.0**n for n in range(-1, 4)))

_GOOD = QualityFlag(Quality.GOOD, "")
_LATER = QualityFlag(Quality.GOOD, "counted once the reads after it agreed")
_AT_REST = QualityFlag(Quality.GOOD, "at rest since a reset")
_PENDING = QualityFlag(Quality.ESTIMATED, "the counter's first reads: no others confirm them yet")
_EVENTS = {
    GuardOutcome.ROLLOVER: EventKind.ROLLOVER,
    GuardOutcome.RESET: EventKind.RESET,
    GuardOutcome.GLITCH: EventKind.GLITCH,
    GuardOutcome.STUCK: EventKind.STUCK,
}
_HOLDS = (GuardOutcome.HELD, GuardOutcome.STUCK)


class CounterTerms(NamedTuple):
    """Parameters of a CounterGuard, in canonical units.

    `is_given`: `max_power` is configured. `wraps`: possible rollover values, where `wrap` is not
    known.
    """

    max_power: float = DEFAULT_POWER
    wrap: float | None = None
    resolution: float = DEFAULT_RESOLUTION
    unit: str = "Wh"
    is_given: bool = False
    wraps: Sequence[float] = ()


class Raw(NamedTuple):
    """One stored read at `time` (Unix ms); `value` is None if unusable, `doubt` the reason."""

    time: int
    value: float | None
    doubt: QualityFlag = _GOOD


class Total(NamedTuple):
    """The guarded total at the time of a read; None where it is unknown."""

    time: int
    value: float | None
    doubt: QualityFlag = _GOOD


class ReplayEvent(NamedTuple):
    """An event, at the time of its read (Unix ms)."""

    time: int
    kind: EventKind
    text: str


class CounterReplay:
    """Replays one counter's history. Totals that `take` returns are final; `end` gives the rest.

    `state` and `past` (good reads, the newest last) are the starting point; `swaps` are Unix ms
    from which on another meter was read.
    """

    def __init__(
        self,
        terms: CounterTerms,
        *,
        state: GuardState | None = None,
        past: Sequence[tuple[int, float]] = (),
        swaps: Sequence[int] = (),
    ) -> None:
        self._terms = terms
        self._guard = CounterGuard(
            max_power=terms.max_power,
            wrap=terms.wrap,
            resolution=terms.resolution,
            unit=terms.unit,
            interval=math.inf,
            state=state,
            sparse=True,
            wraps=terms.wraps,
        )
        self._past = deque(past, PAST)
        start = state.time if state is not None else -1
        self._swaps = deque(sorted(time for time in swaps if time > start))
        self._queue: deque[Raw] = deque()
        self._values: deque[float] = deque()  # those of the queue
        self._jump_from = math.inf
        if not terms.is_given:
            self._jump_from = terms.max_power / 3600 * _JUMP_POWER_S
        self._skip_count = 0  # of the next reads
        self._skip_reason = ""
        self._held: list[tuple[Raw, Step]] = []
        self._last = (state.raw, state.total) if state is not None else None
        at_rest = state is not None and state.raw is not None and state.before is None
        self._reads_at_rest = STANDING if at_rest else 0
        self.happened: list[ReplayEvent] = []

    @property
    def is_settled(self) -> bool:
        """Whether no read is held or about to be left out."""
        return not self._held and not self._skip_count

    def state(self) -> GuardState:
        """After `end`: the state from which live polls continue."""
        return self._guard.state()

    def take(self, read: Raw) -> Iterator[Total]:
        """Add a read, newer than all before; yields the totals that are final now."""
        self._queue.append(read)
        if read.value is not None:
            self._values.append(read.value)
        while len(self._values) > AHEAD:
            yield from self._process_next()

    def end(self) -> Iterator[Total]:
        """Yields the remaining totals: there are no more reads."""
        while self._queue:
            yield from self._process_next()
        yield from self._release()

    def _process_next(self) -> Iterator[Total]:
        read = self._queue.popleft()
        if read.value is None:
            yield Total(read.time, None, read.doubt)
            return
        self._values.popleft()
        if not 0 <= read.value < math.inf:
            text = f"{read.value:g} is no value that a counter can have"
            yield Total(read.time, None, QualityFlag(Quality.INVALID, text))
            return
        if not self._skip_count:
            yield from self._examine(read, read.value)
        if self._skip_count:
            self._skip_count -= 1
            yield Total(read.time, None, QualityFlag(Quality.SUSPECT, self._skip_reason))
            return
        if not self._guard.has_raw and not self._held and self._begins(read, read.value):
            step = self._guard.begin(read.value, now=read.time / 1000, time_ms=read.time)
            yield self._total(Total(read.time, step.value), read.value)
            return
        yield from self._step(read, read.value)

    # -- examination with later reads -----------------------------------------------------------

    def _examine(self, read: Raw, value: float) -> Iterator[Total]:
        """Detect a swap, a spike, a dip or a jump that begins with this read."""
        if self._swaps and self._swaps[0] <= read.time:
            while self._swaps and self._swaps[0] <= read.time:
                self._swaps.popleft()
            yield from self._swap(read, "another meter from here on: a new segment", EventKind.SWAP)
            return
        guard = self._guard
        if not guard.has_raw or guard.suspect is not None or value == guard.raw:
            return
        rise = value - guard.raw
        is_low = bool(self._values) and min(self._values) < value
        if rise > 0 and not is_low and rise < self._jump_from:
            return
        later_reads = [later for later in self._queue if later.value is not None]
        values = [value, *self._values]
        count = (
            self._spike_length(values)
            if value > guard.raw
            else self._dip_length(values, read, later_reads)
        )
        if count:
            kind = "spike" if value > guard.raw else "dip"
            before, after = self._format(guard.raw), self._format(values[count])
            self._skip_count = count
            self._skip_reason = (
                f"left out: {self._format(value)} was a {kind}: {before} before, {after} after"
            )
            self._report(read, EventKind.GLITCH, self._skip_reason)
        elif value > guard.raw and (factor := self._jump_factor(read, later_reads)):
            text = f"rose from {self._format(guard.raw)} to {self._format(value)}, "
            text += f"{abs(factor):.0f} times as fast as around it"
            if factor < 0:
                self._skip_count, self._skip_reason = 1, f"held: it {text}; no reads follow yet"
                self._report(read, EventKind.GUARD_WAITS, self._skip_reason)
                return
            text += ": taken for another meter, a new segment"
            yield from self._swap(read, text, EventKind.RESET)

    def _swap(self, read: Raw, text: str, kind: EventKind) -> Iterator[Total]:
        yield from self._release()
        if self._guard.has_raw:
            self._report(read, kind, text)
            self._guard.swap()
        self._past.clear()

    def _begins(self, read: Raw, value: float) -> bool:
        """Whether later reads continue a counter's first read."""
        chain = [GuardRead(value, read.time / 1000, read.time)]
        others: list[tuple[int, float]] = []
        for later in self._queue:
            if later.value is None:
                continue
            guard_read = GuardRead(later.value, later.time / 1000, later.time)
            if self._guard.can_rise(chain[-1], guard_read):
                chain.append(guard_read)
                others.clear()
            others.append((later.time, later.value))
            if len(chain) == READS_TO_AGREE:
                return True
        if len(chain) < READS_TO_AGREE - 1 or chain[1].raw == value:
            return False
        # Only two agree before a swap or reset: their rate must fit the one after it.
        rate = (chain[1].raw - value) / (chain[1].time - read.time)
        return rate <= _JUMP_FACTOR * max(_rates(others[1:]), default=0.0)

    def _spike_length(self, values: Sequence[float]) -> int:
        """Length in reads of a spike that begins here; 0 if the rise is none."""
        last_raw, lowest = self._guard.raw, math.inf
        for count in range(1, min(_SPIKE_READS_MAX + 1, len(values))):
            lowest = min(lowest, values[count - 1])
            after = values[count : count + READS_TO_AGREE]
            if after[0] < last_raw:
                return 0
            if after[0] >= lowest:
                continue
            height = max(values[:count]) - last_raw
            is_back = all(last_raw <= a <= b < lowest for a, b in pairwise([after[0], *after]))
            if is_back and values[count - 1] - after[0] >= height / 2:
                return count
        return 0

    def _dip_length(self, values: Sequence[float], read: Raw, later_reads: Sequence[Raw]) -> int:
        """Length in reads of a dip that begins here; 0 if the fall is none."""
        last = self._guard.raw
        for count in range(1, min(_SPIKE_READS_MAX + 1, len(values))):
            after = values[count]
            if after < last:
                continue
            time = later_reads[count - 1].time
            depth = last - min(values[:count])
            is_back = self._guard.can_follow(GuardRead(after, time / 1000, time))
            return count if is_back and after - values[count - 1] >= depth / 2 else 0
        return 0

    def _jump_factor(self, read: Raw, later_reads: Sequence[Raw]) -> float:
        """Factor by which a rise is faster than all around it, if it is another meter's; else 0.

        Negative where that is undecided until more reads follow.
        """
        past, rise = self._past, (read.value or 0.0) - self._guard.raw
        is_frozen = len(past) == PAST and past[0][1] == self._guard.raw
        if not past or is_frozen or rise < self._jump_from:
            return 0.0
        later = [
            (later_read.time, later_read.value or 0.0)
            for later_read in (read, *islice(later_reads, PAST))
        ]
        before, after = list(_rates(past)), list(_rates(later))
        is_last = len(later_reads) < PAST and len(after) < _RISES_MIN
        is_first = len(past) < PAST and len(after) > _RISES_MIN
        if (len(after) < _RISES_MIN and not is_last) or (len(before) < _RISES_MIN and not is_first):
            return 0.0
        steps = [b[0] - a[0] for side in (past, later) for a, b in pairwise(side)]
        if read.time - past[-1][0] > _GAP_STEPS * max(steps):
            return 0.0
        since = next((time for time, value in past if value == self._guard.raw), past[-1][0])
        factor = rise / (read.time - since) / max(*before, *after)
        if factor <= _JUMP_FACTOR:
            return 0.0
        return -factor if is_last else factor

    # -- through the guard --------------------------------------------------------------------

    def _step(self, read: Raw, value: float) -> Iterator[Total]:
        guard = self._guard
        step = guard.step(value, now=read.time / 1000, time_ms=read.time)
        if step.what in _HOLDS:
            self._held.append((read, step))
            if step.what is GuardOutcome.STUCK:
                self._report(read, EventKind.STUCK, step.text)
            return
        if self._held:
            yield from self._release_judged(read, step)
        elif step.what in _EVENTS:
            self._report(read, _EVENTS[step.what], step.text)
        doubt = _AT_REST if guard.is_reset else _GOOD
        if guard.is_ahead:
            doubt = QualityFlag(Quality.ESTIMATED, step.text)
        yield self._total(Total(read.time, step.value, doubt), value)

    def _release_judged(self, read: Raw, step: Step) -> Iterator[Total]:
        """Totals of the held reads, after the guard judged them with this step."""
        guard, agreeing = self._guard, max(0, self._guard.agreed - 1)
        left_out = len(self._held) - agreeing
        first = self._held[left_out][0] if agreeing else self._held[0][0]
        if step.what in _EVENTS:
            self._report(first, _EVENTS[step.what], step.text)
        elif left_out:
            text = (
                f"left out: {self._format(self._held[0][0].value or 0.0)}, "
                "which no reads agree with"
            )
            self._report(self._held[0][0], EventKind.GLITCH, text)
        for held_read, held_step in self._held[:left_out]:
            text = step.text if step.what is GuardOutcome.GLITCH else held_step.text
            yield Total(held_read.time, None, QualityFlag(Quality.SUSPECT, text))
        for held_read, _ in self._held[left_out:]:
            raw = held_read.value or 0.0
            total, doubt = guard.total, QualityFlag(Quality.ESTIMATED, step.text)
            if not guard.is_ahead:
                total, doubt = min(decimal(raw + guard.offset), guard.total or 0.0), _LATER
            yield self._total(Total(held_read.time, total, doubt), raw)
        self._held.clear()

    def _total(self, total: Total, raw: float) -> Total:
        if total.doubt.quality is Quality.GOOD:
            self._past.append((total.time, raw))
        last, self._last = self._last, (raw, total.value) if total.doubt is _GOOD else None
        self._reads_at_rest = (
            self._reads_at_rest + 1 if last is not None and last == self._last else 0
        )
        if self._reads_at_rest >= STANDING and not self._guard.is_reset:
            self._guard.forget_rise()
        return total

    def _release(self) -> Iterator[Total]:
        """Totals of reads still held: a counter's first reads count if all of them agree."""
        guard, suspect = self._guard, self._guard.suspect
        all_agree = not guard.has_raw and suspect is not None and suspect.agreeing == suspect.reads
        for held_read, held_step in self._held:
            if all_agree and suspect is not None:
                start = suspect.first.raw if guard.total is None else guard.total
                value = decimal(start + (held_read.value or 0.0) - suspect.first.raw)
                yield Total(held_read.time, value, _PENDING)
            else:
                yield Total(held_read.time, None, QualityFlag(Quality.SUSPECT, held_step.text))
        self._held.clear()

    def _report(self, read: Raw, kind: EventKind, text: str) -> None:
        self.happened.append(ReplayEvent(read.time, kind, text))

    def _format(self, value: float) -> str:
        return f"{value:.12g} {self._terms.unit}"


def _rates(reads: Sequence[tuple[int, float]]) -> Iterator[float]:
    """Rate of each rise per ms, up to the first fall."""
    since = reads[0][0] if reads else 0
    for (_, earlier), (time, later) in pairwise(reads):
        if later < earlier:
            return
        if later > earlier:
            yield (later - earlier) / (time - since)
            since = time
