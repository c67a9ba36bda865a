"""The planner: which requests fetch the rows of a map in the least time.

Rows sorted by their first register are cut into batches, each batch is one request, and a
dynamic programme finds the cuts. Why no plan that interleaves can be better: take two
requests S and T of a best plan. Where T's span lies within S's, one request S fetches both,
and fewer holes are left in it. Where they overlap, S beginning first, let T take over every row
of S that begins where T does or later. T's span stays, S's can only shrink, and T's holes can only
close. What S loses began behind T's first register, and so did every hole that it closed, except
where a row that S keeps reaches over it. So the rows may as well be cut where T begins.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence

from meterd.drivers.address_constraints import AddressConstraints, Range
from meterd.drivers.blocks import Block
from meterd.drivers.costs import ASSUMED, Costs, seconds, units
from meterd.drivers.registers import RegisterMap, Row

# A plan is exchanged for a better one only if that saves more than this share of the time.
GAIN = 0.05
# Registers that a request may be lengthened by to give it a length of its own.
LENGTHENING = 4


def plan(
    register_map: RegisterMap,
    rows: Iterable[Row],
    costs: Costs = ASSUMED,
    constraints: AddressConstraints | None = None,
) -> list[Block]:
    """The requests that fetch these rows in the least time, in order of their registers.

    A hole between rows may be crossed if no run of registers in it that the map does not know
    is longer than the map's `bridge`. A row that fits no request (see `unplannable`) gets one
    of its own, so that the meter says no to that row and to no other.
    """
    where = constraints or AddressConstraints(register_map)
    ordered = sorted(rows, key=lambda row: (row.function, row.first, row.last))
    blocks: list[Block] = []
    for _, group in itertools.groupby(ordered, key=lambda row: row.function):
        shared: list[Row] = []
        for row in group:
            if row.alone or not where.fits(row.function, row.first, row.last):
                blocks.append(block(where, [row]))
            else:
                shared.append(row)
        blocks += [block(where, batch) for batch in _cut(where, costs, shared)]
    return sorted(blocks, key=lambda one: (one.function, one.address))


def block(constraints: AddressConstraints, rows: Sequence[Row]) -> Block:
    """One request for these rows, which share a function."""
    first, last = constraints.widened(min(row.first for row in rows), max(row.last for row in rows))
    return Block(rows[0].function, first, last - first + 1, rows)


def unplannable(register_map: RegisterMap) -> list[tuple[Row, str]]:
    """Rows that no request within the map's limits can fetch, each with the reason."""
    constraints = AddressConstraints(register_map)
    found = []
    for row in register_map.rows:
        spans = [(row.function, row.first, row.last), *row.far_runs()]
        unfit = (span for span in spans if not constraints.fits(*span))
        if (span := next(unfit, None)) is None:
            continue
        first, last = constraints.widened(*span[1:])
        words = last - first + 1
        if words > register_map.max_registers:
            why = f"needs {words} registers at once, max_registers is {register_map.max_registers}"
        elif row.terms:
            why = f"has a register in an unreadable range: {first} to {last}"
        else:
            why = f"lies, with its scale, in an unreadable range: {first} to {last}"
        found.append((row, why))
    return found


def better(new: Sequence[Block], old: Sequence[Block], costs: Costs) -> bool:
    """Whether this plan for the same rows saves more than GAIN."""
    return seconds(new, costs) < (1 - GAIN) * seconds(old, costs)


def _cut(
    constraints: AddressConstraints, costs: Costs, rows: Sequence[Row]
) -> Iterator[Sequence[Row]]:
    """Rows of one function, sorted, in the batches that cost least.

    Totals are kept as whole numbers of requests and registers, so that plans which cost the
    same compare as the same: then the one with fewer requests, then fewer registers.
    """
    spans = [(row.first, row.last) for row in rows]
    function = rows[0].function if rows else 0
    count = len(rows)
    best = [(0.0, 0, 0)] * (count + 1)
    end = [count] * (count + 1)
    for i in range(count - 1, -1, -1):
        found = None
        for j, words in enumerate(_reach(constraints, function, spans, i), i + 1):
            _, requests, registers = best[j]
            requests, registers = requests + 1, registers + units(function, words)
            total = (requests * costs.fixed + registers * costs.register, requests, registers)
            if found is None or total < found:
                found, end[i] = total, j
        assert found is not None, "a row that fits no request was set apart"  # noqa: S101
        best[i] = found
    i = 0
    while i < count:
        yield rows[i : end[i]]
        i = end[i]


def _reach(
    constraints: AddressConstraints, function: int, spans: Sequence[Range], start: int
) -> Iterator[int]:
    """The registers of a request for spans[start], then with the next too, while it may be."""
    align, bridge = constraints.map.align, constraints.map.bridge
    begin, last = spans[start][0] // align * align, spans[start][0] - 1
    limit = constraints.limit(function, begin)
    for low, high in itertools.islice(spans, start, None):
        if low - last - 1 > bridge and constraints.hole(function, last + 1, low - 1) > bridge:
            return
        if high > last:
            last = high
            end = -(-(last + 1) // align) * align
            if end - 1 > limit:
                return
        yield end - begin


# -- different lengths ---------------------------------------------------------------------------


def distinct(constraints: AddressConstraints, blocks: Sequence[Block]) -> list[Block]:
    """The same requests, lengthened where the map allows until no two are equally long.

    A gateway that answers old serial data under a new id is then found out by its length. A
    request is lengthened by whole known rows beside it only, and by LENGTHENING at most; as
    many as can get a length of their own, the others stay as they are.
    """
    offers = [list(choices(constraints, one)) for one in blocks]
    holder: dict[tuple[int, int], int] = {}
    chosen: dict[int, Block] = {}
    for i in range(len(blocks)):
        claim(i, offers, holder, chosen, set())
    return [chosen.get(i, one) for i, one in enumerate(blocks)]


def claim(
    i: int,
    offers: Sequence[Sequence[Block]],
    holder: dict[tuple[int, int], int],
    chosen: dict[int, Block],
    tried: set[tuple[int, int]],
) -> bool:
    """Give request i a length; a request that holds it may have to take another one."""
    for choice in offers[i]:
        length = (choice.function, choice.words)
        if length in tried:
            continue
        tried.add(length)
        if length not in holder or claim(holder[length], offers, holder, chosen, tried):
            holder[length], chosen[i] = i, choice
            return True
    return False


def choices(constraints: AddressConstraints, one: Block) -> Iterator[Block]:
    """The request, then longer ones: by rows behind it, and by rows before it."""
    yield one
    if any(row.alone for row in one.rows):
        return
    last = one.address + one.words - 1
    found = {}
    for row in constraints.rows(one.function):
        first, end = constraints.widened(min(row.first, one.address), max(row.last, last))
        words = end - first + 1
        hole = max(
            constraints.hole(one.function, last + 1, row.first - 1),
            constraints.hole(one.function, row.last + 1, one.address - 1),
        )
        fits = hole <= constraints.map.bridge and constraints.fits(one.function, first, end)
        if fits and one.words < words <= one.words + LENGTHENING:
            found[words] = Block(one.function, first, words, one.rows)
    yield from (found[words] for words in sorted(found))
