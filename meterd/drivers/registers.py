"""Register maps: which quantity is where in which form."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby

from meterd.model.quantity import Kind

PROTOCOL_LIMIT = 125
# The largest hole that one read may span unless the map says otherwise.
BRIDGE = 16
_LAST = 0xFFFF

Place = tuple[int, int]
"""Function and address of one register."""


class Role(StrEnum):
    """What a number does in a value that is made of several."""

    SUM = "sum"
    SIGN = "sign"
    MULTIPLY = "multiply"
    DIVIDE = "divide"


@dataclass(frozen=True, slots=True)
class Term:
    """One of the numbers that a composed value is made of.

    `form` says what the registers mean when they lie one after the other, and `registers` where
    each of them is, in that order. A part of a sum stays below `limit`, in the unit of the sum:
    from there on the next greater part counts. `negative` and `positive` are what a sign holds.
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
        """The same in other registers."""
        there = tuple(registers)
        return replace(self, form=replace(self.form, address=there[0]), registers=there)

    def lowest(self) -> tuple[int, int]:
        """First register and count of those beside the lowest word, which changes most often."""
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

    `na` and `na_ranges` are raw words as one unsigned number, `absent` are those that mean "not
    available" though the map does not name them; `bit` counts from the lowest, 0, and is the first
    of `bits` that are the value. `order` names the word of the number that each register holds, 1
    the highest, where `word_order` has no word for it.
    A composed value has `terms`: raw is then their sum, with sign, multiplied and divided, and
    `address` and `words` are those of its registers that change most often.
    `apart`: the other registers, or the scale's, lie too far to be read in the same request.
    `common`: it is one value of the whole unit, which does not move with an instance of the map.
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

    def made_of(self, terms: tuple["Term", ...]) -> "Row":
        """The same with these terms, at the registers of the part that changes most often."""
        parts = [term for term in reversed(terms) if term.role is Role.SUM]
        least = min(parts, key=lambda term: abs(term.form.scale))
        address, words = least.lowest()
        return replace(
            self, function=least.form.function, address=address, words=words, terms=terms
        )

    def places(self) -> set[Place]:
        """Every register that the value depends on."""
        own = {(self.function, self.address + offset) for offset in range(self.words)}
        scale = () if self.scale_register is None else ((self.function, self.scale_register),)
        return own.union(scale, *(term.places for term in self.terms))

    def far_places(self) -> set[Place]:
        """Those of them that are read in requests of their own."""
        if not self.apart:
            return set()
        own = {(self.function, self.address + offset) for offset in range(self.words)}
        return self.places() - own

    def far_runs(self) -> Iterator[tuple[int, int, int]]:
        """Function, first and last register of those that follow each other among them."""
        ordered = sorted(self.far_places())
        for _, group in groupby(enumerate(ordered), lambda one: (one[1][0], one[1][1] - one[0])):
            run = [place for _, place in group]
            yield *run[0], run[-1][1]

    def settings(self) -> set[Place]:
        """Those that hold a setting of the meter: a scale, a ratio of transformers."""
        scale = () if self.scale_register is None else ((self.function, self.scale_register),)
        ratios = (term for term in self.terms if term.role in (Role.MULTIPLY, Role.DIVIDE))
        return set(scale).union(*(term.places for term in ratios))


@dataclass(frozen=True, slots=True)
class Instances:
    """Equal circuits of one unit: how many, and how many registers from one to the next."""

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
    """One meter model. `unreadable` are [first, last] ranges that no request may touch.

    `max_power` is the most that its documents say it measures, in W. `turned`: it counts as
    positive what the house gives, so its device needs the reversed direction. `wake` is sent
    before the meter is read, where the device allows it.

    `times` are pauses and a timeout that the device needs, by the names that links have for
    them, as durations: {"connect_delay": "1s"}.
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
        """The same so many registers further on; rows that are common stay.

        Raises ValueError where a row would lie outside of 0 to 65535.
        """
        rows = tuple(row if row.common else _moved(row, registers) for row in self.rows)
        outside = next((row for row in rows if not _exists(row)), None)
        if outside is not None:
            raise ValueError(f"{outside.quantity} would be at register {outside.address}")
        there = ((low + registers, high + registers) for low, high in self.unreadable)
        kept = self.unreadable if any(row.common for row in rows) else ()
        return replace(self, rows=rows, unreadable=(*kept, *there))


def _exists(row: Row) -> bool:
    return all(0 <= register <= _LAST for _, register in row.places())


def _moved(row: Row, registers: int) -> Row:
    scale = row.scale_register
    scale = None if scale is None else scale + registers
    found = replace(row, address=row.address + registers, scale_register=scale)
    terms = tuple(
        term.at(register + registers for register in term.registers) for term in row.terms
    )
    return found.made_of(terms) if terms else found
