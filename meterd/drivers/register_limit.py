"""The register limit: whether a refused request was too long, or one of its rows is at fault.

refused  | a b c d e f g h |
answered | a b c |               the longest beginning that is answered, found by halving
refused  | a b c d |             so it is d, or the length:
answered       | d |             not d itself
refused        | d e f g |       nor is it the way from c to d: four are too many
"""

from collections.abc import Sequence

from meterd.drivers.address_constraints import AddressConstraints
from meterd.drivers.refused_rows import Findings
from meterd.drivers.registers import Row

_NOTHING = Findings()


class RegisterLimit:
    """Asks about one refused request: read `batch()`, tell `note()`, until there is no batch."""

    def __init__(self, ground: AddressConstraints, rows: Sequence[Row]) -> None:
        """`rows` are those of the request that was refused, in its order; two at least."""
        self._ground = ground
        self._rows = rows
        # How many rows from the first on were answered together, and how many were not.
        self._good, self._bad = 0, len(rows)
        # Whether the first row that is too much is answered alone; and with as many behind it.
        self._alone: bool | None = None
        self._elsewhere: bool | None = None

    def batch(self) -> Sequence[Row] | None:
        """The rows to ask for next, in one request; None when all is known."""
        if self._bad - self._good > 1:
            return self._rows[: (self._good + self._bad) // 2]
        if self._good == 0:
            return None
        if self._alone is None:
            return self._rows[self._good : self._bad]
        return self._behind() if self._alone and self._elsewhere is None else None

    def note(self, answered: bool) -> None:
        """Whether the meter answered the last batch."""
        if self._bad - self._good > 1:
            middle = (self._good + self._bad) // 2
            self._good, self._bad = (middle, self._bad) if answered else (self._good, middle)
        elif self._alone is None:
            self._alone = answered
        else:
            self._elsewhere = answered

    def findings(self) -> Findings:
        """What is known now: nothing where it was given up before the end."""
        if self._bad - self._good > 1:
            return _NOTHING
        row = self._rows[self._good]
        if self._good == 0 or self._alone is False:
            return Findings((row,))
        if self._alone is None:
            return _NOTHING
        before = max(one.last for one in self._rows[: self._good])
        hole = row.first > before + 1
        if self._elsewhere or (self._elsewhere is None and hole):
            return Findings(closed=((row.function, before + 1, row.first - 1),))
        return Findings(most=self._words(self._rows[: self._good]))

    def _behind(self) -> Sequence[Row] | None:
        """From the first row that was too much on, so many that they are as long as it was then."""
        too_long = self._words(self._rows[: self._bad])
        for end in range(self._bad, len(self._rows) + 1):
            if self._words(self._rows[self._good : end]) >= too_long:
                return self._rows[self._good : end]
        return None

    def _words(self, rows: Sequence[Row]) -> int:
        first, last = self._ground.widened(
            min(row.first for row in rows), max(row.last for row in rows)
        )
        return last - first + 1
