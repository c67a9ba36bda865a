"""From what was asked of a range to what the store is asked: times, and a step it can answer."""

from typing import NamedTuple

from meterd.api.problem import Refusal
from meterd.api.times import rfc3339, spell

MOST_POINTS = 11_000  # a series; Prometheus' limit, which clients know
MOST_ALTOGETHER = 500_000  # an answer: about 12 MB of JSON
COMFORTABLE_POINTS = 1000  # a series, where the client names no step

RAW = 0
DAY = 86_400_000
QUARTER = 900_000  # what is left where raw samples are deleted
_NICE = [s * 1000 for s in (1, 2, 5, 10, 15, 30)]
_NICE += [m * 60_000 for m in (1, 2, 5, 10, 15, 30)]
_NICE += [h * 3_600_000 for h in (1, 2, 3, 6, 12)]


class Raised(NamedTuple):
    """A step (ms) that was asked for and not given, and why."""

    step: int
    why: str


class Window(NamedTuple):
    """What to ask the reader for; times and step in ms."""

    start: int
    end: int
    step: int
    raised: Raised | None = None

    def coarser(self, step: int, why: str) -> "Window":
        """The same with a longer step."""
        asked = self.raised.step if self.raised else self.step
        return self._replace(step=step, raised=Raised(asked, why))


def nice_step(span: int, least: int = 0, most: int = COMFORTABLE_POINTS) -> int:
    """The shortest round step (ms), at least `least`, that cuts `span` (ms) into `most` or less."""
    needed = max(-(-span // most), least)
    for step in _NICE:
        if step >= needed:
            return step
    return -(-needed // DAY) * DAY


def thinned(window: Window, most: int, interval: int) -> Window:
    """No more than `most` points a series; `interval` (ms) is how often devices are polled."""
    span = window.end - window.start
    width = max(window.step or interval, 1)
    if -(-span // width) <= most:
        return window
    step = nice_step(span, width, most)
    return window.coarser(step, f"max_points is {most}")


def kept(window: Window, keep: float | None, now: int) -> Window:
    """No finer than what is left of the past; `keep` is how long raw samples stay, in seconds."""
    if keep is None or window.step >= QUARTER:
        return window
    # Deleted is by whole days of UTC.
    oldest = (now - round(keep * 1000)) // DAY * DAY
    if window.start >= oldest:
        return window
    why = f"of the time before {rfc3339(oldest)} quarter hours are kept, not samples"
    return window.coarser(QUARTER, why)


def check_points(window: Window, interval: int) -> int:
    """The most points that a series can have there. Raises Refusal where they are too many."""
    span = window.end - window.start
    points = -(-span // max(window.step or interval, 1))
    if points <= MOST_POINTS:
        return points
    what = "every sample" if window.step == RAW else f"step {spell(window.step)}"
    raise Refusal(
        422,
        "too_many_points",
        f"{what} gives up to {points} points a series; {MOST_POINTS} is the limit",
        hint=f"add max_points=1000, or step={spell(_shortest(span, MOST_POINTS))} or longer",
        parameter="step",
    )


def check_altogether(window: Window, points: int, columns: int) -> None:
    """Refuse what no client wants to hold; `columns` is how many lists of points there are."""
    if points * columns <= MOST_ALTOGETHER:
        return
    most = max(1, MOST_ALTOGETHER // columns)
    step = spell(_shortest(window.end - window.start, most))
    raise Refusal(
        422,
        "too_much",
        f"{columns} series of up to {points} points are more than {MOST_ALTOGETHER} points",
        hint=f"ask for fewer series, or for step={step} or longer",
        parameter="step",
    )


def _shortest(span: int, points: int) -> int:
    """The shortest step (ms), in whole seconds, that keeps to so many points."""
    return -(-span // (points * 1000)) * 1000
