"""What energy costs: exact sums of whole numbers, written out at the very end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from meterd.energy.tariff import DIGITS, Pricer

FEED_IN = "feed_in"
"""The part that is given to the grid; no rate may have this name."""

UNPRICED = "unpriced"
"""The part for which the tariff has no price; no rate may have this name."""

# Prices are per kWh, and energy is in mWh.
_MILLI = 6
PLACES = DIGITS + _MILLI
"""Decimal places of a cost: it is a whole number of 10 ** -PLACES of the currency."""


class BillPart(NamedTuple):
    """Energy (mWh) under one price, and its cost in units of 10 ** -PLACES."""

    energy: int
    cost: int


@dataclass(frozen=True, slots=True)
class Bill:
    """The cost of one span, in units of 10 ** -PLACES.

    `parts` by the name of the rate; their energies add up to the span's value. `energy_cost`
    and `cost` are None where nothing is known of the energy, or some of it has no price. What
    is given to the grid costs less than nothing. `standing` is the daily charge of the days
    that begin in the span, whatever is known of the energy.
    """

    parts: Mapping[str, BillPart]
    energy_cost: int | None
    standing: int

    @property
    def cost(self) -> int | None:
        """All of it: energy and daily charge."""
        return None if self.energy_cost is None else self.energy_cost + self.standing


@dataclass(slots=True)
class Account:
    """The sums of one span while they grow."""

    pricer: Pricer
    energies: dict[str, int] = field(default_factory=dict)
    costs: dict[str, int] = field(default_factory=dict)

    def take(self, start: int, energy: int) -> None:
        """mWh taken from the grid in the quarter hour from `start` (Unix ms) on."""
        found = self.pricer.at(start)
        if found is None:
            self._unpriced(energy)
        else:
            rate = found[1]
            self._book(rate.name, energy, energy * rate.price)

    def give(self, start: int, energy: int, sign: int) -> None:
        """mWh given to the grid; `sign` is how it counts in the span's value."""
        found = self.pricer.at(start)
        price = None if found is None else found[0].feed_in
        if price is None:
            self._unpriced(sign * energy)
        else:
            self._book(FEED_IN, sign * energy, -energy * price)

    def bill(self, *, known: bool, standing: int) -> Bill:
        """`known`: something is known of the energy; `standing` in units of 10 ** -DIGITS."""
        parts = {
            name: BillPart(self.energies[name], self.costs[name]) for name in sorted(self.costs)
        }
        priced = known and UNPRICED not in parts
        total = sum(self.costs.values()) if priced else None
        return Bill(parts, total, standing * 10**_MILLI)

    def _book(self, name: str, energy: int, cost: int) -> None:
        self.energies[name] = self.energies.get(name, 0) + energy
        self.costs[name] = self.costs.get(name, 0) + cost

    def _unpriced(self, energy: int) -> None:
        # Nothing costs nothing, whatever the price is.
        if energy:
            self._book(UNPRICED, energy, 0)


def money(cost: int, places: int = PLACES) -> str:
    """A cost as a decimal number; with fewer places it is rounded, halves to even digits.

    With all places it is exact, and zeros at its end are left out.
    """
    unit = 10 ** (PLACES - places)
    whole, rest = divmod(abs(cost), unit)
    if 2 * rest > unit or (2 * rest == unit and whole % 2):
        whole += 1
    sign = "-" if cost < 0 and whole else ""
    before, after = divmod(whole, 10**places)
    digits = f"{after:0{places}d}" if places else ""
    shown = digits.rstrip("0") if places == PLACES else digits
    return f"{sign}{before}.{shown}" if shown else f"{sign}{before}"
