"""Counter guard: turns the reads of one counter register into a total that never falls.

    last good read ──ordinary rise or the same──▶ counted at once
          │ anything else                              ▲
          ▼                                            │ a read that continues the last good
      suspected ── 3 reads that agree ──▶ judged       │ one: the suspect was a glitch
          └────────────────────────────────────────────┘

A suspected read gives no value. Suspects that agree are classified, the first that fits of: the
first reads of a counter, a rise during a gap, a late rise, a rise that was wrong before, the end of
a long dip, a rollover, a reset (or a jump that nothing explains).

After a gap (a restart, an outage) a large rise may be real or a wrong read: one above what
UNCONFIRMED_RISE_S at full power gives is suspected until further reads agree with it.
"""

import math
from collections.abc import Sequence

from meterd.poll.guard_state import (
    GuardOutcome,
    GuardState,
    Mark,
    Read,
    Step,
    Suspect,
    between,
    rebased,
)

# Consecutive suspected reads that agree before they are judged.
READS_TO_AGREE = 3
# W, where the configuration has no max_power: a factory behind transformers hardly reaches it, and
# jumps by a sentinel or a wrong bit go far beyond.
DEFAULT_POWER = 10e6
# Wh. Highest plausible count: about a gigawatt for a year; with a larger max_power, a hundred years
# of that power.
COUNT_MAX_WH = 1e13
LIFETIME_H = 100 * 8766.0
# Wh: the step of the coarsest known registers, whole kWh.
DEFAULT_RESOLUTION = 1000.0
# Seconds by which a read may be older than its time stamp: meters refresh registers once a second.
READ_AGE_MAX_S = 2.0
# Seconds. After a longer gap, a counter that restarted may be another, used meter: its first value
# is not added to the total. A counter that leaves 0, or a coarse one that was at rest, may rise by
# at most this time at full power.
WATCHED_GAP_MAX_S = 300.0
# Seconds. Default poll interval of a counter. Half as long again is a gap; a rise over
# a gap by more than UNCONFIRMED_RISE_S at full power has to be confirmed.
DEFAULT_INTERVAL_S = 60.0
UNCONFIRMED_RISE_S = 10.0
# Seconds that a restart is assumed to have lasted where the clock is behind the saved state: then
# at most a day's energy is added, once reads agree.
ASSUMED_GAP_S = 86_400
# A rollover happens in the last and the first tenth of the counter's range.
ROLLOVER_RANGE_PART = 0.1
# In imported histories: the part of a gap for which a counter that left 0 may run at full power.
SPARSE_FULL_POWER_PART = 0.01
# Suspected reads in a row without agreement that are reported as stuck.
READS_BEFORE_STUCK = 10
# Sums of decimals carry a rounding error; a millionth of a Wh is finer than any meter.
_DECIMALS_SCALE = 1e6
_EXACT_BELOW = 2**53 / _DECIMALS_SCALE
# Two roundings of a double: an offset that is this close to whole thousandths is rounded to them.
_DOUBLE_ROUNDING = 2.0**-51
_OFFSET_DECIMALS = 3
# Relative step of a float32 counter, whose values above 2**24 steps are rounded.
_FLOAT32_STEP = 2.0**-22


def largest_count(max_power: float) -> float:
    """The highest plausible count in Wh for a meter with this maximum power in W."""
    return max(COUNT_MAX_WH, max_power * LIFETIME_H)


class CounterGuard:
    """The running total of one counter.

    `max_power` is the most that the meter can measure, in W (var, VA); `wrap` the value at which
    the counter rolls over to 0, None if it is unknown; `resolution` its step. All in canonical
    units. `interval` is the poll interval in seconds. `sparse`: reads may be hours to years apart,
    as in imported histories. `wraps`: values at which it may roll over while `wrap` is unknown.
    `agreed`: the number of agreeing reads if the last step judged suspects, else 0.
    The total starts with the counter's own value and equals it until the first rollover, reset or
    swap.
    """

    def __init__(
        self,
        *,
        max_power: float = DEFAULT_POWER,
        wrap: float | None = None,
        resolution: float = DEFAULT_RESOLUTION,
        unit: str = "Wh",
        interval: float = DEFAULT_INTERVAL_S,
        state: GuardState | None = None,
        sparse: bool = False,
        wraps: Sequence[float] = (),
    ) -> None:
        self._sparse = sparse
        self._wraps = wraps
        self.agreed = 0
        self._rate_max = max_power / 3600
        self._slack = resolution + self._rate_max * READ_AGE_MAX_S
        self._gap_after = 1.5 * interval + READ_AGE_MAX_S
        self._unconfirmed_rise = self._rate_max * UNCONFIRMED_RISE_S + self._slack
        self._wrap = wrap
        self._unit = unit
        state = state or GuardState()
        self.segment = state.segment
        self._offset = state.offset
        # NaN before the first good read: every comparison with it fails.
        self._raw = math.nan if state.raw is None else state.raw
        self._before = state.before
        self._time = state.time
        # Monotonic seconds; until the first read, which has both clocks, Unix seconds.
        self._raw_at = state.time / 1000
        self._since = state.since / 1000
        self._times_rebased = False
        self._pending_offset = state.owed
        self._mark = state.mark
        self._suspect = state.suspect
        self._last_step = Step(state.total, GuardOutcome.COUNTED)
        # Reads below this take the fast path in `step`: none (-inf) while anything is pending.
        self._fast_below = -math.inf

    @property
    def total(self) -> float | None:
        """The last total that was returned; None before the first."""
        return self._last_step.value

    @property
    def offset(self) -> float:
        """What is added to the counter's value for the total, unless that is ahead."""
        return self._offset

    @property
    def raw(self) -> float:
        """The last good read; NaN before the first."""
        return self._raw

    @property
    def is_reset(self) -> bool:
        """Whether the counter has not moved since a reset, which may still prove a long dip."""
        return self._mark is not None

    @property
    def suspect(self) -> Suspect | None:
        """The suspected reads that wait for agreement, if any."""
        return self._suspect

    @property
    def has_raw(self) -> bool:
        """Whether there was a good read since the start, or since the meter was swapped."""
        return not math.isnan(self._raw)

    @property
    def is_ahead(self) -> bool:
        """Whether the total is above the counter, as too much was counted, and stays until then."""
        total = self._last_step.value
        return total is not None and total > decimal(self._raw + self._offset)

    def step(self, raw: float | None, *, now: float, time_ms: int) -> Step:
        """Process one read; `now` is monotonic seconds, for rates, and `time_ms` Unix ms UTC."""
        if raw is None:
            return Step(None, GuardOutcome.ABSENT, "the counter was not read")
        if raw < self._fast_below:
            rise = raw - self._raw
            if rise == 0.0:
                self._raw_at = now
                self._time = time_ms
                return self._last_step
            seconds = now - self._raw_at
            if 0.0 < rise <= self._rate_max * seconds + self._slack and (
                rise <= self._unconfirmed_rise or seconds <= self._gap_after
            ):
                self._before = self._raw
                self._raw = raw
                self._since = self._raw_at
                self._raw_at = now
                self._time = time_ms
                total = decimal(raw + self._offset) if self._offset else raw
                self._last_step = step = Step(total, GuardOutcome.COUNTED)
                return step
        if not 0 <= raw < math.inf:
            return Step(None, GuardOutcome.ABSENT, f"{raw:g} is no value that a counter can have")
        read = Read(raw, now, time_ms)
        self.agreed = 0
        if not self._times_rebased:
            self._rebase_times(read)
        return self._continue(read) if self._continues(read) else self._hold(read)

    def begin(self, raw: float, *, now: float, time_ms: int) -> Step:
        """Accept the first read of a meter without waiting: the caller knows that others agree.

        An existing total continues from its value.
        """
        self._times_rebased, read = True, Read(raw, now, time_ms)
        return self._begin(Suspect(read, read, READS_TO_AGREE, READS_TO_AGREE))

    def swap(self) -> None:
        """Another meter from here on: a new segment; no energy is counted across the change."""
        self._raw = math.nan
        self._before = self._mark = self._suspect = None
        self._pending_offset = 0.0
        self._fast_below = -math.inf
        self.segment += 1

    def forget_rise(self) -> None:
        """The counter has been at rest for long: forget its last rise."""
        self._before, self._since = None, self._raw_at

    def state(self) -> GuardState:
        """The state to save for the next start."""
        since = self._time - round((self._raw_at - self._since) * 1000)
        return GuardState(
            total=self._last_step.value,
            offset=self._offset,
            raw=None if math.isnan(self._raw) else self._raw,
            before=self._before,
            time=self._time,
            since=since,
            segment=self.segment,
            owed=self._pending_offset,
            mark=self._mark,
            suspect=self._suspect,
        )

    def _rebase_times(self, read: Read) -> None:
        """After a start: convert the saved times to this process' monotonic clock."""
        self._times_rebased = True
        suspect = self._suspect
        newest = self._time if suspect is None else max(self._time, suspect.latest.time)
        # If a clock was ahead then or is behind now, the length of the pause is unknown.
        utc = read.time if read.time >= newest else newest + ASSUMED_GAP_S * 1000
        shift = read.now - utc / 1000
        self._raw_at += shift
        self._since += shift
        if (mark := self._mark) is not None:
            self._mark = mark._replace(read=rebased(mark.read, shift))
        if suspect is not None:
            first, latest = rebased(suspect.first, shift), rebased(suspect.latest, shift)
            self._suspect = suspect._replace(first=first, latest=latest)

    def _gap(self, read: Read) -> float:
        return between(Read(self._raw, self._raw_at, self._time), read)

    def _rise_max(self, seconds: float, raw: float) -> float:
        """The largest possible rise of a counter at `raw` in this time."""
        return self._rate_max * max(seconds, 0.0) + self._slack + raw * _FLOAT32_STEP

    def _full_power_time(self, seconds: float) -> float:
        """Seconds for which a counter that left 0, or was reset, may have run at full power."""
        watched = min(seconds, WATCHED_GAP_MAX_S)
        return max(watched, seconds * SPARSE_FULL_POWER_PART) if self._sparse else watched

    def _usual_rise(self, seconds: float) -> float:
        """Three times its latest rate over this time; 0 where that is not known."""
        if self._before is None or self._raw_at <= self._since:
            return 0.0
        return 3 * (self._raw - self._before) / (self._raw_at - self._since) * seconds

    def can_follow(self, read: Read) -> bool:
        """Whether the last good read can have risen to this one."""
        return self._can_have_risen(read)

    def _continues(self, read: Read) -> bool:
        """Whether the read continues the last good one and needs no confirmation."""
        if (old := self._suspect) is not None and self._can_have_risen(old.first):
            return False  # Either this read or the suspects may be wrong.
        rise = read.raw - self._raw
        return self._can_have_risen(read) and self._is_plain_rise(rise, self._gap(read), read.raw)

    def _is_plain_rise(self, rise: float, seconds: float, raw: float) -> bool:
        """Whether a possible rise needs no confirmation: it is small, or there was no gap."""
        return seconds <= self._gap_after or rise <= self._unconfirmed_rise + raw * _FLOAT32_STEP

    def _can_have_risen(self, read: Read) -> bool:
        """Whether time and power suffice for the rise from the last good read."""
        rise = read.raw - self._raw
        if not rise >= 0:
            return False
        if self._mark is not None and self._raw < self._mark.read.raw <= read.raw:
            return False  # Back at the value before a reset: that was a dip, which _resume undoes.
        seconds = self._gap(read)
        if self._raw == 0 or self._mark is not None:
            seconds = self._full_power_time(seconds)
        return rise <= self._rise_max(seconds, read.raw)

    def _continue(self, read: Read) -> Step:
        if read.raw > self._raw:
            self._before, self._since = self._raw, self._raw_at
            # It moves, so the reset was real: the value it restarted with is energy.
            self._offset = offset_of(self._offset + self._pending_offset, 0.0)
            self._pending_offset, self._mark = 0.0, None
        if (suspect := self._suspect) is None:
            return self._accept(read)
        text = f"{self._format(suspect.first.raw)} was a glitch: {self._format(self._raw)} before"
        return self._accept(read, GuardOutcome.GLITCH, f"{text}, {self._format(read.raw)} after")

    def _accept(
        self, read: Read, what: GuardOutcome = GuardOutcome.COUNTED, reason: str = ""
    ) -> Step:
        """Accept a read: the total follows it, or stays if it is ahead of the counter."""
        self._raw, self._raw_at, self._time = read
        self._suspect = None
        total, last_total = read.raw, self._last_step.value
        if self._offset:
            total = decimal(total + self._offset)
        if last_total is not None and last_total - 1 / _DECIMALS_SCALE <= total < last_total:
            total = last_total
        if last_total is not None and total < last_total:
            self._fast_below = -math.inf
            wait_text = (
                f"waits for the counter: {self._format(last_total - total)} were counted too much"
            )
            return Step(
                last_total,
                GuardOutcome.WAITS if what is GuardOutcome.COUNTED else what,
                reason or wait_text,
            )
        # After a reset, and from 0, the first rise does not take the fast path.
        fresh = self._mark is not None or read.raw == 0
        self._fast_below = math.nextafter(read.raw, math.inf) if fresh else math.inf
        self._last_step = Step(total, GuardOutcome.COUNTED)
        return Step(total, what, reason)

    def _hold(self, read: Read) -> Step:
        """Hold a suspected read; judge once READS_TO_AGREE of them agree."""
        old = self._suspect
        reads = old.reads + 1 if old else 1
        if old is not None and self._agree(old.latest, read):
            suspect = Suspect(old.first, read, old.agreeing + 1, reads)
        else:
            suspect = Suspect(read, read, 1, reads)
        self._suspect, self._fast_below = suspect, -math.inf
        if suspect.agreeing >= READS_TO_AGREE:
            self.agreed = suspect.agreeing
            return self._judge(suspect)
        what = GuardOutcome.STUCK if reads == READS_BEFORE_STUCK else GuardOutcome.HELD
        return Step(None, what, self._hold_text(suspect))

    def _agree(self, earlier: Read, later: Read) -> bool:
        """Whether two suspected reads agree; a large rise over a gap is no agreement."""
        rise = later.raw - earlier.raw
        is_plain = self._is_plain_rise(rise, between(earlier, later), later.raw)
        return is_plain and self.can_rise(earlier, later)

    def can_rise(self, earlier: Read, later: Read) -> bool:
        """Whether a counter can have risen from one read to the other."""
        seconds = between(earlier, later)
        if earlier.raw == 0:
            seconds = self._full_power_time(seconds)
        return 0 <= later.raw - earlier.raw <= self._rise_max(seconds, later.raw)

    def _hold_text(self, suspect: Suspect) -> str:
        count = f"{suspect.agreeing} of {READS_TO_AGREE} reads agree"
        if math.isnan(self._raw):
            return f"held: the counter's first reads, {count}"
        change = "fell"
        if suspect.latest.raw >= self._raw:
            change = "rose faster than the meter can count"
            if self._can_have_risen(suspect.latest):
                change = f"rose while it was not read for {self._gap(suspect.first):.0f} s"
        values = f"from {self._format(self._raw)} to {self._format(suspect.latest.raw)}"
        return f"held: the counter {change}, {values}, {count}"

    def _judge(self, suspect: Suspect) -> Step:
        """Classify the change from the last good read to the suspects that agree."""
        first, latest = suspect.first, suspect.latest
        values = f"from {self._format(self._raw)} to {self._format(first.raw)}"
        if math.isnan(self._raw):
            return self._begin(suspect)
        if self._can_have_risen(first):
            self._before, self._since = self._raw, self._raw_at
            self._offset = offset_of(self._offset + self._pending_offset, 0.0)
            self._pending_offset, self._mark = 0.0, None
            return self._accept(latest, GuardOutcome.CONFIRMED, f"counted after all, {values}")
        if self._is_late(first):
            self._before, self._since = self._raw, self._raw_at
            return self._accept(latest, GuardOutcome.CONFIRMED, f"counted after all, {values}")
        if self._before is not None and self._before <= first.raw < self._raw:
            self._before = None
            return self._accept(latest, GuardOutcome.GLITCH, f"the counter went back {values}")
        if self._mark is not None and self.can_rise(self._mark.read, first):
            return self._resume(self._mark, latest)
        if wrap := self._rolled_over(first, latest):
            self._before, self._since = None, first.now
            self._offset = offset_of(self._offset + wrap, 0.0)
            return self._accept(latest, GuardOutcome.ROLLOVER, f"the counter rolled over, {values}")
        return self._reset(suspect, values)

    def _begin(self, suspect: Suspect) -> Step:
        """First good read of a meter: the total starts with it, or goes on from the last."""
        total = self._last_step.value
        self._offset = 0.0 if total is None else offset_of(total, suspect.first.raw)
        self._since = suspect.first.now - WATCHED_GAP_MAX_S
        return self._accept(suspect.latest)

    def _is_late(self, first: Read) -> bool:
        """Whether the rise fits the time since the last change: coarse steps, cached values."""
        if self._raw == 0 or self._mark is not None:
            return False
        seconds = min(first.now - self._since, WATCHED_GAP_MAX_S)
        return 0 < first.raw - self._raw <= self._rise_max(seconds, first.raw)

    def _resume(self, mark: Mark, latest: Read) -> Step:
        """Undo a reset that was a long dip: the counter continues from its value before."""
        raw, before = self._format(self._raw), self._format(mark.read.raw)
        self._offset, self._pending_offset, self._mark = mark.offset, 0.0, None
        self._before, self._since = None, latest.now
        return self._accept(
            latest, GuardOutcome.GLITCH, f"the reset to {raw} was a glitch: {before} before"
        )

    def _rolled_over(self, first: Read, latest: Read) -> float:
        """The value at which it rolled over; 0 where it did not."""
        if self._wrap is None:
            # Unknown wrap: a usual one that the counter would have reached by now.
            usual_rise = self._usual_rise(self._gap(first))
            candidates = (
                w
                for w in self._wraps
                if self._is_over(first, w, min(usual_rise, ROLLOVER_RANGE_PART * w))
            )
            return next(candidates, 0.0)
        rise_max = min(
            self._rise_max(self._gap(latest), self._wrap), ROLLOVER_RANGE_PART * self._wrap
        )
        return self._wrap if self._is_over(latest, self._wrap, rise_max) else 0.0

    def _is_over(self, latest: Read, wrap: float, rise_max: float) -> bool:
        return latest.raw < self._raw <= wrap and wrap - self._raw + latest.raw <= rise_max

    def _reset(self, suspect: Suspect, values: str) -> Step:
        """Start a new segment. The new value is energy if it can be delivered since the last read.

        It is added to the offset when the counter moves. Until then this may be a long dip, which
        is undone if the counter comes back to its value before.
        """
        first, latest = suspect.first, suspect.latest
        seconds = self._gap(first)
        rise_max = self._rise_max(seconds, first.raw)
        if self._sparse:
            rise_max = min(rise_max, max(self._unconfirmed_rise, self._usual_rise(seconds)))
        near_zero = first.raw <= min(self._raw / 2, rise_max)
        self._pending_offset = (
            first.raw if near_zero and (self._sparse or seconds <= WATCHED_GAP_MAX_S) else 0.0
        )
        last = Read(self._raw, self._raw_at, self._time)
        self._mark = self._mark or Mark(last, self._offset)
        self._offset = offset_of(self._last_step.value or 0.0, first.raw)
        if latest.raw > first.raw:
            self._offset = offset_of(self._offset + self._pending_offset, 0.0)
            self._pending_offset, self._mark = 0.0, None
        self._before, self._since = None, first.now
        self.segment += 1
        return self._accept(latest, GuardOutcome.RESET, f"the counter went {values}: a new segment")

    def _format(self, value: float) -> str:
        return f"{value:.12g} {self._unit}"


def offset_of(total: float, raw: float) -> float:
    """Difference of a total and its counter without the rounding error of large doubles.

    It is the same for every read of a segment.
    """
    offset = total - raw
    rounded = round(offset, _OFFSET_DECIMALS)
    tolerance = max(abs(total), abs(raw)) * _DOUBLE_ROUNDING
    return rounded if abs(rounded - offset) <= tolerance else decimal(offset)


def decimal(value: float) -> float:
    """Round to six decimals.

    Rounding to a whole number and one division are exact, and take half of round()'s time.
    """
    if value < _EXACT_BELOW:
        return round(value * _DECIMALS_SCALE) / _DECIMALS_SCALE
    return round(value, 6)
