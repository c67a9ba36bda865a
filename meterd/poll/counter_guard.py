"""One counter, guarded: a running total that never falls and books only what was delivered.

    last good read ──ordinary rise or the same──▶ counted at once
          │ anything else                              ▲
          ▼                                            │ a read that carries on from the last
      suspected ── READS reads that agree ──▶ judged   │ good one: the suspect was a glitch
          └────────────────────────────────────────────┘

A suspected read gives no value. Judged is, in this order: the beginning, what rose in a gap, a
late rise, a rise that was false, the end of a long dip, a rollover, a reset (or a jump that nothing
explains).

After a gap (a restart, an outage) much may have been delivered, and a wrong read looks like it: one
that is higher than a moment could have made it is suspected, too, until others carry on from it.
"""

import math
from collections.abc import Sequence

from meterd.poll.counter_segments import (
    GuardState,
    Mark,
    Read,
    Step,
    Suspect,
    What,
    between,
    placed,
)

# A suspected read and two more that agree with it settle what happened.
READS = 3
# W, where nobody said what the meter can see: a factory behind transformers reaches it hardly,
# the jumps that a sentinel or a wrong bit makes go far beyond.
DEFAULT_POWER = 10e6
# Wh. No counter of a device has counted more: a gigawatt for a year. Where more can flow, a hundred
# years of it.
LARGEST_COUNT = 1e13
LIFETIME_H = 100 * 8766.0
# Wh that the coarsest known registers count by: whole kWh.
DEFAULT_RESOLUTION = 1000.0
# Seconds by which a read may be older than it seems: meters refresh their registers by the second.
LATENESS = 2.0
# Seconds. Over a longer gap, a counter that starts anew may as well be another, used meter: what
# it shows at first is not booked. Nor does a counter leave 0, or a coarse one take its step after
# a rest, by more than this time's worth.
WATCHED = 300.0
# Seconds. How often a counter is read where nobody says it; after one and a half times that it is a
# gap, and a read that rose by more than MOMENT's worth at full power has to be confirmed.
INTERVAL = 60.0
MOMENT = 10.0
# Seconds that a restart is taken to have lasted where the clock cannot tell: a day's energy is
# booked once reads agree, and no more.
UNTOLD_GAP = 86_400
# A rollover happens in the last and the first tenth of the counter.
NEAR = 0.1
# The share of a gap of hours to years in which a counter that left 0 may have been at full power.
SPARSE_SHARE = 0.01
# Reads without an agreement after which a person should look.
STUCK = 10
# Sums of decimals carry a rounding error; a millionth of a Wh is finer than any meter.
_FINEST = 1e6
_EXACT = 2**53 / _FINEST
# Two roundings of a double; what is within that of a thousandth is one.
_NOISE = 2.0**-51
_OFFSET_DIGITS = 3
# Above 2**24 steps a float32 counter moves by its own rounding.
_FLOAT32 = 2.0**-22


def largest_count(max_power: float) -> float:
    """The most that a counter can show, in Wh, where so many W can flow."""
    return max(LARGEST_COUNT, max_power * LIFETIME_H)


class CounterGuard:
    """The running total of one counter.

    `max_power` is what the meter can see at most, in W (var, VA); `wrap` the value at which the
    counter starts at 0 again, None if it does not; `resolution` its step. All in canonical units.
    `interval` is how often it is read, in seconds. `sparse`: reads may be hours to years apart, as
    in imported histories. `wraps`: where it may start again, if `wrap` is not known.
    `agreed`: the last step was a judgement, by so many reads, of which it was the last; else 0.
    The total begins with the counter's own value, so the two are equal until something happens.
    """

    def __init__(
        self,
        *,
        max_power: float = DEFAULT_POWER,
        wrap: float | None = None,
        resolution: float = DEFAULT_RESOLUTION,
        unit: str = "Wh",
        interval: float = INTERVAL,
        state: GuardState | None = None,
        sparse: bool = False,
        wraps: Sequence[float] = (),
    ) -> None:
        self._sparse = sparse
        self._wraps = wraps
        self.agreed = 0
        self._limit = max_power / 3600
        self._slack = resolution + self._limit * LATENESS
        self._gap_after = 1.5 * interval + LATENESS
        self._moment = self._limit * MOMENT + self._slack
        self._wrap = wrap
        self._unit = unit
        state = state or GuardState()
        self.segment = state.segment
        self._offset = state.offset
        # No good read yet is NaN: nothing carries on from it.
        self._raw = math.nan if state.raw is None else state.raw
        self._before = state.before
        self._time = state.time
        # Monotonic seconds, put right by the first read, which knows both clocks.
        self._seen = state.time / 1000
        self._since = state.since / 1000
        self._placed = False
        self._owed = state.owed
        self._mark = state.mark
        self._suspect = state.suspect
        self._same = Step(state.total, What.COUNTED)
        # Reads from here up are looked at closely: all while anything is open, none else.
        self._top = -math.inf

    @property
    def total(self) -> float | None:
        """The last total that was given; None before the first."""
        return self._same.value

    @property
    def offset(self) -> float:
        """What is added to the counter's value: the total, unless that is ahead."""
        return self._offset

    @property
    def raw(self) -> float:
        """The last good read; NaN before the first."""
        return self._raw

    @property
    def is_reset(self) -> bool:
        """Whether the counter has not moved since a reset, which may yet be a long dip."""
        return self._mark is not None

    @property
    def suspect(self) -> Suspect | None:
        """The reads that are held."""
        return self._suspect

    @property
    def begun(self) -> bool:
        """Whether there was a good read since the start, or since the meter was swapped."""
        return not math.isnan(self._raw)

    @property
    def is_ahead(self) -> bool:
        """Whether the total waits for the counter, because too much was counted."""
        known = self._same.value
        return known is not None and known > decimal(self._raw + self._offset)

    def step(self, raw: float | None, *, now: float, time_ms: int) -> Step:
        """Take one read; `now` is monotonic seconds, for rates, and `time_ms` Unix ms UTC."""
        if raw is None:
            return Step(None, What.ABSENT, "the counter was not read")
        if raw < self._top:
            rise = raw - self._raw
            if rise == 0.0:
                self._seen = now
                self._time = time_ms
                return self._same
            seconds = now - self._seen
            if 0.0 < rise <= self._limit * seconds + self._slack and (
                rise <= self._moment or seconds <= self._gap_after
            ):
                self._before = self._raw
                self._raw = raw
                self._since = self._seen
                self._seen = now
                self._time = time_ms
                total = decimal(raw + self._offset) if self._offset else raw
                self._same = step = Step(total, What.COUNTED)
                return step
        if not 0 <= raw < math.inf:
            return Step(None, What.ABSENT, f"{raw:g} is no value that a counter can have")
        read = Read(raw, now, time_ms)
        self.agreed = 0
        if not self._placed:
            self._place(read)
        return self._carry_on(read) if self._carries_on(read) else self._doubt(read)

    def begin(self, raw: float, *, now: float, time_ms: int) -> Step:
        """Take the first read of a meter that needs no others to agree: it is known that they do.

        Where there was a total, it goes on from that.
        """
        self._placed, read = True, Read(raw, now, time_ms)
        return self._begin(Suspect(read, read, READS, READS))

    def swap(self) -> None:
        """Another meter from here on: a new segment, and nothing is booked across."""
        self._raw = math.nan
        self._before = self._mark = self._suspect = None
        self._owed = 0.0
        self._top = -math.inf
        self.segment += 1

    def stand(self) -> None:
        """The counter has stood for long: how it got there is forgotten."""
        self._before, self._since = None, self._seen

    def state(self) -> GuardState:
        """For the next start."""
        since = self._time - round((self._seen - self._since) * 1000)
        return GuardState(
            total=self._same.value,
            offset=self._offset,
            raw=None if math.isnan(self._raw) else self._raw,
            before=self._before,
            time=self._time,
            since=since,
            segment=self.segment,
            owed=self._owed,
            mark=self._mark,
            suspect=self._suspect,
        )

    def _place(self, read: Read) -> None:
        """After a start: put what was remembered onto this process' monotonic clock."""
        self._placed = True
        suspect = self._suspect
        newest = self._time if suspect is None else max(self._time, suspect.latest.time)
        # Noted by a clock that was ahead, or read by one that is behind: nobody knows how long ago.
        utc = read.time if read.time >= newest else newest + UNTOLD_GAP * 1000
        shift = read.now - utc / 1000
        self._seen += shift
        self._since += shift
        if (mark := self._mark) is not None:
            self._mark = mark._replace(read=placed(mark.read, shift))
        if suspect is not None:
            first, latest = placed(suspect.first, shift), placed(suspect.latest, shift)
            self._suspect = suspect._replace(first=first, latest=latest)

    def _gap(self, read: Read) -> float:
        return between(Read(self._raw, self._seen, self._time), read)

    def _possible(self, seconds: float, raw: float) -> float:
        """The most that a counter at `raw` can rise by in this time."""
        return self._limit * max(seconds, 0.0) + self._slack + raw * _FLOAT32

    def _fresh(self, seconds: float) -> float:
        """For how long a counter that left 0, or was reset, can have counted at full power."""
        least = min(seconds, WATCHED)
        return max(least, seconds * SPARSE_SHARE) if self._sparse else least

    def _usual(self, seconds: float) -> float:
        """Three times what it rose by lately in such a time; 0 where that is not known."""
        if self._before is None or self._seen <= self._since:
            return 0.0
        return 3 * (self._raw - self._before) / (self._seen - self._since) * seconds

    def follows(self, read: Read) -> bool:
        """Whether the counter can have got to this read from the last good one."""
        return self._can_have_risen(read)

    def _carries_on(self, read: Read) -> bool:
        """Whether the counter can have got here from the last good read, and needs no proof."""
        if (old := self._suspect) is not None and self._can_have_risen(old.first):
            return False  # Either of the two may be wrong.
        rise = read.raw - self._raw
        return self._can_have_risen(read) and self._is_plain(rise, self._gap(read), read.raw)

    def _is_plain(self, rise: float, seconds: float, raw: float) -> bool:
        """Whether a rise that is possible needs no proof: it is small, or there was no gap."""
        return seconds <= self._gap_after or rise <= self._moment + raw * _FLOAT32

    def _can_have_risen(self, read: Read) -> bool:
        """Whether there was time and power enough to get here from the last good read."""
        rise = read.raw - self._raw
        if not rise >= 0:
            return False
        if self._mark is not None and self._raw < self._mark.read.raw <= read.raw:
            return False  # It came back to where it was before a reset.
        seconds = self._gap(read)
        if self._raw == 0 or self._mark is not None:
            seconds = self._fresh(seconds)
        return rise <= self._possible(seconds, read.raw)

    def _carry_on(self, read: Read) -> Step:
        if read.raw > self._raw:
            self._before, self._since = self._raw, self._seen
            # It moves, so it counts: what it showed after the reset was energy.
            self._offset = offset_of(self._offset + self._owed, 0.0)
            self._owed, self._mark = 0.0, None
        if (suspect := self._suspect) is None:
            return self._accept(read)
        text = f"{self._say(suspect.first.raw)} was a glitch: {self._say(self._raw)} before"
        return self._accept(read, What.GLITCH, f"{text}, {self._say(read.raw)} after")

    def _accept(self, read: Read, what: What = What.COUNTED, text: str = "") -> Step:
        """The read is good; the total follows, or waits if it is ahead of the counter."""
        self._raw, self._seen, self._time = read
        self._suspect = None
        total, known = read.raw, self._same.value
        if self._offset:
            total = decimal(total + self._offset)
        if known is not None and known - 1 / _FINEST <= total < known:
            total = known
        if known is not None and total < known:
            self._top = -math.inf
            wait = f"waits for the counter: {self._say(known - total)} were counted too much"
            return Step(known, What.WAITS if what is What.COUNTED else what, text or wait)
        # After a reset, and from 0, the first move is looked at closely.
        fresh = self._mark is not None or read.raw == 0
        self._top = math.nextafter(read.raw, math.inf) if fresh else math.inf
        self._same = Step(total, What.COUNTED)
        return Step(total, what, text)

    def _doubt(self, read: Read) -> Step:
        """Hold the total until reads agree."""
        old = self._suspect
        reads = old.reads + 1 if old else 1
        if old is not None and self._follows(old.latest, read):
            suspect = Suspect(old.first, read, old.agreeing + 1, reads)
        else:
            suspect = Suspect(read, read, 1, reads)
        self._suspect, self._top = suspect, -math.inf
        if suspect.agreeing >= READS:
            self.agreed = suspect.agreeing
            return self._judge(suspect)
        what = What.STUCK if reads == STUCK else What.HELD
        return Step(None, what, self._why(suspect))

    def _follows(self, earlier: Read, later: Read) -> bool:
        """Whether one suspected read agrees with the next: over a gap, nearly anything would."""
        rise = later.raw - earlier.raw
        plain = self._is_plain(rise, between(earlier, later), later.raw)
        return plain and self.reaches(earlier, later)

    def reaches(self, earlier: Read, later: Read) -> bool:
        """Whether a counter can have got from one read to the other."""
        seconds = between(earlier, later)
        if earlier.raw == 0:
            seconds = self._fresh(seconds)
        return 0 <= later.raw - earlier.raw <= self._possible(seconds, later.raw)

    def _why(self, suspect: Suspect) -> str:
        count = f"{suspect.agreeing} of {READS} reads agree"
        if math.isnan(self._raw):
            return f"held: the counter's first reads, {count}"
        way = "fell"
        if suspect.latest.raw >= self._raw:
            way = "rose faster than the meter can count"
            if self._can_have_risen(suspect.latest):
                way = f"rose while it was not read for {self._gap(suspect.first):.0f} s"
        values = f"from {self._say(self._raw)} to {self._say(suspect.latest.raw)}"
        return f"held: the counter {way}, {values}, {count}"

    def _judge(self, suspect: Suspect) -> Step:
        """What happened between the last good read and the reads that agree now."""
        first, latest = suspect.first, suspect.latest
        values = f"from {self._say(self._raw)} to {self._say(first.raw)}"
        if math.isnan(self._raw):
            return self._begin(suspect)
        if self._can_have_risen(first):
            self._before, self._since = self._raw, self._seen
            self._offset = offset_of(self._offset + self._owed, 0.0)
            self._owed, self._mark = 0.0, None
            return self._accept(latest, What.CONFIRMED, f"counted after all, {values}")
        if self._is_late(first):
            self._before, self._since = self._raw, self._seen
            return self._accept(latest, What.CONFIRMED, f"counted after all, {values}")
        if self._before is not None and self._before <= first.raw < self._raw:
            self._before = None
            return self._accept(latest, What.GLITCH, f"the counter went back {values}")
        if self._mark is not None and self.reaches(self._mark.read, first):
            return self._resume(self._mark, latest)
        if wrap := self._rolled_over(first, latest):
            self._before, self._since = None, first.now
            self._offset = offset_of(self._offset + wrap, 0.0)
            return self._accept(latest, What.ROLLOVER, f"the counter rolled over, {values}")
        return self._reset(suspect, values)

    def _begin(self, suspect: Suspect) -> Step:
        """The first good read of a meter: the total starts with it, or goes on from the last."""
        known = self._same.value
        self._offset = 0.0 if known is None else offset_of(known, suspect.first.raw)
        self._since = suspect.first.now - WATCHED
        return self._accept(suspect.latest)

    def _is_late(self, first: Read) -> bool:
        """A rise that fits if it went on since the last change: coarse steps, cached values."""
        if self._raw == 0 or self._mark is not None:
            return False
        seconds = min(first.now - self._since, WATCHED)
        return 0 < first.raw - self._raw <= self._possible(seconds, first.raw)

    def _resume(self, mark: Mark, latest: Read) -> Step:
        """The reset was none: the counter carries on from where it was before."""
        was, before = self._say(self._raw), self._say(mark.read.raw)
        self._offset, self._owed, self._mark = mark.offset, 0.0, None
        self._before, self._since = None, latest.now
        return self._accept(
            latest, What.GLITCH, f"the reset to {was} was a glitch: {before} before"
        )

    def _rolled_over(self, first: Read, latest: Read) -> float:
        """The value at which it started again; 0 where it did not."""
        if self._wrap is None:
            # Where nobody says it, a round number that it would have reached by now.
            usual = self._usual(self._gap(first))
            fits = (w for w in self._wraps if self._is_over(first, w, min(usual, NEAR * w)))
            return next(fits, 0.0)
        most = min(self._possible(self._gap(latest), self._wrap), NEAR * self._wrap)
        return self._wrap if self._is_over(latest, self._wrap, most) else 0.0

    def _is_over(self, latest: Read, wrap: float, most: float) -> bool:
        return latest.raw < self._raw <= wrap and wrap - self._raw + latest.raw <= most

    def _reset(self, suspect: Suspect, values: str) -> Step:
        """A new segment. The counter's new value is energy if it can have come since the last read.

        That is booked when the counter moves: until then this may be a long dip, and is undone
        if the counter comes back to where it was.
        """
        first, latest = suspect.first, suspect.latest
        seconds = self._gap(first)
        most = self._possible(seconds, first.raw)
        if self._sparse:
            most = min(most, max(self._moment, self._usual(seconds)))
        near_zero = first.raw <= min(self._raw / 2, most)
        self._owed = first.raw if near_zero and (self._sparse or seconds <= WATCHED) else 0.0
        last = Read(self._raw, self._seen, self._time)
        self._mark = self._mark or Mark(last, self._offset)
        self._offset = offset_of(self._same.value or 0.0, first.raw)
        if latest.raw > first.raw:
            self._offset = offset_of(self._offset + self._owed, 0.0)
            self._owed, self._mark = 0.0, None
        self._before, self._since = None, first.now
        self.segment += 1
        return self._accept(latest, What.RESET, f"the counter went {values}: a new segment")

    def _say(self, value: float) -> str:
        return f"{value:.12g} {self._unit}"


def offset_of(total: float, raw: float) -> float:
    """What a total is above its counter, free of the rounding of such large numbers.

    So it comes out the same from any read of a segment.
    """
    offset = total - raw
    short = round(offset, _OFFSET_DIGITS)
    noise = max(abs(total), abs(raw)) * _NOISE
    return short if abs(short - offset) <= noise else decimal(offset)


def decimal(value: float) -> float:
    """Six digits. A whole number divided once is as exact as round(), at half its price."""
    if value < _EXACT:
        return round(value * _FINEST) / _FINEST
    return round(value, 6)
