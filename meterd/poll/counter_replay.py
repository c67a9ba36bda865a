"""The guard over stored reads: they are all there, so what follows a read helps to judge it.

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
    READS,
    CounterGuard,
    decimal,
)
from meterd.poll.counter_segments import GuardState, Step, What
from meterd.poll.counter_segments import Read as GuardRead

# So many reads after one tell whether it was a spike, a dip or a jump,
AHEAD = 12
# and so many before it how fast the counter usually rises.
PAST = 6
# After so many equal reads a standing counter remembers no more than that it stands.
STANDING = 96
# A spike or a dip lasts for so many reads at most; what lasts longer is what the counter shows.
_LONGEST = AHEAD - READS - 1
# A rise so many times as fast as all around it is another meter's, if it is more than can flow
# in so many seconds and nobody said what can flow.
_JUMP_FACTOR = 100.0
_JUMP_SECONDS = 90.0
# Fewer rises on one side of a jump do not tell what is usual.
_FEW = 2
# A step that is so many times as wide as those around it is a hole.
_HOLE_STEPS = 3
# Wh at which registers start again, where nobody knows: decimal digits, and 32 bits.
WRAPS = (*(10.0**n for n in range(6, 12)), *(2**32 * 10.0**n for n in range(-1, 4)))

_GOOD = QualityFlag(Quality.GOOD, "")
_LATER = QualityFlag(Quality.GOOD, "counted once the reads after it agreed")
_AT_REST = QualityFlag(Quality.GOOD, "at rest since a reset")
_PENDING = QualityFlag(Quality.ESTIMATED, "the counter's first reads: no others confirm them yet")
_EVENTS = {
    What.ROLLOVER: EventKind.ROLLOVER,
    What.RESET: EventKind.RESET,
    What.GLITCH: EventKind.GLITCH,
    What.STUCK: EventKind.STUCK,
}
_HOLDS = (What.HELD, What.STUCK)


class CounterTerms(NamedTuple):
    """How a counter counts, in canonical units, as CounterGuard has it.

    `is_told`: somebody said `max_power`. `wraps`: where it may start again if `wrap` is not known.
    """

    max_power: float = DEFAULT_POWER
    wrap: float | None = None
    resolution: float = DEFAULT_RESOLUTION
    unit: str = "Wh"
    is_told: bool = False
    wraps: Sequence[float] = ()


class Raw(NamedTuple):
    """One stored read: Unix ms; `value` None where it is none to count by, with the reason."""

    time: int
    value: float | None
    doubt: QualityFlag = _GOOD


class Total(NamedTuple):
    """The guarded total at the time of a read; None where it is not known."""

    time: int
    value: float | None
    doubt: QualityFlag = _GOOD


class Happened(NamedTuple):
    """What was noticed, at which read (Unix ms)."""

    time: int
    kind: EventKind
    text: str


class CounterReplay:
    """One counter's history. What `take` returns is final; `end` gives the rest.

    `state` and `past` (good reads, the newest last) say where it begins; `swaps` are Unix ms from
    which on another meter was read.
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
        begun = state.time if state is not None else -1
        self._swaps = deque(sorted(time for time in swaps if time > begun))
        self._queue: deque[Raw] = deque()
        self._values: deque[float] = deque()  # those of the queue
        self._jump_from = math.inf
        if not terms.is_told:
            self._jump_from = terms.max_power / 3600 * _JUMP_SECONDS
        self._left_out = 0  # of the next reads
        self._why = ""
        self._held: list[tuple[Raw, Step]] = []
        self._last = (state.raw, state.total) if state is not None else None
        stands = state is not None and state.raw is not None and state.before is None
        self._stood = STANDING if stands else 0
        self.happened: list[Happened] = []

    @property
    def is_settled(self) -> bool:
        """Whether nothing is held, of what was given out."""
        return not self._held and not self._left_out

    def state(self) -> GuardState:
        """After `end`: where live polls go on."""
        return self._guard.state()

    def take(self, read: Raw) -> Iterator[Total]:
        """One more read, younger than all before; the totals that are known now."""
        self._queue.append(read)
        if read.value is not None:
            self._values.append(read.value)
        while len(self._values) > AHEAD:
            yield from self._next()

    def end(self) -> Iterator[Total]:
        """There are no more reads."""
        while self._queue:
            yield from self._next()
        yield from self._rest()

    def _next(self) -> Iterator[Total]:
        read = self._queue.popleft()
        if read.value is None:
            yield Total(read.time, None, read.doubt)
            return
        self._values.popleft()
        if not 0 <= read.value < math.inf:
            text = f"{read.value:g} is no value that a counter can have"
            yield Total(read.time, None, QualityFlag(Quality.INVALID, text))
            return
        if not self._left_out:
            yield from self._look(read, read.value)
        if self._left_out:
            self._left_out -= 1
            yield Total(read.time, None, QualityFlag(Quality.SUSPECT, self._why))
            return
        if not self._guard.begun and not self._held and self._begins(read, read.value):
            step = self._guard.begin(read.value, now=read.time / 1000, time_ms=read.time)
            yield self._total(Total(read.time, step.value), read.value)
            return
        yield from self._step(read, read.value)

    # -- with what follows --------------------------------------------------------------------

    def _look(self, read: Raw, value: float) -> Iterator[Total]:
        """Whether this and the next reads are to be left out, or another meter's."""
        if self._swaps and self._swaps[0] <= read.time:
            while self._swaps and self._swaps[0] <= read.time:
                self._swaps.popleft()
            yield from self._swap(read, "another meter from here on: a new segment", EventKind.SWAP)
            return
        guard = self._guard
        if not guard.begun or guard.suspect is not None or value == guard.raw:
            return
        rise = value - guard.raw
        is_low = bool(self._values) and min(self._values) < value
        if rise > 0 and not is_low and rise < self._jump_from:
            return
        next_ones = [one for one in self._queue if one.value is not None]
        values = [value, *self._values]
        count = self._spike(values) if value > guard.raw else self._dip(values, read, next_ones)
        if count:
            what = "spike" if value > guard.raw else "dip"
            before, after = self._say(guard.raw), self._say(values[count])
            self._left_out = count
            self._why = f"left out: {self._say(value)} was a {what}: {before} before, {after} after"
            self._tell(read, EventKind.GLITCH, self._why)
        elif value > guard.raw and (factor := self._jump(read, next_ones)):
            text = f"rose from {self._say(guard.raw)} to {self._say(value)}, "
            text += f"{abs(factor):.0f} times as fast as around it"
            if factor < 0:
                self._left_out, self._why = 1, f"held: it {text}; no reads follow yet"
                self._tell(read, EventKind.GUARD_WAITS, self._why)
                return
            text += ": taken for another meter, a new segment"
            yield from self._swap(read, text, EventKind.RESET)

    def _swap(self, read: Raw, text: str, kind: EventKind) -> Iterator[Total]:
        yield from self._rest()
        if self._guard.begun:
            self._tell(read, kind, text)
            self._guard.swap()
        self._past.clear()

    def _begins(self, read: Raw, value: float) -> bool:
        """Whether a counter's first read is one that those after it carry on from."""
        chain = [GuardRead(value, read.time / 1000, read.time)]
        rest: list[tuple[int, float]] = []
        for one in self._queue:
            if one.value is None:
                continue
            later = GuardRead(one.value, one.time / 1000, one.time)
            if self._guard.reaches(chain[-1], later):
                chain.append(later)
                rest.clear()
            rest.append((one.time, one.value))
            if len(chain) == READS:
                return True
        if len(chain) < READS - 1 or chain[1].raw == value:
            return False
        # Two, and what is another meter, or is reset, after them: as fast as that one.
        rate = (chain[1].raw - value) / (chain[1].time - read.time)
        return rate <= _JUMP_FACTOR * max(_rates(rest[1:]), default=0.0)

    def _spike(self, values: Sequence[float]) -> int:
        """Of reads above the last good one, how many come before the counter goes on below them."""
        last, low = self._guard.raw, math.inf
        for count in range(1, min(_LONGEST + 1, len(values))):
            low = min(low, values[count - 1])
            after = values[count : count + READS]
            if after[0] < last:
                return 0
            if after[0] >= low:
                continue
            height = max(values[:count]) - last
            is_back = all(last <= a <= b < low for a, b in pairwise([after[0], *after]))
            if is_back and values[count - 1] - after[0] >= height / 2:
                return count
        return 0

    def _dip(self, values: Sequence[float], read: Raw, next_ones: Sequence[Raw]) -> int:
        """Of reads below the last good one, how many come before the counter is back."""
        last = self._guard.raw
        for count in range(1, min(_LONGEST + 1, len(values))):
            after = values[count]
            if after < last:
                continue
            time = next_ones[count - 1].time
            depth = last - min(values[:count])
            is_back = self._guard.follows(GuardRead(after, time / 1000, time))
            return count if is_back and after - values[count - 1] >= depth / 2 else 0
        return 0

    def _jump(self, read: Raw, next_ones: Sequence[Raw]) -> float:
        """By how many times a rise is faster than all around it, if it is another meter's; or 0.

        Less than 0 where that cannot be told before more reads follow.
        """
        past, rise = self._past, (read.value or 0.0) - self._guard.raw
        is_frozen = len(past) == PAST and past[0][1] == self._guard.raw
        if not past or is_frozen or rise < self._jump_from:
            return 0.0
        later = [(one.time, one.value or 0.0) for one in (read, *islice(next_ones, PAST))]
        before, after = list(_rates(past)), list(_rates(later))
        is_last = len(next_ones) < PAST and len(after) < _FEW
        is_first = len(past) < PAST and len(after) > _FEW
        if (len(after) < _FEW and not is_last) or (len(before) < _FEW and not is_first):
            return 0.0
        steps = [b[0] - a[0] for side in (past, later) for a, b in pairwise(side)]
        if read.time - past[-1][0] > _HOLE_STEPS * max(steps):
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
            if step.what is What.STUCK:
                self._tell(read, EventKind.STUCK, step.text)
            return
        if self._held:
            yield from self._judged(read, step)
        elif step.what in _EVENTS:
            self._tell(read, _EVENTS[step.what], step.text)
        doubt = _AT_REST if guard.is_reset else _GOOD
        if guard.is_ahead:
            doubt = QualityFlag(Quality.ESTIMATED, step.text)
        yield self._total(Total(read.time, step.value, doubt), value)

    def _judged(self, read: Raw, step: Step) -> Iterator[Total]:
        """What becomes of the reads that were held."""
        guard, agreed = self._guard, max(0, self._guard.agreed - 1)
        cut = len(self._held) - agreed
        first = self._held[cut][0] if agreed else self._held[0][0]
        if step.what in _EVENTS:
            self._tell(first, _EVENTS[step.what], step.text)
        elif cut:
            text = (
                f"left out: {self._say(self._held[0][0].value or 0.0)}, which no reads agree with"
            )
            self._tell(self._held[0][0], EventKind.GLITCH, text)
        for one, why in self._held[:cut]:
            text = step.text if step.what is What.GLITCH else why.text
            yield Total(one.time, None, QualityFlag(Quality.SUSPECT, text))
        for one, _ in self._held[cut:]:
            raw = one.value or 0.0
            total, doubt = guard.total, QualityFlag(Quality.ESTIMATED, step.text)
            if not guard.is_ahead:
                total, doubt = min(decimal(raw + guard.offset), guard.total or 0.0), _LATER
            yield self._total(Total(one.time, total, doubt), raw)
        self._held.clear()

    def _total(self, total: Total, raw: float) -> Total:
        if total.doubt.quality is Quality.GOOD:
            self._past.append((total.time, raw))
        last, self._last = self._last, (raw, total.value) if total.doubt is _GOOD else None
        self._stood = self._stood + 1 if last is not None and last == self._last else 0
        if self._stood >= STANDING and not self._guard.is_reset:
            self._guard.stand()
        return total

    def _rest(self) -> Iterator[Total]:
        """What is still held: first reads count where nothing speaks against them."""
        guard, suspect = self._guard, self._guard.suspect
        plain = not guard.begun and suspect is not None and suspect.agreeing == suspect.reads
        for one, why in self._held:
            if plain and suspect is not None:
                known = suspect.first.raw if guard.total is None else guard.total
                value = decimal(known + (one.value or 0.0) - suspect.first.raw)
                yield Total(one.time, value, _PENDING)
            else:
                yield Total(one.time, None, QualityFlag(Quality.SUSPECT, why.text))
        self._held.clear()

    def _tell(self, read: Raw, kind: EventKind, text: str) -> None:
        self.happened.append(Happened(read.time, kind, text))

    def _say(self, value: float) -> str:
        return f"{value:.12g} {self._terms.unit}"


def _rates(reads: Sequence[tuple[int, float]]) -> Iterator[float]:
    """By how much the counter rose in a ms, each time that it rose; up to where it fell."""
    since = reads[0][0] if reads else 0
    for (_, earlier), (time, later) in pairwise(reads):
        if later < earlier:
            return
        if later > earlier:
            yield (later - earlier) / (time - since)
            since = time
