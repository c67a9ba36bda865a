"""Sums quarter hours per period, in integers, so that parts add up to the whole."""

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
    """What is summed: import, export, or net (import less export)."""

    IMPORT = "import"
    EXPORT = "export"
    NET = "net"


class EnergyFlow(NamedTuple):
    """Import and export of the quarter hour from `start` (Unix ms), in thousandths of the unit."""

    start: int
    imported: int
    exported: int
    estimated: bool
    covered: int = QUARTER


@dataclass(frozen=True, slots=True)
class EnergyBucket:
    """The sum of one period, or of its part from `start` to `end` (Unix ms).

    `value` is in thousandths of the unit, None where nothing is known. `known` is the number of
    quarter hours with data, `estimated` the number of those that were interpolated or integrated;
    partly covered ones count in part. `complete`: a whole period that has ended, fully covered.
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
        """The number of quarter hours from `start` to `end`."""
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
    direction: EnergyDirection, imported: Sequence[Quarter], exported: Sequence[Quarter]
) -> Iterator[EnergyFlow]:
    """Quarter hours as flows; a net needs both counters in the same quarter hour."""
    if direction is EnergyDirection.IMPORT:
        yield from (
            EnergyFlow(start, increase, 0, estimated, covered)
            for start, increase, estimated, covered in imported
        )
    elif direction is EnergyDirection.EXPORT:
        yield from (
            EnergyFlow(start, 0, increase, estimated, covered)
            for start, increase, estimated, covered in exported
        )
    else:
        export_quarters = {quarter.start: quarter for quarter in exported}
        for start, increase, estimated, covered in imported:
            if (export := export_quarters.get(start)) is not None:
                covered_by_both = min(covered, export.covered)
                yield EnergyFlow(
                    start, increase, export.increase, estimated or export.estimated, covered_by_both
                )


class Tally:
    """Sums flows by spans, which must be contiguous and ascending.

    `days` are the starts of days (Unix ms), each of which adds a daily charge.
    """

    def __init__(
        self,
        spans: Sequence[PeriodSpan],
        direction: EnergyDirection,
        pricer: Pricer | None = None,
        days: Iterable[int] = (),
    ) -> None:
        self._way = direction
        self._sums = [_Sum(span, None if pricer is None else Account(pricer)) for span in spans]
        self._starts = [span.start for span in spans]
        for day in days if pricer is not None else ():
            if (period_sum := self._sum_at(day)) is not None and pricer is not None:
                period_sum.standing += pricer.standing(day)

    def add(self, flows: Iterable[EnergyFlow]) -> None:
        """Adds flows, each quarter hour once; those outside all spans are ignored."""
        period_sum = None
        for flow in flows:
            # In time order, so mostly in the same span as the flow before.
            if period_sum is None or not period_sum.span.start <= flow.start < period_sum.span.end:
                period_sum = self._sum_at(flow.start)
            if period_sum is not None:
                self._add_flow(period_sum, flow)

    def buckets(self, now: int) -> list[EnergyBucket]:
        """The buckets in the order of the spans; `now` (Unix ms) decides which are complete."""
        return [self._bucket(period_sum, now) for period_sum in self._sums]

    def _sum_at(self, ms: int) -> _Sum | None:
        index = bisect_right(self._starts, ms) - 1
        period_sum = self._sums[index] if index >= 0 else None
        return period_sum if period_sum is not None and ms < period_sum.span.end else None

    def _add_flow(self, period_sum: _Sum, flow: EnergyFlow) -> None:
        start, imported, exported, estimated, covered = flow
        period_sum.value += exported if self._way is EnergyDirection.EXPORT else imported - exported
        period_sum.known += covered
        if estimated:
            period_sum.estimated += covered
        if period_sum.account is None:
            return
        if self._way is not EnergyDirection.EXPORT:
            period_sum.account.add_import(start, imported)
        if self._way is not EnergyDirection.IMPORT:
            period_sum.account.add_export(
                start, exported, 1 if self._way is EnergyDirection.EXPORT else -1
            )

    def _bucket(self, period_sum: _Sum, now: int) -> EnergyBucket:
        span = period_sum.span
        is_known = period_sum.known > 0
        bill = None
        if period_sum.account is not None:
            # The daily charge belongs to the import.
            standing = 0 if self._way is EnergyDirection.EXPORT else period_sum.standing
            bill = period_sum.account.bill(has_energy=is_known, standing=standing)
        return EnergyBucket(
            span.start,
            span.end,
            period_sum.value if is_known else None,
            period_sum.known / QUARTER,
            period_sum.estimated / QUARTER,
            period_sum.known == span.quarters * QUARTER and span.end <= now,
            bill,
        )
