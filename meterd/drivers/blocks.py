"""Blocks: one read request each, and the decoder of its reply to the values of rows.

request   | first register ............................ last register |
rows      | voltage.l1 | voltage.l2 |   gap    | current.l1 | @scale   |
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
RemoteValues = Mapping[Place, int]
"""Values of remote registers, which were read in other requests, by function and address."""

NO_REMOTE_VALUES: RemoteValues = {}
# Integers above this are not exact as floats.
_EXACT_INTEGER_MAX = 2**53
# Functions whose replies are registers, not single bits.
_REGISTER_FUNCTIONS = (3, 4)


class Block:
    """One request, and the rows that its reply contains. Immutable, so that meters share it."""

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
        self._unpack = self._ordered_unpacker() or self._copying_unpacker()
        if function not in _REGISTER_FUNCTIONS:
            self._unpack = self._bit_unpacker(self._unpack)
        self._linear = tuple(values.linear(row) for row in self.rows)
        self._sentinels = tuple(values.sentinels(row) for row in self.rows)
        # If every row is a plain number, `columns` checks all values at once.
        self._all_linear = None not in self._linear
        self._all_sentinels = frozenset[float]().union(*self._sentinels)
        scaled = any(row.type[0] != "f" for row in self.rows) or set(self._linear) != {(1.0, 1.0)}
        self._scales = self._linear if scaled else None
        floats = (i for i, row in enumerate(self.rows) if row.type == "f32" and not row.terms)
        self._floats = tuple(floats)
        self._composed = {i: values.Composed(row) for i, row in enumerate(self.rows) if row.terms}
        self.apart = any(row.apart for row in self.rows)
        self._float_struct = struct.Struct(f">{len(self._floats)}f")

    def __repr__(self) -> str:
        last = self.address + self.words - 1
        return f"Block(function={self.function}, registers={self.address}..{last})"

    def _ordered_unpacker(self) -> Callable[[bytes], tuple[Any, ...]] | None:
        """The unpacker of rows in ascending order with big-endian bytes; None for others."""
        form, end = ">", 0
        for row in self.rows:
            start = 2 * (row.address - self.address)
            after = start + 2 * row.words
            if start < end or values.ordered(row, start) != list(range(start, after)):
                return None
            form += f"{start - end}x{values.code(row)}"
            end = after
        return struct.Struct(form).unpack_from

    def _copying_unpacker(self) -> Callable[[bytes], tuple[Any, ...]]:
        """The unpacker of other rows: copies their bytes in big-endian order, then unpacks."""
        pick = itemgetter(
            *(
                position
                for row in self.rows
                for position in values.ordered(row, 2 * (row.address - self.address))
            )
        )
        unpack = struct.Struct(">" + "".join(values.code(row) for row in self.rows)).unpack
        return lambda data: unpack(bytes(pick(data)))

    def _bit_unpacker(
        self, raws: Callable[[bytes], tuple[Any, ...]]
    ) -> Callable[[bytes], tuple[Any, ...]]:
        """Expands single bits, the lowest first, to registers of 0 or 1 for an unpacker."""
        places = [(n >> 3, n & 7) for n in range(self.words)]
        return lambda data: raws(bytes(x for i, n in places for x in (0, data[i] >> n & 1)))

    def decode(self, data: bytes, remote: RemoteValues = NO_REMOTE_VALUES) -> list[Reading]:
        """A reading per row, from the reply's registers (2 bytes each).

        `remote` are the values of remote registers.
        """
        return list(self.columns(data, remote))

    def columns(self, data: bytes, remote: RemoteValues = NO_REMOTE_VALUES) -> Columns:
        """The readings of `decode` as columns."""
        raws: Sequence[Any] = self._unpack(data)
        if self._floats:
            raws = self._shortened(raws)
        # The sum is finite only if no value is NaN or infinite.
        if self._all_linear and self._all_sentinels.isdisjoint(raws) and math.isfinite(sum(raws)):
            if self._scales is None:
                return Columns(self.shape, raws)
            pairs = zip(raws, self._scales, strict=True)
            return Columns(self.shape, [raw * f / d for raw, (f, d) in pairs])  # type: ignore[misc]
        return self._row_by_row(raws, data, remote)

    def _row_by_row(self, raws: Sequence[Any], data: bytes, remote: RemoteValues) -> Columns:
        """Decodes row by row, where some value is no plain number or not available."""
        decoded: list[Any] = []
        remarks: dict[int, Remark] = {}
        rows = zip(self.rows, self._linear, self._sentinels, raws, strict=True)
        for i, (row, linear, absent, raw) in enumerate(rows):
            if linear is not None and -math.inf < raw < math.inf and raw not in absent:
                decoded.append(raw * linear[0] / linear[1])
                continue
            exponent = self._exponent(row, data, remote)
            if row.terms:
                word = functools.partial(self._word, data, remote)
                reading = self._composed[i].reading(word, exponent)
            else:
                reading = values.reading(row, raw, absent, exponent)
            value: Any = reading.value
            if isinstance(value, int) and -_EXACT_INTEGER_MAX <= value <= _EXACT_INTEGER_MAX:
                value = float(value)
            decoded.append(value)
            if reading.quality is not _GOOD or value.__class__ is not float:
                remarks[i] = Remark(reading.reason, reading.quality)
        return Columns(self.shape, decoded, remarks)

    def _exponent(self, row: Row, data: bytes, remote: RemoteValues) -> int | None:
        if row.scale_register is None:
            return None
        word = self._word(data, remote, (row.function, row.scale_register))
        return word - 0x10000 if word is not None and word > 0x7FFF else word

    def _word(self, data: bytes, remote: RemoteValues, place: Place) -> int | None:
        """A register's value: from this reply if it has it, as of the same time; else remote."""
        function, register = place
        offset = register - self.address
        if function != self.function or not 0 <= offset < self.words:
            return remote.get(place)
        if function not in _REGISTER_FUNCTIONS:
            return data[offset >> 3] >> (offset & 7) & 1
        return int.from_bytes(data[2 * offset : 2 * offset + 2], "big")

    def _shortened(self, raws: Sequence[Any]) -> Sequence[Any]:
        """Shortest decimals of all float32 at once: three decimals suffice for most of them."""
        floats = [raws[i] for i in self._floats] if len(self._floats) < len(raws) else raws
        shortest, packed = values.shortest, self._float_struct
        # As in `shortest`; up to 10,000 three decimals are seven digits, or fewer.
        decimals = [
            (raw * 1e3 + _WHOLE - _WHOLE) / 1e3 if -1e4 < raw < 1e4 else shortest(raw)
            for raw in floats
        ]
        rounded = packed.unpack(packed.pack(*decimals))
        if rounded != tuple(floats):
            pairs = zip(floats, rounded, decimals, strict=True)
            decimals = [
                new if round_trip == raw else shortest(raw) for raw, round_trip, new in pairs
            ]
        if floats is raws:
            return decimals
        all_raws = list(raws)
        for i, value in zip(self._floats, decimals, strict=True):
            all_raws[i] = value
        return all_raws
