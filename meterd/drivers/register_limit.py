"""Register limit probe: is a refused request too long, or is one of its rows refused?

refused  | a b c d e f g h |
answered | a b c |               the longest prefix that is answered, found by bisection
refused  | a b c d |             so d is refused, or the length:
answered       | d |             not d itself
refused        | d e f g |       nor the gap from c to d: four are too many
"""

from collections.abc import Sequence

from meterd.drivers.address_constraints import AddressConstraints
from meterd.drivers.refused_rows import Findings
from meterd.drivers.registers import Row

_NO_FINDINGS = Findings()


class RegisterLimit:
    """Search in one refused request: read `batch()`, call `note()`, until there is no batch."""

    def __init__(self, constraints: AddressConstraints, rows: Sequence[Row]) -> None:
        """`rows` are those of the request that was refused, in its order; two at least."""
        self._constraints = constraints
        self._rows = rows
        # Lengths in rows of the longest prefix that was answered and the shortest that was not.
        self._answered_rows, self._refused_rows = 0, len(rows)
        # Whether the first row behind the prefix is answered alone; and with as many after it.
        self._next_alone: bool | None = None
        self._next_with_others: bool | None = None

    def batch(self) -> Sequence[Row] | None:
        """The rows to read next, in one request; None at the end of the search."""
        if self._refused_rows - self._answered_rows > 1:
            return self._rows[: (self._answered_rows + self._refused_rows) // 2]
        if self._answered_rows == 0:
            return None
        if self._next_alone is None:
            return self._rows[self._answered_rows : self._refused_rows]
        return (
            self._rows_after_prefix()
            if self._next_alone and self._next_with_others is None
            else None
        )

    def note(self, answered: bool) -> None:
        """Whether the meter answered the last batch."""
        if self._refused_rows - self._answered_rows > 1:
            middle = (self._answered_rows + self._refused_rows) // 2
            self._answered_rows, self._refused_rows = (
                (middle, self._refused_rows) if answered else (self._answered_rows, middle)
            )
        elif self._next_alone is None:
            self._next_alone = answered
        else:
            self._next_with_others = answered

    def findings(self) -> Findings:
        """The result; empty if the search is not finished."""
        if self._refused_rows - self._answered_rows > 1:
            return _NO_FINDINGS
        row = self._rows[self._answered_rows]
        if self._answered_rows == 0 or self._next_alone is False:
            return Findings((row,))
        if self._next_alone is None:
            return _NO_FINDINGS
        last_register = max(prefix_row.last for prefix_row in self._rows[: self._answered_rows])
        is_gap = row.first > last_register + 1
        if self._next_with_others or (self._next_with_others is None and is_gap):
            return Findings(closed=((row.function, last_register + 1, row.first - 1),))
        return Findings(most=self._words(self._rows[: self._answered_rows]))

    def _rows_after_prefix(self) -> Sequence[Row] | None:
        """Rows after the prefix that make a request as long as the refused one."""
        too_long = self._words(self._rows[: self._refused_rows])
        for end in range(self._refused_rows, len(self._rows) + 1):
            if self._words(self._rows[self._answered_rows : end]) >= too_long:
                return self._rows[self._answered_rows : end]
        return None

    def _words(self, rows: Sequence[Row]) -> int:
        first, last = self._constraints.widened(
            min(row.first for row in rows), max(row.last for row in rows)
        )
        return last - first + 1
