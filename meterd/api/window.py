"""From what was asked of a range to what the store is asked: times, and a step it can answer."""

import re
from dataclasses import dataclass
from datetime import tzinfo
from typing import NamedTuple

from meterd.api.problem import ApiRefusal
from meterd.api.problem_code import ProblemCode
from meterd.api.times import rfc3339, spell
from meterd.energy.periods import Period, run_starts

MOST_POINTS = 11_000  # a series; Prometheus' limit, which clients know
MOST_ALTOGETHER = 500_000  # an answer: about 12 MB of JSON
COMFORTABLE_POINTS = 1000  # a series, where the client names no step

RAW = 0
DAY = 86_400_000
QUARTER = 900_000  # what is left where raw samples are deleted
_NICE = [s * 1000 for s in (1, 2, 5, 10, 15, 30)]
_NICE += [m * 60_000 for m in (1, 2, 5, 10, 15, 30)]
_NICE += [h * 3_600_000 for h in (1, 2, 3, 6, 12)]


_PERIODS = {"d": Period.DAY, "w": Period.WEEK, "mo": Period.MONTH, "y": Period.YEAR}
_LETTERS = {period: letter for letter, period in _PERIODS.items()}
_NOMINAL = {
    Period.DAY: DAY,
    Period.WEEK: 7 * DAY,
    Period.MONTH: 30 * DAY,
    Period.YEAR: 365 * DAY,
}
_CALENDAR = re.compile(r"([0-9]{1,4})(d|w|mo|y)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Calendar:
    """So many days, weeks, months or years of the site's clock: days have 23, 24 or 25 hours."""

    count: int
    period: Period

    @classmethod
    def read(cls, text: str) -> "Calendar | None":
        """From `1d`, `1w`, `1mo`, `1y`; None if it is anything else. Raises ValueError for 0."""
        match = _CALENDAR.fullmatch(text)
        if match is None:
            return None
        if not int(match[1]):
            raise ValueError("is too short")
        return cls(int(match[1]), _PERIODS[match[2]])

    @property
    def text(self) -> str:
        return f"{self.count}{_LETTERS[self.period]}"

    @property
    def nominal(self) -> int:
        """The length in ms, for months and years about."""
        return self.count * _NOMINAL[self.period]

    def edges(self, zone: tzinfo, start: int, end: int) -> list[int]:
        """Where its buckets begin that touch start <= time < end (Unix ms).

        Empty where they are those of the same step in UTC: its roll-ups are the faster ones.
        """
        edges = run_starts(zone, self.period, self.count, start, end)
        is_utc = self.period is Period.DAY and all(edge % self.nominal == 0 for edge in edges)
        return [] if is_utc else edges


@dataclass(frozen=True, slots=True)
class Width:
    """A step as in the request: ms, 0 for raw, or of the calendar."""

    ms: int
    calendar: Calendar | None = None


class Raised(NamedTuple):
    """The step (ms) of the request that was raised, and the reason."""

    step: int
    why: str


class RangeWindow(NamedTuple):
    """What to ask the reader for; times and step in ms, nominal where the calendar has it."""

    start: int
    end: int
    step: int
    raised: Raised | None = None
    calendar: Calendar | None = None

    @property
    def text(self) -> str:
        """The step as one would ask for it."""
        if self.calendar is not None:
            return self.calendar.text
        return "raw" if self.step == RAW else spell(self.step)

    def chosen(self, step: int) -> "RangeWindow":
        """The window with an automatic step: whole days are those of the site's clock."""
        is_days = step > 0 and step % DAY == 0
        return self._replace(
            step=step, calendar=Calendar(step // DAY, Period.DAY) if is_days else None
        )

    def coarser(self, step: int, why: str) -> "RangeWindow":
        """The same with a longer step."""
        first_step = self.raised.step if self.raised else self.step
        return self.chosen(step)._replace(raised=Raised(first_step, why))


def nice_step(span: int, least: int = 0, most: int = COMFORTABLE_POINTS) -> int:
    """The shortest round step (ms), at least `least`, that cuts `span` (ms) into `most` or less."""
    needed = max(-(-span // most), least)
    for step in _NICE:
        if step >= needed:
            return step
    return -(-needed // DAY) * DAY


def thinned(window: RangeWindow, most: int, interval: int) -> RangeWindow:
    """No more than `most` points a series; `interval` (ms) is how often devices are polled."""
    span = window.end - window.start
    width = max(window.step or interval, 1)
    if -(-span // width) <= most:
        return window
    step = nice_step(span, width, most)
    return window.coarser(step, f"max_points is {most}")


def kept(window: RangeWindow, keep: float | None, now: int) -> RangeWindow:
    """The window with a step no finer than what is stored of its time; `keep`: how long raw samples
    stay, in seconds.
    """
    if keep is None or window.step >= QUARTER:
        return window
    # Deleted is by whole days of UTC.
    oldest = (now - round(keep * 1000)) // DAY * DAY
    if window.start >= oldest:
        return window
    why = f"of the time before {rfc3339(oldest)} quarter hours are kept, not samples"
    return window.coarser(QUARTER, why)


def check_points(window: RangeWindow, interval: int) -> int:
    """The most points that a series can have there. Raises ApiRefusal where they are too many."""
    span = window.end - window.start
    points = -(-span // max(window.step or interval, 1))
    if points <= MOST_POINTS:
        return points
    what = "every sample" if window.step == RAW else f"step {window.text}"
    raise ApiRefusal(
        422,
        ProblemCode.TOO_MANY_POINTS,
        f"{what} gives up to {points} points a series; {MOST_POINTS} is the limit",
        hint=f"add max_points=1000, or step={spell(_shortest(span, MOST_POINTS))} or longer",
        parameter="step",
    )


def check_altogether(window: RangeWindow, points: int, columns: int) -> None:
    """Refuse what no client wants to hold; `columns` is how many lists of points there are."""
    if points * columns <= MOST_ALTOGETHER:
        return
    most = max(1, MOST_ALTOGETHER // columns)
    step = spell(_shortest(window.end - window.start, most))
    raise ApiRefusal(
        422,
        ProblemCode.TOO_MUCH,
        f"{columns} series of up to {points} points are more than {MOST_ALTOGETHER} points",
        hint=f"ask for fewer series, or for step={step} or longer",
        parameter="step",
    )


def _shortest(span: int, points: int) -> int:
    """The shortest step (ms), in whole seconds, that keeps to so many points."""
    return -(-span // (points * 1000)) * 1000
