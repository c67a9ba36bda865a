"""All that PromQL sees: what the store holds of the devices, how meterd fares, prices, days."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from meterd.api.promapi.local_days import DaySeries, LocalDays
from meterd.api.promapi.names import Meaning
from meterd.api.promapi.prices import PriceSeries, PriceSource
from meterd.api.promapi.self_metrics_history import Key, OwnHistory
from meterd.api.promapi.store_source import StoreSource
from meterd.promql.range_vector import drop_stale_marks
from meterd.promql.source import Folded, Labelled, Times, Values


class KnownSeries(Protocol):
    """A series with its labels, its meaning, and its ends in Unix ms."""

    @property
    def labelled(self) -> Labelled: ...
    @property
    def meaning(self) -> Meaning: ...
    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...


class SiteSource:
    """A SeriesSource for one query: stored series first, then meterd's own, prices, local days."""

    def __init__(
        self,
        stored: StoreSource,
        own: OwnHistory,
        prices: PriceSource,
        days: LocalDays | None = None,
    ) -> None:
        self._stored = stored
        self._own = own
        self._prices = prices
        self._local_days = days
        self._known: list[KnownSeries] = []
        self._labelled: list[Labelled] = []
        self._keys: list[Key] = []
        self._priced: list[PriceSeries] = []
        self._days: list[DaySeries] = []

    def series(self) -> Sequence[KnownSeries]:
        """Every series; no two have the same labels. Raises StoreError."""
        if not self._known:
            own = self._own.series()
            self._keys = list(own)
            self._priced = self._prices.series()
            stored = self._stored.series()
            self._days = self._local_days.series(stored) if self._local_days else []
            self._known = [*stored, *own.values(), *self._priced, *self._days]
            self._labelled = [known.labelled for known in self._known]
        return self._known

    def names(self) -> Sequence[Labelled]:
        self.series()
        return self._labelled

    def fetch(self, ids: Sequence[int], start: int, end: int) -> Sequence[tuple[Times, Values]]:
        """Samples with start < t <= end, stale marks included. Raises StoreError, QueryError."""
        days = len(self.series()) - len(self._days)
        priced = days - len(self._priced)
        stored = priced - len(self._keys)
        theirs = [number for number in ids if number < stored]
        ours = [self._keys[number - stored] for number in ids if stored <= number < priced]
        prices = [self._priced[number - priced] for number in ids if priced <= number < days]
        samples: Iterator[tuple[Times, Values]]
        samples = iter(self._stored.fetch(theirs, start, end) if theirs else ())
        own = self._own.fetch(ours, start, end)
        paid = self._prices.fetch(prices, start, end)
        summed = self._summed(
            [self._days[number - days] for number in ids if number >= days], start, end
        )
        ends = ((stored, samples), (priced, own), (days, paid))
        return [next(next((kind for end, kind in ends if i < end), summed)) for i in ids]

    def samples(self, ids: Sequence[int], start: int, end: int) -> Sequence[tuple[Times, Values]]:
        """See FoldingSource. Raises StoreError, QueryError."""
        stored = len(self.series()) - len(self._days) - len(self._priced) - len(self._keys)
        if all(number < stored for number in ids):
            return self._stored.samples(ids, start, end) if ids else ()
        return drop_stale_marks(self.fetch(ids, start, end))

    def fold(
        self, ids: Sequence[int], function: str, starts: Times, ends: Times
    ) -> Sequence[Folded | None]:
        """Stored series by the store; the others are folded from their samples."""
        stored = len(self.series()) - len(self._days) - len(self._priced) - len(self._keys)
        theirs = [number for number in ids if number < stored]
        folded = iter(self._stored.fold(theirs, function, starts, ends) if theirs else ())
        return [next(folded) if number < stored else None for number in ids]

    def _summed(
        self, wanted: Sequence[DaySeries], start: int, end: int
    ) -> Iterator[tuple[Times, Values]]:
        return self._local_days.fetch(wanted, start, end) if self._local_days else iter(())
