"""Distinct request lengths: requests of all meters on a link differ in length where that is free.

Some gateways reply with the last frame of their serial bus, under the transaction id and unit of
the current request. Only its length tells such a stale reply from the right one:

unit 1: 20 registers | unit 2: 22 registers | unit 3: 24 registers | unit 4: 20 registers again ...
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from weakref import WeakKeyDictionary

from meterd.drivers.address_constraints import AddressConstraints
from meterd.drivers.blocks import Block
from meterd.drivers.planner import choices, claim

Length = tuple[int, int]
"""Function and registers: what a reply reveals of its request."""

Tiers = frozenset[str]

# Results by all that they depend on, shared by meters of one model on similar links; entries refer
# to the plan, so that its id is not reused.
_RESULTS: dict[tuple[object, ...], tuple[list[Block], list[Block], tuple[Length, ...]]] = {}
_RESULTS_CACHED_MAX = 500


class DistinctLengths:
    """The request lengths of the meters on one link."""

    __slots__ = ("_lengths",)

    def __init__(self) -> None:
        self._lengths: dict[tuple[Hashable, Tiers], tuple[Length, ...]] = {}

    def apart(
        self, meter: Hashable, tiers: Tiers, constraints: AddressConstraints, blocks: list[Block]
    ) -> list[Block]:
        """A meter's requests for these tiers, lengthened to lengths that are rare on the link.

        `blocks` are the result of `plan`. First they are made different from each other where
        possible, then from other meters'. None grows by more than `planner.LENGTHENING_MAX`,
        and only over rows of the map. A meter alone on its link gets the result of
        `planner.distinct`.
        """
        others = self._others(meter)
        key = id(blocks), frozenset(others.items())
        if key not in _RESULTS:
            if len(_RESULTS) >= _RESULTS_CACHED_MAX:
                _RESULTS.clear()
            chosen = _choose(constraints, blocks, others)
            _RESULTS[key] = blocks, chosen, tuple((block.function, block.words) for block in chosen)
        _, chosen, self._lengths[meter, tiers] = _RESULTS[key]
        return chosen

    def forget(self, meter: Hashable) -> None:
        """The meter is gone, or plans again: release its lengths."""
        for key in [key for key in self._lengths if key[0] == meter]:
            del self._lengths[key]

    def _others(self, meter: Hashable) -> Counter[Length]:
        """Number of other meters that use each length."""
        lengths = {
            (other, length)
            for (other, _), plan in self._lengths.items()
            if other != meter
            for length in plan
        }
        return Counter(length for _, length in lengths)


def _choose(
    constraints: AddressConstraints, blocks: Sequence[Block], others: Counter[Length]
) -> list[Block]:
    """For each request the choice whose length fewest other meters use; of those, the shortest."""

    def rank(block: Block) -> tuple[int, int]:
        return others[block.function, block.words], block.words

    offers = [sorted(choices(constraints, block), key=rank) for block in blocks]
    holder: dict[Length, int] = {}
    chosen: dict[int, Block] = {}
    for i in range(len(blocks)):
        claim(i, offers, holder, chosen, set())
    return [chosen.get(i, block) for i, block in enumerate(blocks)]


_LENGTHS_BY_LINK: WeakKeyDictionary[object, DistinctLengths] = WeakKeyDictionary()


def on(link: object) -> DistinctLengths:
    """The lengths of this link, one object for all its meters."""
    lengths = _LENGTHS_BY_LINK.get(link)
    if lengths is None:
        lengths = _LENGTHS_BY_LINK[link] = DistinctLengths()
    return lengths
