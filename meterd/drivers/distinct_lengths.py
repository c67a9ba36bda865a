"""Distinct request lengths: all meters on one link are asked unlike each other where it is free.

Some gateways answer with what came over their serial bus last, under the transaction id and the
unit of the request in hand. Nothing but its length then tells such a reply from the right one:

unit 1 asks for 20 registers | unit 2 asks for 22 | unit 3 asks for 24 | unit 4 for 20 again ...
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from weakref import WeakKeyDictionary

from meterd.drivers.address_constraints import AddressConstraints
from meterd.drivers.blocks import Block
from meterd.drivers.planner import choices, claim

Length = tuple[int, int]
"""Function and registers: what a reply tells of its request."""

Tiers = frozenset[str]

# Outcomes by what they depend on, so that meters of one model on like links have one; the plan
# is kept beside its id.
_SHARED: dict[tuple[object, ...], tuple[list[Block], list[Block], tuple[Length, ...]]] = {}
_MOST_SHARED = 500


class DistinctLengths:
    """Which lengths the meters on one link ask for, in the order in which they first planned."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: dict[tuple[Hashable, Tiers], tuple[Length, ...]] = {}

    def apart(
        self, meter: Hashable, tiers: Tiers, ground: AddressConstraints, blocks: list[Block]
    ) -> list[Block]:
        """A meter's requests for these tiers, of lengths that are rare on the link.

        `blocks` as `plan` made them. They become different from each other where they can, which
        goes first, and different from other meters' next. None gets longer than by
        `planner.LENGTHENING`, and only over rows that the map knows. A meter alone on its link
        gets what `planner.distinct` gives.
        """
        others = self._others(meter)
        key = id(blocks), frozenset(others.items())
        if key not in _SHARED:
            if len(_SHARED) >= _MOST_SHARED:
                _SHARED.clear()
            found = _chosen(ground, blocks, others)
            _SHARED[key] = blocks, found, tuple((one.function, one.words) for one in found)
        _, found, self._taken[meter, tiers] = _SHARED[key]
        return found

    def forget(self, meter: Hashable) -> None:
        """It is gone, or plans anew: its lengths are free again."""
        for key in [key for key in self._taken if key[0] == meter]:
            del self._taken[key]

    def _others(self, meter: Hashable) -> Counter[Length]:
        """How many meters ask for each length, this one left out."""
        taken = {
            (other, length)
            for (other, _), plan in self._taken.items()
            if other != meter
            for length in plan
        }
        return Counter(length for _, length in taken)


def _chosen(
    ground: AddressConstraints, blocks: Sequence[Block], others: Counter[Length]
) -> list[Block]:
    """For each request the choice whose length fewest others have; of those, the shortest."""

    def rank(one: Block) -> tuple[int, int]:
        return others[one.function, one.words], one.words

    offers = [sorted(choices(ground, one), key=rank) for one in blocks]
    holder: dict[Length, int] = {}
    chosen: dict[int, Block] = {}
    for i in range(len(blocks)):
        claim(i, offers, holder, chosen, set())
    return [chosen.get(i, one) for i, one in enumerate(blocks)]


_OF: WeakKeyDictionary[object, DistinctLengths] = WeakKeyDictionary()


def on(link: object) -> DistinctLengths:
    """The lengths on this link: one and the same for all meters that share it."""
    found = _OF.get(link)
    if found is None:
        found = _OF[link] = DistinctLengths()
    return found
