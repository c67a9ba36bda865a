"""Value types of the counter guard: the step of each read, and the state saved for a restart."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple


class GuardOutcome(StrEnum):
    """Outcome of one read for the guarded total."""

    COUNTED = "counted"
    CONFIRMED = "confirmed"
    WAITS = "waits"
    HELD = "held"
    STUCK = "stuck"
    ABSENT = "absent"
    ROLLOVER = "rollover"
    RESET = "reset"
    GLITCH = "glitch"


class Step(NamedTuple):
    """The total after a read, None where it is unknown; `text` is the reason or the event."""

    value: float | None
    what: GuardOutcome
    text: str = ""


class Read(NamedTuple):
    """One counter value in its canonical unit, with its time: `now` monotonic s, `time` Unix ms."""

    raw: float
    now: float
    time: int


class Suspect(NamedTuple):
    """Reads that do not continue the last good one: the last `agreeing` of `reads` agree."""

    first: Read
    latest: Read
    agreeing: int
    reads: int


class Mark(NamedTuple):
    """Last read and offset before a reset, which may still prove a long dip."""

    read: Read
    offset: float


@dataclass(frozen=True, slots=True)
class GuardState:
    """A guard's state for a restart. Numbers, tuples of them and None; times are Unix ms UTC.

    Field names are keys of the saved JSON. `total` = `offset` + `raw`, unless the total waits for
    the counter. `raw` is None before the first good read; `before` and `since` are value
    and time of the good read before the last rise. `owed` is the pending offset: the counter's
    value after a reset, which is added once the counter moves. The monotonic times in `mark` and
    `suspect` are those of the process that saved them.
    """

    total: float | None = None
    offset: float = 0.0
    raw: float | None = None
    before: float | None = None
    time: int = 0
    since: int = 0
    segment: int = 1
    owed: float = 0.0
    mark: Mark | None = None
    suspect: Suspect | None = None

    def agrees(self, other: "GuardState | None") -> bool:
        """Whether totals continue equally from both states."""
        return other is not None and (self.offset, self.total) == (other.offset, other.total)

    def swapped(self) -> "GuardState":
        """The state for another counter: a new segment; no energy is counted across the change."""
        return replace(
            self,
            raw=None,
            before=None,
            segment=self.segment + 1,
            owed=0.0,
            mark=None,
            suspect=None,
        )

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "GuardState":
        """Inverse of `dataclasses.asdict`, also of its JSON, where tuples are lists.

        Raises TypeError or ValueError for anything else.
        """
        mark, suspect = data.get("mark"), data.get("suspect")
        if mark is not None:
            mark = Mark(Read(*mark[0]), float(mark[1]))
        if suspect is not None:
            first, latest, agreeing, reads = suspect
            suspect = Suspect(Read(*first), Read(*latest), int(agreeing), int(reads))
        return cls(**{**data, "mark": mark, "suspect": suspect})


def between(earlier: Read, later: Read) -> float:
    """Seconds by whichever clock shows more: the monotonic one stops while suspended."""
    return max(later.now - earlier.now, (later.time - earlier.time) / 1000)


def rebased(read: Read, shift: float) -> Read:
    """The read on a monotonic clock that is `shift` seconds ahead of UTC."""
    return read._replace(now=read.time / 1000 + shift)
