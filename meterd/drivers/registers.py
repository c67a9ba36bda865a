"""Data model of register maps: rows (quantity, registers, number format, unit) and limits."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby

from meterd.model.quantity import Kind

PROTOCOL_LIMIT = 125
# Default of the largest gap, in registers without a row, that one request may span.
BRIDGE = 16
_REGISTER_LAST = 0xFFFF

Place = tuple[int, int]
"""Function and address of one register."""


class Role(StrEnum):
    """Role of a number in a composed value."""

    SUM = "sum"
    SIGN = "sign"
    MULTIPLY = "multiply"
    DIVIDE = "divide"


@dataclass(frozen=True, slots=True)
class Term:
    """One of the numbers of a composed value.

    `form` is the number's format, as of adjacent registers; `registers` are their real addresses,
    in that order. A part of a sum is less than `limit`, in the unit of the sum: above it the next
    larger part counts. `negative` and `positive` are the values of a sign register.
    """

    role: Role
    form: "Row"
    registers: tuple[int, ...]
    limit: float | None = None
    negative: int = 1
    positive: int = 0

    @property
    def places(self) -> Iterator[Place]:
        """Function and address of each register."""
        return ((self.form.function, register) for register in self.registers)

    def at(self, registers: Iterable[int]) -> "Term":
        """A copy at other registers."""
        addresses = tuple(registers)
        return replace(self, form=replace(self.form, address=addresses[0]), registers=addresses)

    def lowest(self) -> tuple[int, int]:
        """First register and count of the run with the lowest word, which changes most often."""
        form, registers = self.form, self.registers
        lowest = 0 if form.word_order == "little" or form.type == "str" else len(registers) - 1
        if form.order:
            lowest = form.order.index(len(registers))
        ordered = sorted(registers)
        first = last = ordered.index(registers[lowest])
        while first > 0 and ordered[first - 1] == ordered[first] - 1:
            first -= 1
        while last + 1 < len(ordered) and ordered[last + 1] == ordered[last] + 1:
            last += 1
        return ordered[first], last - first + 1


@dataclass(frozen=True, slots=True)
class Row:
    """One value. value = raw * scale, or raw * 10**(register at scale_register) * scale_factor,
    and in either case plus `offset`, which is in `unit`.

    `na` and `na_ranges` are sentinels, as raw words in one unsigned number; `absent` are sentinels
    of the type that the map does not name. `bit` counts from 0, the lowest, and is the first of the
    `bits` that are the value. `order` is the word of the number in each register, 1 the highest,
    for orders other than `word_order`'s big and little.
    A composed value has `terms`: raw is then their sum, with sign, multiplied and divided, and
    `address` and `words` are those of its registers that change most often.
    `apart`: the other registers, or the scale's, are remote: they need requests of their own.
    `common`: it is a value of the whole unit, which stays when the map is moved to an instance.
    """

    quantity: str
    function: int
    address: int
    type: str
    words: int
    unit: str
    word_order: str = "big"
    byte_order: str = "big"
    scale: float = 1.0
    scale_register: int | None = None
    scale_factor: float = 1.0
    na: tuple[int, ...] = ()
    na_ranges: tuple[tuple[int, int], ...] = ()
    absent: tuple[int, ...] = ()
    wrap: int | None = None
    enum: Mapping[int, str] | None = None
    tier: str = "fast"
    optional: bool = False
    alone: bool = False
    bit: int | None = None
    bits: int = 1
    offset: float = 0.0
    apart: bool = False
    order: tuple[int, ...] = ()
    terms: tuple[Term, ...] = ()
    note: str = ""
    common: bool = False
    kind: Kind = Kind.GAUGE
    max_rate: float | None = None

    @property
    def near_scale(self) -> int | None:
        """The scale register, if it must be in the request."""
        return None if self.apart else self.scale_register

    @property
    def first(self) -> int:
        """The first register that must be in the request."""
        if self.terms and not self.apart:
            return min(register for _, register in self.places())
        scale = self.address if self.near_scale is None else self.near_scale
        return min(self.address, scale)

    @property
    def last(self) -> int:
        """The last register that must be in the request."""
        if self.terms and not self.apart:
            return max(register for _, register in self.places())
        end = self.address + self.words - 1
        return max(end, end if self.near_scale is None else self.near_scale)

    def with_terms(self, terms: tuple["Term", ...]) -> "Row":
        """A copy with these terms, at the registers of the part that changes most often."""
        parts = [term for term in reversed(terms) if term.role is Role.SUM]
        finest = min(parts, key=lambda term: abs(term.form.scale))
        address, words = finest.lowest()
        return replace(
            self, function=finest.form.function, address=address, words=words, terms=terms
        )

    def places(self) -> set[Place]:
        """Every register that the value depends on."""
        own = {(self.function, self.address + offset) for offset in range(self.words)}
        scale = () if self.scale_register is None else ((self.function, self.scale_register),)
        return own.union(scale, *(term.places for term in self.terms))

    def remote_places(self) -> set[Place]:
        """Those of them that are remote, read in requests of their own."""
        if not self.apart:
            return set()
        own = {(self.function, self.address + offset) for offset in range(self.words)}
        return self.places() - own

    def remote_runs(self) -> Iterator[tuple[int, int, int]]:
        """Function, first and last register of each run of remote registers."""
        ordered = sorted(self.remote_places())
        for _, group in groupby(
            enumerate(ordered), lambda item: (item[1][0], item[1][1] - item[0])
        ):
            run = [place for _, place in group]
            yield *run[0], run[-1][1]

    def settings(self) -> set[Place]:
        """Places that hold a setting of the meter: a scale, a transformer ratio."""
        scale = () if self.scale_register is None else ((self.function, self.scale_register),)
        ratios = (term for term in self.terms if term.role in (Role.MULTIPLY, Role.DIVIDE))
        return set(scale).union(*(term.places for term in ratios))


@dataclass(frozen=True, slots=True)
class Instances:
    """Equal circuits of one unit: their number, and the registers from one to the next."""

    count: int
    step: int


@dataclass(frozen=True, slots=True)
class WakeWrite:
    """A write that unlocks a meter: function 6 or 16, the first register, and its words."""

    function: int
    address: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RegisterMap:
    """The map of one meter model. `unreadable` are [first, last] ranges that no request may touch.

    `max_power` is the documented maximum in W. `turned`: the meter's positive direction is export,
    so its device needs the reversed direction. `wake` is written before the meter is read, where
    the device's options allow it.

    `times` are pauses and a timeout that the device needs, as link options:
    {"connect_delay": "1s"}.
    """

    name: str
    maker: str
    model: str
    source: str
    confidence: str
    rows: tuple[Row, ...]
    unit: int = 1
    serial: Mapping[str, str] | None = None
    tcp: int | None = None
    max_registers: int = PROTOCOL_LIMIT
    bridge: int = BRIDGE
    align: int = 1
    unreadable: tuple[tuple[int, int], ...] = ()
    aliases: tuple[str, ...] = ()
    remark: str = ""
    times: Mapping[str, str] = field(default_factory=dict)
    wide: bool = False
    """Whether a register of the meter has 32 bits. Addresses are then those of its halves."""
    max_power: float | None = None
    turned: bool = False
    instances: Instances | None = None
    wake: tuple[WakeWrite, ...] = ()

    def moved(self, registers: int) -> "RegisterMap":
        """A copy with all addresses shifted by `registers`; rows that are common stay.

        Raises ValueError where a row would be outside of 0 to 65535.
        """
        # A wide map's addresses are halves of registers.
        halves = 2 if self.wide else 1
        registers *= halves
        end = halves * (_REGISTER_LAST + 1)
        rows = tuple(row if row.common else _shifted(row, registers) for row in self.rows)
        outside = next((row for row in rows if not _exists(row, end)), None)
        if outside is not None:
            register = outside.address // halves
            raise ValueError(f"{outside.quantity} would be at register {register}")
        shifted = ((low + registers, high + registers) for low, high in self.unreadable)
        common = self.unreadable if any(row.common for row in rows) else ()
        return replace(self, rows=rows, unreadable=(*common, *shifted))


def _exists(row: Row, end: int) -> bool:
    return all(0 <= register < end for _, register in row.places())


def _shifted(row: Row, registers: int) -> Row:
    scale = row.scale_register
    scale = None if scale is None else scale + registers
    shifted = replace(row, address=row.address + registers, scale_register=scale)
    terms = tuple(
        term.at(register + registers for register in term.registers) for term in row.terms
    )
    return shifted.with_terms(terms) if terms else shifted
