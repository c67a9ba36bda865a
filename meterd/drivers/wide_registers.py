"""Wide words: meters whose registers have 32 bits, so that n registers come as 4 n bytes.

map            | address 10: f32      | address 11: u16                  |
asked          | 2 registers from 10                                     |
answered       | 8 bytes                                                 |
meterd counts  | halves 20 and 21     | halves 22 and 23, the value in 23 |
"""

from collections.abc import Iterable
from dataclasses import replace

from meterd.drivers.registers import PROTOCOL_LIMIT, RegisterMap, Row, Term

NORMAL, WIDE = "normal", "wide"
_COUNTED = (3, 4)


def widened(found: RegisterMap) -> RegisterMap:
    """The same map, counted in halves of its registers; requests begin and end at whole ones."""
    return replace(
        found,
        rows=tuple(_halves(row) for row in found.rows),
        max_registers=min(2 * found.max_registers, PROTOCOL_LIMIT - 1),
        # Half a register is no hole.
        bridge=min(2 * found.bridge + 1, PROTOCOL_LIMIT),
        align=2 * found.align,
        unreadable=tuple((2 * first, 2 * last + 1) for first, last in found.unreadable),
        wide=True,
    )


def _halves(row: Row) -> Row:
    """What has 16 bits stands in the lower half of its register."""
    scale = None if row.scale_register is None else 2 * row.scale_register + 1
    if row.terms:
        found = replace(row, scale_register=scale)
        return found.made_of(tuple(term.at(_of_term(term)) for term in row.terms))
    if row.function not in _COUNTED:
        return row
    return replace(row, address=2 * row.address + row.words % 2, scale_register=scale)


def _of_term(term: Term) -> Iterable[int]:
    """The halves of a number; of one whose words lie apart, each has a register of its own."""
    registers = term.registers
    if term.form.function not in _COUNTED:
        return registers
    first, words = registers[0], len(registers)
    if registers == tuple(range(first, first + words)):
        start = 2 * first + words % 2
        return range(start, start + words)
    return [2 * register + 1 for register in registers]
