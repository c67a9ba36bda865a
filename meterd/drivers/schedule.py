"""Schedule: which rows of a map are due at a poll, and the requests that fetch them together."""

import math
from collections.abc import Hashable, Iterable
from dataclasses import replace

from meterd.drivers.address_constraints import AddressConstraints
from meterd.drivers.blocks import Block
from meterd.drivers.costs import ASSUMED, Costs
from meterd.drivers.distinct_lengths import DistinctLengths
from meterd.drivers.planner import better, plan
from meterd.drivers.refused_rows import Hole
from meterd.drivers.registers import RegisterMap, Row

# How often rows of the tier `slow` are read, in seconds.
SLOW = 60.0

# Slow rows come with each of the first polls, too: a counter is believed after three reads.
_FIRST = 3

# Plans by what they depend on, and what is known of a meter of which nothing is learned yet; the
# map is kept beside its id.
_SHARED: dict[tuple[object, ...], tuple[RegisterMap, list[Block]]] = {}
_GROUNDS: dict[int, AddressConstraints] = {}
_MOST_SHARED = 500
# Measured costs are rounded to such steps, so that meters on like links share a plan: a plan is
# off by half a step at most, which is less than what a new one has to gain.
_STEP = math.log(1.05)
# Costs that moved by less are not worth a new plan.
_MOVED = 0.3

FAST = frozenset(("fast",))
SLOWER = frozenset(("fast", "slow"))
ALL = frozenset(("fast", "slow", "static"))


def every(slow: float, interval: float) -> int:
    """Each how many-th poll has slow rows; both in seconds."""
    return max(1, round(slow / interval))


def due(poll: int, every: int) -> frozenset[str]:
    """The tiers to read at this poll, counted from 0, if slow rows come with each `every`-th."""
    if poll == 0:
        return ALL
    return SLOWER if poll % every == 0 or poll < _FIRST else FAST


class Schedule:
    """The requests of each poll of one meter, counted from 0 since its link was opened.

    Fast rows are due at every poll, slow ones at the first three and each n-th, static ones at
    the first. A poll's rows are planned together: slow rows between fast ones may cost no request
    of their own.
    Count a poll only when it succeeded, so that what a failed one owed is asked again.
    """

    __slots__ = ("_lengths", "_meter", "_plans", "costs", "every", "ground")

    def __init__(
        self,
        register_map: RegisterMap,
        interval: float,
        costs: Costs = ASSUMED,
        *,
        slow: float = SLOW,
        lengths: DistinctLengths | None = None,
        meter: Hashable = None,
    ) -> None:
        """Times in seconds. `lengths`: the requests of all meters on the link, of which this is
        `meter`, are given different lengths where that is free."""
        self.every = every(slow, interval)
        self.ground = _ground(register_map)
        self.costs = costs
        self._lengths = lengths
        self._meter = meter
        # By what is due: what is asked, and the best plan, which differs by its lengths only.
        self._plans: dict[frozenset[str], tuple[list[Block], list[Block]]] = {}

    def due(self, poll: int) -> frozenset[str]:
        """The tiers to read at this poll."""
        return due(poll, self.every)

    @property
    def ordinary(self) -> int:
        """The number of a poll with no more than is due most of the time."""
        return self.every * _FIRST + 1

    def blocks(self, poll: int) -> list[Block]:
        """The requests of this poll; the same list while nothing new is learned."""
        tiers = self.due(poll)
        plans = self._plans.get(tiers)
        return self._adopt(tiers, self._planned(tiers)) if plans is None else plans[0]

    def learn(self, costs: Costs) -> bool:
        """Plan by these costs; whether a plan changed. One that gains little is left alone."""
        if _alike(costs.fixed, self.costs.fixed) and _alike(costs.register, self.costs.register):
            return False
        self.costs = replace(costs, fixed=_rounded(costs.fixed), register=_rounded(costs.register))
        changed = False
        for tiers, (_, old) in list(self._plans.items()):
            new = self._planned(tiers)
            if better(new, old, costs):
                self._adopt(tiers, new)
                changed = True
        return changed

    def leave_out(
        self, rows: Iterable[Row] = (), closed: Iterable[Hole] = (), most: int | None = None
    ) -> None:
        """From now on leave out just these rows, cross just these holes no more, and ask for no
        more registers at once (None: as many as the map says)."""
        found = AddressConstraints(self.ground.map, rows, closed, most)
        learned = found.refused or found.closed or most is not None
        self.ground = found if learned else _ground(self.ground.map)
        self._forget()

    def _forget(self) -> None:
        self._plans.clear()
        if self._lengths is not None:
            self._lengths.forget(self._meter)

    def _adopt(self, tiers: frozenset[str], plain: list[Block]) -> list[Block]:
        """Ask by this plan from now on."""
        asked = plain
        if self._lengths is not None:
            asked = self._lengths.apart(self._meter, tiers, self.ground, plain)
        self._plans[tiers] = asked, plain
        return asked

    def _planned(self, tiers: frozenset[str]) -> list[Block]:
        # Meters of one model on like links share their plans: blocks have no state.
        ground = self.ground
        refused = tuple(row.quantity for row in ground.refused)
        known = id(ground.map), refused, ground.closed, ground.most
        key = (*known, tiers, self.costs)
        if key not in _SHARED:
            if len(_SHARED) >= _MOST_SHARED:
                _SHARED.clear()
            _SHARED[key] = ground.map, self._made(tiers)
        return _SHARED[key][1]

    def _made(self, tiers: frozenset[str]) -> list[Block]:
        refused = {row.quantity for row in self.ground.refused}
        asked = [row for row in self.ground.map.rows if row.quantity not in refused]
        # A poll that asks nothing would call a meter up that is long gone.
        rows = [row for row in asked if row.tier in tiers] or sorted(asked, key=_price)[:1]
        return plan(self.ground.map, rows, self.costs, self.ground)


def _ground(register_map: RegisterMap) -> AddressConstraints:
    """The whole map, one object for all meters that have it."""
    known = _GROUNDS.get(id(register_map))
    if known is None:
        if len(_GROUNDS) >= _MOST_SHARED:
            _GROUNDS.clear()
        known = _GROUNDS[id(register_map)] = AddressConstraints(register_map)
    return known


def _price(row: Row) -> tuple[bool, bool, bool, int]:
    """How dear it is to ask for a row only to hear whether the meter is there."""
    text = row.type == "str" or row.quantity.startswith("info.")
    return row.tier == "static", text, row.apart or row.alone, row.last - row.first


def _rounded(cost: float) -> float:
    return math.exp(round(math.log(cost) / _STEP) * _STEP) if cost > 0 else 0.0


def _alike(one: float, other: float) -> bool:
    """So near that no plan could gain by the difference."""
    return abs(one - other) <= _MOVED * max(one, other)
