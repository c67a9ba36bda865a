"""Rebalancing: how many devices each meterd of a cluster takes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rebalancer:
    """`counts` is what each living meterd with these devices has, by holder, ours among them."""

    counts: Mapping[str, int]
    free: int  # devices that nobody has

    def most(self, holder: str) -> int:
        """How many devices the holder is to have in the end.

        Where they do not come out even, those that have more than others already keep one more.
        """
        total = self.free + sum(self.counts.values())
        low, more = divmod(total, max(1, len(self.counts)))
        above = sorted(one for one, count in self.counts.items() if count > low)
        mine = self.counts.get(holder, 0)
        if mine > low:
            return low + (above.index(holder) < more)
        return low + (len(above) < more)


def choose_devices(held: Collection[str], leaving: Collection[str], most: int) -> frozenset[str]:
    """The devices to release; those chosen before are chosen again."""
    surplus = max(0, len(held) - most)
    ordered = sorted(held, key=lambda name: (name not in leaving, name))
    return frozenset(ordered[:surplus])
