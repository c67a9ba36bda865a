"""Blocks: which registers to read in one request, and what they say.

request   | first register ............................ last register |
rows      | voltage.l1 | voltage.l2 |   hole   | current.l1 | @scale   |
"""

import functools
import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from meterd.drivers import values
from meterd.drivers.registers import Place, Row
from meterd.model.columns import Columns, Remark, shape_of
from meterd.model.sample import Quality, Reading

_GOOD = Quality.GOOD
_WHOLE = values.WHOLE
Far = Mapping[Place, int]
"""What registers hold that were read in other requests, by function and address."""

NOTHING_FAR: Far = {}
# Beyond, whole numbers lose digits as floats.
_EXACT = 2**53
# Functions whose replies are registers, not single bits.
_REGISTERS = (3, 4)


class Block:
    """One request, and the rows that its reply answers. Never changed, so that meters share it."""

    def __init__(self, function: int, address: int, words: int, rows: Iterable[Row]) -> None:
        self.function = function
        self.address = address
        self.words = words
        self.rows = tuple(rows)
        texts = [row.type == "str" or row.quantity.startswith("info.") for row in self.rows]
        self.shape = shape_of(
            tuple(row.quantity for row in self.rows),
            tuple("" if text else row.unit for row, text in zip(self.rows, texts, strict=True)),
        )
        self._raws = self._in_place() or self._picked()
        if function not in _REGISTERS:
            self._raws = self._of_bits(self._raws)
        self._linear = tuple(values.linear(row) for row in self.rows)
        self._absent = tuple(values.sentinels(row) for row in self.rows)
        # Where every row is a plain number, a few looks at all of them at once tell.
        self._easy = None not in self._linear
        self._any_absent = frozenset[float]().union(*self._absent)
        scaled = any(row.type[0] != "f" for row in self.rows) or set(self._linear) != {(1.0, 1.0)}
        self._scales = self._linear if scaled else None
        floats = (i for i, row in enumerate(self.rows) if row.type == "f32" and not row.terms)
        self._floats = tuple(floats)
        self._composed = {i: values.Composed(row) for i, row in enumerate(self.rows) if row.terms}
        self.apart = any(row.apart for row in self.rows)
        self._packed = struct.Struct(f">{len(self._floats)}f")

    def __repr__(self) -> str:
        last = self.address + self.words - 1
        return f"Block(function={self.function}, registers={self.address}..{last})"

    def _in_place(self) -> Callable[[bytes], tuple[Any, ...]] | None:
        """Unpacks rows that lie one after the other with their bytes in order; else None."""
        form, end = ">", 0
        for row in self.rows:
            start = 2 * (row.address - self.address)
            after = start + 2 * row.words
            if start < end or values.ordered(row, start) != list(range(start, after)):
                return None
            form += f"{start - end}x{values.code(row)}"
            end = after
        return struct.Struct(form).unpack_from

    def _picked(self) -> Callable[[bytes], tuple[Any, ...]]:
        """Picks the rows' bytes, each in big-endian order, out of a reply, then unpacks them."""
        pick = itemgetter(
            *(
                position
                for row in self.rows
                for position in values.ordered(row, 2 * (row.address - self.address))
            )
        )
        unpack = struct.Struct(">" + "".join(values.code(row) for row in self.rows)).unpack
        return lambda data: unpack(bytes(pick(data)))

    def _of_bits(
        self, raws: Callable[[bytes], tuple[Any, ...]]
    ) -> Callable[[bytes], tuple[Any, ...]]:
        """Single bits, the first one lowest, taken as registers that hold 0 or 1."""
        places = [(n >> 3, n & 7) for n in range(self.words)]
        return lambda data: raws(bytes(x for i, n in places for x in (0, data[i] >> n & 1)))

    def decode(self, data: bytes, far: Far = NOTHING_FAR) -> list[Reading]:
        """One reading a row, from the reply's registers (2 bytes each).

        `far` are the registers that rows have apart.
        """
        return list(self.columns(data, far))

    def columns(self, data: bytes, far: Far = NOTHING_FAR) -> Columns:
        """The same as columns."""
        raws: Sequence[Any] = self._raws(data)
        if self._floats:
            raws = self._shortened(raws)
        # A sum with a NaN or an infinity in it is none that is finite.
        if self._easy and self._any_absent.isdisjoint(raws) and math.isfinite(sum(raws)):
            if self._scales is None:
                return Columns(self.shape, raws)
            pairs = zip(raws, self._scales, strict=True)
            return Columns(self.shape, [raw * f / d for raw, (f, d) in pairs])  # type: ignore[misc]
        return self._looked_at(raws, data, far)

    def _looked_at(self, raws: Sequence[Any], data: bytes, far: Far) -> Columns:
        """Row by row, where one of them is not simply a number that is there."""
        found: list[Any] = []
        remarks: dict[int, Remark] = {}
        rows = zip(self.rows, self._linear, self._absent, raws, strict=True)
        for i, (row, linear, absent, raw) in enumerate(rows):
            if linear is not None and -math.inf < raw < math.inf and raw not in absent:
                found.append(raw * linear[0] / linear[1])
                continue
            exponent = self._exponent(row, data, far)
            if row.terms:
                word = functools.partial(self._word, data, far)
                reading = self._composed[i].reading(word, exponent)
            else:
                reading = values.reading(row, raw, absent, exponent)
            value: Any = reading.value
            if isinstance(value, int) and -_EXACT <= value <= _EXACT:
                value = float(value)
            found.append(value)
            if reading.quality is not _GOOD or value.__class__ is not float:
                remarks[i] = Remark(reading.reason, reading.quality)
        return Columns(self.shape, found, remarks)

    def _exponent(self, row: Row, data: bytes, far: Far) -> int | None:
        if row.scale_register is None:
            return None
        word = self._word(data, far, (row.function, row.scale_register))
        return word - 0x10000 if word is not None and word > 0x7FFF else word

    def _word(self, data: bytes, far: Far, place: Place) -> int | None:
        """A register: of this reply if it is in it, as it belongs to the same moment."""
        function, register = place
        at = register - self.address
        if function != self.function or not 0 <= at < self.words:
            return far.get(place)
        if function not in _REGISTERS:
            return data[at >> 3] >> (at & 7) & 1
        return int.from_bytes(data[2 * at : 2 * at + 2], "big")

    def _shortened(self, raws: Sequence[Any]) -> Sequence[Any]:
        """All float32 at once: three decimals name most, and one comparison tells."""
        before = [raws[i] for i in self._floats] if len(self._floats) < len(raws) else raws
        shortest, packed = values.shortest, self._packed
        # As in `shortest`; up to 10,000 three decimals are seven digits, or fewer.
        after = [
            (raw * 1e3 + _WHOLE - _WHOLE) / 1e3 if -1e4 < raw < 1e4 else shortest(raw)
            for raw in before
        ]
        named = packed.unpack(packed.pack(*after))
        if named != tuple(before):
            pairs = zip(before, named, after, strict=True)
            after = [new if name == raw else shortest(raw) for raw, name, new in pairs]
        if before is raws:
            return after
        whole = list(raws)
        for i, value in zip(self._floats, after, strict=True):
            whole[i] = value
        return whole
