"""Wide registers: maps of meters whose registers have 32 bits, so that n are 4 n bytes of a reply.

map            | address 10: f32      | address 11: u16                   |
request        | 2 registers from 10                                      |
reply          | 8 bytes                                                  |
in meterd      | halves 20 and 21     | halves 22 and 23, the value in 23 |
"""

from collections.abc import Iterable
from dataclasses import replace

from meterd.drivers.registers import PROTOCOL_LIMIT, RegisterMap, Row, Term

NORMAL, WIDE = "normal", "wide"
_REGISTER_FUNCTIONS = (3, 4)


def widened(register_map: RegisterMap) -> RegisterMap:
    """A copy of the map with addresses of half registers; requests consist of whole registers."""
    return replace(
        register_map,
        rows=tuple(_halves(row) for row in register_map.rows),
        max_registers=min(2 * register_map.max_registers, PROTOCOL_LIMIT - 1),
        # The unused half of a 16 bit value's register is no gap.
        bridge=min(2 * register_map.bridge + 1, PROTOCOL_LIMIT),
        align=2 * register_map.align,
        unreadable=tuple((2 * first, 2 * last + 1) for first, last in register_map.unreadable),
        wide=True,
    )


def _halves(row: Row) -> Row:
    """The row in halves; a value of 16 bits is in the lower half of its register."""
    scale = None if row.scale_register is None else 2 * row.scale_register + 1
    if row.terms:
        composed = replace(row, scale_register=scale)
        return composed.with_terms(tuple(term.at(_of_term(term)) for term in row.terms))
    if row.function not in _REGISTER_FUNCTIONS:
        return row
    return replace(row, address=2 * row.address + row.words % 2, scale_register=scale)


def _of_term(term: Term) -> Iterable[int]:
    """The halves of a number; if its words are scattered, each is the lower half of a register."""
    registers = term.registers
    if term.form.function not in _REGISTER_FUNCTIONS:
        return registers
    first, words = registers[0], len(registers)
    if registers == tuple(range(first, first + words)):
        start = 2 * first + words % 2
        return range(start, start + words)
    return [2 * register + 1 for register in registers]
