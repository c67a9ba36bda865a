"""Costs of energy: exact integer sums, formatted as decimal numbers only for output."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from meterd.energy.tariff import DIGITS, Pricer

FEED_IN = "feed_in"
"""The name of the exported part of a bill; no rate may have this name."""

UNPRICED = "unpriced"
"""The name of the part without a price in the tariff; no rate may have this name."""

# Prices are per kWh, energy is in mWh: 10 ** 6 of them in a kWh.
_MILLI = 6
PLACES = DIGITS + _MILLI
"""Decimal places of a cost, which is an integer of 10 ** -PLACES of the currency."""


class BillPart(NamedTuple):
    """Energy (mWh) under one rate, and its cost in units of 10 ** -PLACES."""

    energy: int
    cost: int


@dataclass(frozen=True, slots=True)
class Bill:
    """The cost of one bucket, in units of 10 ** -PLACES.

    `parts` by the name of the rate; their energies add up to the bucket's value. `energy_cost`
    and `cost` are None where no energy is known, or some of it has no price. Exported energy has
    a negative cost. `standing` is the daily charge of the days that begin in the bucket, with or
    without known energy.
    """

    parts: Mapping[str, BillPart]
    energy_cost: int | None
    standing: int

    @property
    def cost(self) -> int | None:
        """The total: energy and daily charge."""
        return None if self.energy_cost is None else self.energy_cost + self.standing


@dataclass(slots=True)
class Account:
    """The running sums of one bucket's bill, by the name of the rate."""

    pricer: Pricer
    energies: dict[str, int] = field(default_factory=dict)
    costs: dict[str, int] = field(default_factory=dict)

    def add_import(self, start: int, energy: int) -> None:
        """Adds mWh imported in the quarter hour from `start` (Unix ms)."""
        prices = self.pricer.at(start)
        if prices is None:
            self._add_unpriced(energy)
        else:
            rate = prices[1]
            self._add(rate.name, energy, energy * rate.price)

    def add_export(self, start: int, energy: int, sign: int) -> None:
        """Adds mWh exported; `sign` is its sign in the bucket's value (1 export, -1 net)."""
        prices = self.pricer.at(start)
        price = None if prices is None else prices[0].feed_in
        if price is None:
            self._add_unpriced(sign * energy)
        else:
            self._add(FEED_IN, sign * energy, -energy * price)

    def bill(self, *, has_energy: bool, standing: int) -> Bill:
        """The bill; `has_energy`: some energy is known; `standing` in units of 10 ** -DIGITS."""
        parts = {
            name: BillPart(self.energies[name], self.costs[name]) for name in sorted(self.costs)
        }
        is_priced = has_energy and UNPRICED not in parts
        total = sum(self.costs.values()) if is_priced else None
        return Bill(parts, total, standing * 10**_MILLI)

    def _add(self, name: str, energy: int, cost: int) -> None:
        self.energies[name] = self.energies.get(name, 0) + energy
        self.costs[name] = self.costs.get(name, 0) + cost

    def _add_unpriced(self, energy: int) -> None:
        # No energy needs no price.
        if energy:
            self._add(UNPRICED, energy, 0)


def money(cost: int, places: int = PLACES) -> str:
    """Formats a cost as a decimal number, rounded half to even to `places`.

    With PLACES it is exact, without trailing zeros.
    """
    unit = 10 ** (PLACES - places)
    whole, rest = divmod(abs(cost), unit)
    if 2 * rest > unit or (2 * rest == unit and whole % 2):
        whole += 1
    sign = "-" if cost < 0 and whole else ""
    before, after = divmod(whole, 10**places)
    digits = f"{after:0{places}d}" if places else ""
    fraction = digits.rstrip("0") if places == PLACES else digits
    return f"{sign}{before}.{fraction}" if fraction else f"{sign}{before}"
