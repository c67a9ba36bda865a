"""Prices of tariffs as PromQL series, computed from the configuration.

    meterd_tariff_price{tariff="home",currency="EUR",direction="import"} 0.3412

A price holds for a quarter hour and stands at its start. Floats are near enough for a graph:
exact costs are the business of /api/v1/energy.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from meterd.api.promapi.names import OWN, Meaning
from meterd.energy.quarter import QUARTER
from meterd.energy.tariff import DIGITS, Pricer, Tariff
from meterd.energy.zone_clock import DAY, ZoneClock
from meterd.promql.result import PromErrorType, QueryError

if TYPE_CHECKING:
    from meterd.daemon.site import Site
    from meterd.promql.source import Labelled, Times, Values

METRIC = "meterd_tariff_price"
IMPORT, EXPORT = "import", "export"
# Quarter hours that one query may price: eleven years of one tariff, and a second of work.
_MOST = 400_000
_MEANING = Meaning(METRIC, *OWN[METRIC], "")


@dataclass(frozen=True, slots=True)
class PriceSeries:
    """One price; it may have been there from `first` to `last` (Unix ms), which is now."""

    labelled: "Labelled"
    first: int
    last: int
    tariff: str
    direction: str

    @property
    def meaning(self) -> Meaning:
        return _MEANING


class PriceSource:
    """The tariffs of a site up to now (Unix ms)."""

    def __init__(self, tariffs: Mapping[str, Tariff], zone: str, now: int) -> None:
        self._tariffs = tariffs
        self._zone = zone
        self._now = now

    @classmethod
    def of(cls, site: "Site", now: int) -> "PriceSource":
        """Those of a site; one without tariffs has none."""
        return cls(site.tariffs, site.timezone, now)

    def series(self) -> list[PriceSeries]:
        """The price of a kWh of each tariff, and of an exported one where the tariff has it."""
        return [
            self._one(name, tariff, direction)
            for name, tariff in self._tariffs.items()
            for direction in _directions(tariff)
        ]

    def _one(self, name: str, tariff: Tariff, direction: str) -> PriceSeries:
        from meterd.promql.source import Labelled

        labels = {"__name__": METRIC, **_labels(name, tariff, direction)}
        return PriceSeries(Labelled(labels, QUARTER), 0, self._now, name, direction)

    def latest(self) -> Iterator[tuple[Mapping[str, str], float]]:
        """Labels and value of what has a price now."""
        quarter = self._now // QUARTER * QUARTER
        for name, tariff in self._tariffs.items():
            pricer = self._pricer(name, quarter, self._now)
            for direction in _directions(tariff):
                price = _price(pricer, quarter, direction)
                if price is not None:
                    yield _labels(name, tariff, direction), price / 10**DIGITS

    def fetch(
        self, selected: Sequence[PriceSeries], start: int, end: int
    ) -> "Iterator[tuple[Times, Values]]":
        """Each quarter hour's price with start < t <= end. Raises QueryError."""
        # Not everybody has a Grafana: numpy is loaded with the first query.
        import numpy as np

        first = max(0, start + 1)
        times = np.arange(-(-first // QUARTER) * QUARTER, min(end, self._now) + 1, QUARTER)
        _need_at_most(len(times) * len(selected))
        pricers: dict[str, Pricer] = {}
        for price_series in selected:
            if price_series.tariff not in pricers:
                pricers[price_series.tariff] = self._pricer(price_series.tariff, first, end)
            yield times, _priced(pricers[price_series.tariff], times, price_series.direction)

    def _pricer(self, tariff: str, start: int, end: int) -> Pricer:
        # The last moment is included, and a clock without a span has no offset.
        clock = ZoneClock(ZoneInfo(self._zone), start, max(start, min(end, self._now)) + DAY)
        return Pricer(self._tariffs[tariff], clock)


def _directions(tariff: Tariff) -> tuple[str, ...]:
    paid = any(prices.feed_in is not None for prices in tariff.prices)
    return (IMPORT, EXPORT) if paid else (IMPORT,)


def _labels(name: str, tariff: Tariff, direction: str) -> dict[str, str]:
    return {"tariff": name, "currency": tariff.currency, "direction": direction}


def _priced(pricer: Pricer, times: "Times", direction: str) -> "Values":
    """The prices per kWh; a stale mark where there is none."""
    import numpy as np

    from meterd.promql.source import stale_mark

    values = np.repeat(stale_mark(), len(times))
    for place, ms in enumerate(times.tolist()):
        price = _price(pricer, ms, direction)
        if price is not None:
            values[place] = price / 10**DIGITS
    return values


def _price(pricer: Pricer, ms: int, direction: str) -> int | None:
    day_and_rate = pricer.at(ms)
    if day_and_rate is None:
        return None
    day, rate = day_and_rate
    return rate.price if direction == IMPORT else day.feed_in


def _need_at_most(count: int) -> None:
    if count > _MOST:
        text = f"prices of {count:,} quarter hours, of {_MOST:,} at the most; ask for less time"
        raise QueryError(PromErrorType.EXECUTION, text)
