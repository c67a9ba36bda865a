"""Quarter hours become the sums of periods: whole numbers, so that parts add up to the whole."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from meterd.energy.bill import Account, Bill
from meterd.energy.periods import PeriodSpan
from meterd.energy.quarter import QUARTER, Quarter
from meterd.energy.tariff import Pricer


class EnergyDirection(StrEnum):
    """What is counted: what was taken, what was given, or the one less the other."""

    IMPORT = "import"
    EXPORT = "export"
    NET = "net"


class EnergyFlow(NamedTuple):
    """One quarter hour from `start` (Unix ms) on, in thousandths of the unit."""

    start: int
    taken: int
    given: int
    estimated: bool
    covered: int = QUARTER


@dataclass(frozen=True, slots=True)
class EnergyBucket:
    """The sum of one period, or of the part of it from `start` to `end` (Unix ms) asked for.

    `value` is in thousandths of the unit, None where nothing is known. `known` of its
    quarter hours were known, `estimated` of those were interpolated or integrated; both count a
    quarter hour in part whose part is known. `complete`: it is a whole period, it is over, and
    known from end to end.
    """

    start: int
    end: int
    value: int | None
    known: float
    estimated: float
    complete: bool
    bill: Bill | None = None

    @property
    def quarters(self) -> int:
        """How many quarter hours it spans."""
        return (self.end - self.start) // QUARTER


@dataclass(slots=True)
class _Sum:
    span: PeriodSpan
    account: Account | None
    value: int = 0
    known: int = 0  # ms
    estimated: int = 0  # ms
    standing: int = 0


def flows(
    way: EnergyDirection, taken: Sequence[Quarter], given: Sequence[Quarter]
) -> Iterator[EnergyFlow]:
    """Quarter hours as flows; a net is known where both of its sides are."""
    if way is EnergyDirection.IMPORT:
        yield from (
            EnergyFlow(start, rise, 0, doubt, covered) for start, rise, doubt, covered in taken
        )
    elif way is EnergyDirection.EXPORT:
        yield from (
            EnergyFlow(start, 0, rise, doubt, covered) for start, rise, doubt, covered in given
        )
    else:
        back = {quarter.start: quarter for quarter in given}
        for start, rise, doubt, covered in taken:
            if (other := back.get(start)) is not None:
                both = min(covered, other.covered)
                yield EnergyFlow(start, rise, other.increase, doubt or other.estimated, both)


class Tally:
    """Sums flows by spans, which follow one another.

    `days` are the moments (Unix ms) at which a daily charge falls due.
    """

    def __init__(
        self,
        spans: Sequence[PeriodSpan],
        way: EnergyDirection,
        pricer: Pricer | None = None,
        days: Iterable[int] = (),
    ) -> None:
        self._way = way
        self._sums = [_Sum(span, None if pricer is None else Account(pricer)) for span in spans]
        self._starts = [span.start for span in spans]
        for day in days if pricer is not None else ():
            if (found := self._at(day)) is not None and pricer is not None:
                found.standing += pricer.standing(day)

    def add(self, flows: Iterable[EnergyFlow]) -> None:
        """Flows of quarter hours that were not added before; those outside all spans are not."""
        found = None
        for flow in flows:
            # In time order, most are in the span of the one before.
            if found is None or not found.span.start <= flow.start < found.span.end:
                found = self._at(flow.start)
            if found is not None:
                self._count(found, flow)

    def buckets(self, now: int) -> list[EnergyBucket]:
        """All sums, in the order of their spans. `now` is Unix ms."""
        return [self._bucket(each, now) for each in self._sums]

    def _at(self, ms: int) -> _Sum | None:
        place = bisect_right(self._starts, ms) - 1
        found = self._sums[place] if place >= 0 else None
        return found if found is not None and ms < found.span.end else None

    def _count(self, found: _Sum, flow: EnergyFlow) -> None:
        start, taken, given, estimated, covered = flow
        found.value += given if self._way is EnergyDirection.EXPORT else taken - given
        found.known += covered
        if estimated:
            found.estimated += covered
        if found.account is None:
            return
        if self._way is not EnergyDirection.EXPORT:
            found.account.take(start, taken)
        if self._way is not EnergyDirection.IMPORT:
            found.account.give(start, given, 1 if self._way is EnergyDirection.EXPORT else -1)

    def _bucket(self, found: _Sum, now: int) -> EnergyBucket:
        span = found.span
        known = found.known > 0
        bill = None
        if found.account is not None:
            # What is given to the grid has no daily charge of its own.
            standing = 0 if self._way is EnergyDirection.EXPORT else found.standing
            bill = found.account.bill(known=known, standing=standing)
        return EnergyBucket(
            span.start,
            span.end,
            found.value if known else None,
            found.known / QUARTER,
            found.estimated / QUARTER,
            found.known == span.quarters * QUARTER and span.end <= now,
            bill,
        )
