"""What a guarded counter gives and remembers: a step for each read, a state for the next start."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple


class What(StrEnum):
    """What a read did to the total."""

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
    """The total after a read, None where it is not known; `text` says why, or what happened."""

    value: float | None
    what: What
    text: str = ""


class Read(NamedTuple):
    """One read of the counter: canonical unit, monotonic seconds, Unix ms UTC."""

    raw: float
    now: float
    time: int


class Suspect(NamedTuple):
    """Reads that do not carry on from the last good one; `agreeing` ones in a row, of `reads`."""

    first: Read
    latest: Read
    agreeing: int
    reads: int


class Mark(NamedTuple):
    """Where a counter was before a reset that may yet turn out to be a long dip."""

    read: Read
    offset: float


@dataclass(frozen=True, slots=True)
class GuardState:
    """What a restart needs to know. Only numbers, tuples of them, and None; times in Unix ms.

    `total` = `offset` + `raw`, unless the total waits for the counter. `raw` is None before the
    first good read. The monotonic times inside `mark` and `suspect` mean nothing by then.
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
        """Whether totals go on alike from the two."""
        return other is not None and (self.offset, self.total) == (other.offset, other.total)

    def swapped(self) -> "GuardState":
        """Another counter from here on: a new segment, and nothing is booked across."""
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
        """From `dataclasses.asdict` of a state, also after a way through JSON.

        Raises TypeError or ValueError where it is not one.
        """
        mark, suspect = data.get("mark"), data.get("suspect")
        if mark is not None:
            mark = Mark(Read(*mark[0]), float(mark[1]))
        if suspect is not None:
            first, latest, agreeing, reads = suspect
            suspect = Suspect(Read(*first), Read(*latest), int(agreeing), int(reads))
        return cls(**{**data, "mark": mark, "suspect": suspect})


def between(earlier: Read, later: Read) -> float:
    """Seconds, by the clock that says more: the monotonic one stands still in suspend."""
    return max(later.now - earlier.now, (later.time - earlier.time) / 1000)


def placed(read: Read, shift: float) -> Read:
    """The read on a monotonic clock that is `shift` seconds ahead of UTC."""
    return read._replace(now=read.time / 1000 + shift)
