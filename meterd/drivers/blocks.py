"""Blocks: which registers to read in one request, and what they say.

request   | first register ............................ last register |
rows      | voltage.l1 | voltage.l2 |   hole   | current.l1 | @scale   |
"""

import math
import struct
from collections.abc import Callable, Iterable
from operator import itemgetter

from meterd.drivers import values
from meterd.drivers.registers import Row
from meterd.model.sample import Quality, Reading

_make = Reading._make
_GOOD = Quality.GOOD


class Block:
    """One request, and the rows that its reply answers."""

    def __init__(self, function: int, address: int, words: int, rows: Iterable[Row]) -> None:
        self.function = function
        self.address = address
        self.words = words
        self.rows = tuple(rows)
        self._permute = self._order()
        codes = [values.code(row) for row in self.rows]
        exponents = sorted({r.scale_register for r in self.rows if r.scale_register is not None})
        self._exponents = {register: 2 * (register - address) for register in exponents}
        self._unpack = struct.Struct(">" + "".join(codes)).unpack
        self._plain = [values.plain(row) for row in self.rows]
        self._absent = [values.sentinels(row) for row in self.rows]
        self._floats = [i for i, row in enumerate(self.rows) if row.type == "f32"]
        self._format = " ".join(["%.7g"] * len(self._floats))
        self._packed = struct.Struct(f">{len(self._floats)}f").pack

    def __repr__(self) -> str:
        last = self.address + self.words - 1
        return f"Block(function={self.function}, registers={self.address}..{last})"

    def _order(self) -> Callable[[bytes], Iterable[int]]:
        """Picks the rows' bytes, each in big-endian order, out of a reply."""
        positions = [
            position
            for row in self.rows
            for position in values.ordered(row, 2 * (row.address - self.address))
        ]
        return itemgetter(*positions)

    def decode(self, data: bytes) -> list[Reading]:
        """One reading a row, from the reply's registers (2 bytes each)."""
        raws = list(self._unpack(bytes(self._permute(data))))
        if self._floats:
            self._shorten(raws)
        readings: list[Reading] = []
        for row, plain, absent, raw in zip(self.rows, self._plain, self._absent, raws, strict=True):
            # Most rows are numbers in their own unit: no call for those, they are the hot path.
            if plain and -math.inf < raw < math.inf and raw not in absent:
                readings.append(_make((row.quantity, raw, row.unit, "", _GOOD)))
            else:
                exponent = self._exponent(row, data)
                readings.append(values.reading(row, raw, absent, exponent))
        return readings

    def _exponent(self, row: Row, data: bytes) -> int | None:
        if row.scale_register is None:
            return None
        offset = self._exponents[row.scale_register]
        return int.from_bytes(data[offset : offset + 2], "big", signed=True)

    def _shorten(self, raws: list[float]) -> None:
        """All float32 at once: seven digits name nearly every one, and one comparison tells."""
        before = [raws[i] for i in self._floats]
        after = [float(text) for text in (self._format % tuple(before)).split()]
        try:
            same = self._packed(*after) == self._packed(*before)
        except OverflowError:
            same = False
        if not same:
            after = [values.shortest(value) for value in before]
        for i, value in zip(self._floats, after, strict=True):
            raws[i] = value
