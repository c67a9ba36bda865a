"""All that PromQL sees: what the store holds of the devices, how meterd itself fares, prices."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from meterd.api.promapi.names import Meaning
from meterd.api.promapi.ownhistory import Key, OwnHistory
from meterd.api.promapi.prices import Prices, PriceSeries
from meterd.api.promsource import StoreSource
from meterd.promql.source import Labelled, Times, Values


class Known(Protocol):
    """A series with its labels, its meaning, and its ends in Unix ms."""

    @property
    def labelled(self) -> Labelled: ...
    @property
    def meaning(self) -> Meaning: ...
    @property
    def first(self) -> int | None: ...
    @property
    def last(self) -> int | None: ...


class SiteSource:
    """A Source for one query: the stored series first, then meterd's own, then prices."""

    def __init__(self, stored: StoreSource, own: OwnHistory, prices: Prices) -> None:
        self._stored = stored
        self._own = own
        self._prices = prices
        self._known: list[Known] = []
        self._labelled: list[Labelled] = []
        self._keys: list[Key] = []
        self._priced: list[PriceSeries] = []

    def series(self) -> Sequence[Known]:
        """Every series; no two have the same labels. Raises StoreError."""
        if not self._known:
            own = self._own.series()
            self._keys = list(own)
            self._priced = self._prices.series()
            self._known = [*self._stored.series(), *own.values(), *self._priced]
            self._labelled = [one.labelled for one in self._known]
        return self._known

    def names(self) -> Sequence[Labelled]:
        self.series()
        return self._labelled

    def fetch(self, ids: Sequence[int], start: int, end: int) -> Sequence[tuple[Times, Values]]:
        """Samples with start < t <= end, stale marks included. Raises StoreError, QueryError."""
        priced = len(self.series()) - len(self._priced)
        stored = priced - len(self._keys)
        theirs = [one for one in ids if one < stored]
        ours = [self._keys[one - stored] for one in ids if stored <= one < priced]
        prices = [self._priced[one - priced] for one in ids if one >= priced]
        found: Iterator[tuple[Times, Values]]
        found = iter(self._stored.fetch(theirs, start, end) if theirs else ())
        own = self._own.fetch(ours, start, end)
        paid = self._prices.fetch(prices, start, end)
        return [next(found if i < stored else own if i < priced else paid) for i in ids]
