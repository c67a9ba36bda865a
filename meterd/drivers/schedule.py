"""Schedule of one meter: the rows due at each poll by tier, and the requests planned for them."""

import math
from collections.abc import Hashable, Iterable
from dataclasses import replace

from meterd.drivers.address_constraints import AddressConstraints
from meterd.drivers.blocks import Block
from meterd.drivers.costs import ASSUMED, Costs
from meterd.drivers.distinct_lengths import DistinctLengths
from meterd.drivers.planner import better, plan
from meterd.drivers.refused_rows import Gap
from meterd.drivers.registers import RegisterMap, Row

# Default interval of rows of the tier `slow`, in seconds.
SLOW = 60.0

# Slow rows are read in each of the first polls, too: the counter guard needs three reads.
_FIRST_POLLS = 3

# Plans by all that they depend on, and address constraints of maps without exclusions, by id of
# the map; entries refer to the map, so that its id is not reused.
_PLANS: dict[tuple[object, ...], tuple[RegisterMap, list[Block]]] = {}
_MAP_CONSTRAINTS: dict[int, AddressConstraints] = {}
_PLANS_CACHED_MAX = 500
# Measured costs are rounded to steps of 5 %, so that meters on similar links share a plan; half a
# step of error is less than the gain that a new plan must have.
_COST_STEP_LOG = math.log(1.05)
# Relative change of costs below which no new plan is made.
_COST_CHANGE_MIN = 0.3

FAST = frozenset(("fast",))
SLOWER = frozenset(("fast", "slow"))
ALL = frozenset(("fast", "slow", "static"))


def every(slow: float, interval: float) -> int:
    """n if every n-th poll reads slow rows; both arguments in seconds."""
    return max(1, round(slow / interval))


def due(poll: int, every: int) -> frozenset[str]:
    """The tiers to read at this poll, counted from 0, if every `every`-th reads slow rows."""
    if poll == 0:
        return ALL
    return SLOWER if poll % every == 0 or poll < _FIRST_POLLS else FAST


class Schedule:
    """The requests of each poll of one meter, counted from 0 since its link was opened.

    Fast rows are due at every poll, slow ones at the first three and every n-th, static ones at
    the first. A poll's rows are planned together, so that slow rows between fast ones may need no
    request of their own.
    Callers count successful polls only, so that rows of a failed poll are read by the next one.
    """

    __slots__ = ("_lengths", "_meter", "_plans", "constraints", "costs", "every")

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
        """Times in seconds. `lengths` gives the requests of all meters on the link different
        lengths where that costs nothing; `meter` is this one's key there."""
        self.every = every(slow, interval)
        self.constraints = _map_constraints(register_map)
        self.costs = costs
        self._lengths = lengths
        self._meter = meter
        # By tiers: the requests that are sent, and the plan before its lengths were changed.
        self._plans: dict[frozenset[str], tuple[list[Block], list[Block]]] = {}

    def due(self, poll: int) -> frozenset[str]:
        """The tiers to read at this poll."""
        return due(poll, self.every)

    @property
    def ordinary(self) -> int:
        """The number of a poll that reads fast rows only."""
        return self.every * _FIRST_POLLS + 1

    def blocks(self, poll: int) -> list[Block]:
        """The requests of this poll; the same list object until the plan changes."""
        tiers = self.due(poll)
        plans = self._plans.get(tiers)
        return self._adopt(tiers, self._cached_plan(tiers)) if plans is None else plans[0]

    def learn(self, costs: Costs) -> bool:
        """Plan by these costs where that gains enough; returns whether a plan changed."""
        if _is_close(costs.fixed, self.costs.fixed) and _is_close(
            costs.register, self.costs.register
        ):
            return False
        self.costs = replace(costs, fixed=_rounded(costs.fixed), register=_rounded(costs.register))
        changed = False
        for tiers, (_, old) in list(self._plans.items()):
            new = self._cached_plan(tiers)
            if better(new, old, costs):
                self._adopt(tiers, new)
                changed = True
        return changed

    def leave_out(
        self, rows: Iterable[Row] = (), closed: Iterable[Gap] = (), most: int | None = None
    ) -> None:
        """Replace the exclusions: rows, gaps that no request may span, and the most registers per
        request (None: the map's limit)."""
        new = AddressConstraints(self.constraints.map, rows, closed, most)
        learned = new.refused or new.closed or most is not None
        self.constraints = new if learned else _map_constraints(self.constraints.map)
        self._forget()

    def _forget(self) -> None:
        self._plans.clear()
        if self._lengths is not None:
            self._lengths.forget(self._meter)

    def _adopt(self, tiers: frozenset[str], planned: list[Block]) -> list[Block]:
        """Use this plan for these tiers, with distinct lengths if there are any."""
        blocks = planned
        if self._lengths is not None:
            blocks = self._lengths.apart(self._meter, tiers, self.constraints, planned)
        self._plans[tiers] = blocks, planned
        return blocks

    def _cached_plan(self, tiers: frozenset[str]) -> list[Block]:
        # Meters of one model on similar links share their plans: blocks have no state.
        constraints = self.constraints
        refused = tuple(row.quantity for row in constraints.refused)
        constraints_key = id(constraints.map), refused, constraints.closed, constraints.most
        key = (*constraints_key, tiers, self.costs)
        if key not in _PLANS:
            if len(_PLANS) >= _PLANS_CACHED_MAX:
                _PLANS.clear()
            _PLANS[key] = constraints.map, self._plan(tiers)
        return _PLANS[key][1]

    def _plan(self, tiers: frozenset[str]) -> list[Block]:
        refused = {row.quantity for row in self.constraints.refused}
        candidates = [row for row in self.constraints.map.rows if row.quantity not in refused]
        # A poll without any request would report a meter as up that is gone: read one row then.
        rows = [row for row in candidates if row.tier in tiers] or sorted(
            candidates, key=_probe_cost
        )[:1]
        return plan(self.constraints.map, rows, self.costs, self.constraints)


def _map_constraints(register_map: RegisterMap) -> AddressConstraints:
    """The constraints of a map without exclusions, one object for all meters that have it."""
    cached = _MAP_CONSTRAINTS.get(id(register_map))
    if cached is None:
        if len(_MAP_CONSTRAINTS) >= _PLANS_CACHED_MAX:
            _MAP_CONSTRAINTS.clear()
        cached = _MAP_CONSTRAINTS[id(register_map)] = AddressConstraints(register_map)
    return cached


def _probe_cost(row: Row) -> tuple[bool, bool, bool, int]:
    """Sort key: cost of reading a row only to see whether the meter is there."""
    text = row.type == "str" or row.quantity.startswith("info.")
    return row.tier == "static", text, row.apart or row.alone, row.last - row.first


def _rounded(cost: float) -> float:
    return math.exp(round(math.log(cost) / _COST_STEP_LOG) * _COST_STEP_LOG) if cost > 0 else 0.0


def _is_close(first: float, second: float) -> bool:
    """Whether two costs are so close that a new plan would gain too little."""
    return abs(first - second) <= _COST_CHANGE_MIN * max(first, second)
