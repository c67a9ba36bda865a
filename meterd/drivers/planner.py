"""Planner of read requests: finds the requests that fetch the rows of a map in the least time.

Rows sorted by their first register are cut into batches, each batch is one request, and dynamic
programming finds the cuts. Proof that no plan with interleaved requests is better: take two
requests S and T of an optimal plan. If T's span is within S's, one request S fetches both rows,
with fewer gaps. If they overlap and S begins first, move every row of S that begins at or after T's
first register to T. T's span stays, S's can only shrink, and T's gaps can only close. The rows that
S loses began after T's first register, and so did every gap that they closed, except where a row
that S keeps spans it. So the rows may as well be cut where T begins.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence

from meterd.drivers.address_constraints import AddressConstraints, Range
from meterd.drivers.blocks import Block
from meterd.drivers.costs import ASSUMED, Costs, seconds, units
from meterd.drivers.registers import RegisterMap, Row

# A plan is replaced only by one that saves more than this part of its time.
GAIN_MIN = 0.05
# Registers by which a request may be lengthened to make its length unique.
LENGTHENING_MAX = 4


def plan(
    register_map: RegisterMap,
    rows: Iterable[Row],
    costs: Costs = ASSUMED,
    constraints: AddressConstraints | None = None,
) -> list[Block]:
    """The requests that fetch these rows in the least time, in order of their registers.

    A request may span a gap between rows if no run of registers in it without a row is longer than
    the map's `bridge`. A row that fits no request (see `unplannable`) gets one of its own, so that
    the meter refuses only that row.
    """
    limits = constraints or AddressConstraints(register_map)
    ordered = sorted(rows, key=lambda row: (row.function, row.first, row.last))
    blocks: list[Block] = []
    for _, group in itertools.groupby(ordered, key=lambda row: row.function):
        shared: list[Row] = []
        for row in group:
            if row.alone or not limits.fits(row.function, row.first, row.last):
                blocks.append(block(limits, [row]))
            else:
                shared.append(row)
        blocks += [block(limits, batch) for batch in _batches(limits, costs, shared)]
    return sorted(blocks, key=lambda request: (request.function, request.address))


def block(constraints: AddressConstraints, rows: Sequence[Row]) -> Block:
    """One request for these rows, which share a function."""
    first, last = constraints.widened(min(row.first for row in rows), max(row.last for row in rows))
    return Block(rows[0].function, first, last - first + 1, rows)


def unplannable(register_map: RegisterMap) -> list[tuple[Row, str]]:
    """Rows that no request within the map's limits can fetch, each with the reason."""
    constraints = AddressConstraints(register_map)
    unfit_rows = []
    for row in register_map.rows:
        spans = [(row.function, row.first, row.last), *row.remote_runs()]
        unfit = (span for span in spans if not constraints.fits(*span))
        if (span := next(unfit, None)) is None:
            continue
        first, last = constraints.widened(*span[1:])
        words = last - first + 1
        if words > register_map.max_registers:
            reason = (
                f"needs {words} registers at once, max_registers is {register_map.max_registers}"
            )
        elif row.terms:
            reason = f"has a register in an unreadable range: {first} to {last}"
        else:
            reason = f"lies, with its scale, in an unreadable range: {first} to {last}"
        unfit_rows.append((row, reason))
    return unfit_rows


def better(new: Sequence[Block], old: Sequence[Block], costs: Costs) -> bool:
    """Whether this plan for the same rows saves more than GAIN_MIN."""
    return seconds(new, costs) < (1 - GAIN_MIN) * seconds(old, costs)


def _batches(
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
        cheapest = None
        for j, words in enumerate(_request_lengths(constraints, function, spans, i), i + 1):
            _, requests, registers = best[j]
            requests, registers = requests + 1, registers + units(function, words)
            total = (requests * costs.fixed + registers * costs.register, requests, registers)
            if cheapest is None or total < cheapest:
                cheapest, end[i] = total, j
        assert cheapest is not None, "a row that fits no request was set apart"  # noqa: S101
        best[i] = cheapest
    i = 0
    while i < count:
        yield rows[i : end[i]]
        i = end[i]


def _request_lengths(
    constraints: AddressConstraints, function: int, spans: Sequence[Range], start: int
) -> Iterator[int]:
    """Lengths of requests for spans[start] alone, then with each further span that is allowed."""
    align, bridge = constraints.map.align, constraints.map.bridge
    begin, last = spans[start][0] // align * align, spans[start][0] - 1
    limit = constraints.limit(function, begin)
    for low, high in itertools.islice(spans, start, None):
        if low - last - 1 > bridge and constraints.gap(function, last + 1, low - 1) > bridge:
            return
        if high > last:
            last = high
            end = -(-(last + 1) // align) * align
            if end - 1 > limit:
                return
        yield end - begin


# -- different lengths ---------------------------------------------------------------------------


def distinct(constraints: AddressConstraints, blocks: Sequence[Block]) -> list[Block]:
    """The requests, lengthened so that as many as possible have a unique length.

    The length then reveals a gateway's stale reply under a new transaction id. A request is
    lengthened by whole adjacent rows of the map only, by LENGTHENING_MAX at most.
    """
    offers = [list(choices(constraints, request)) for request in blocks]
    holder: dict[tuple[int, int], int] = {}
    chosen: dict[int, Block] = {}
    for i in range(len(blocks)):
        claim(i, offers, holder, chosen, set())
    return [chosen.get(i, request) for i, request in enumerate(blocks)]


def claim(
    i: int,
    offers: Sequence[Sequence[Block]],
    holder: dict[tuple[int, int], int],
    chosen: dict[int, Block],
    tried: set[tuple[int, int]],
) -> bool:
    """Assign request i a length, by an augmenting path of a matching; False if none is free."""
    for choice in offers[i]:
        length = (choice.function, choice.words)
        if length in tried:
            continue
        tried.add(length)
        if length not in holder or claim(holder[length], offers, holder, chosen, tried):
            holder[length], chosen[i] = i, choice
            return True
    return False


def choices(constraints: AddressConstraints, request: Block) -> Iterator[Block]:
    """The request, then longer ones, by rows after it and by rows before it."""
    yield request
    if any(row.alone for row in request.rows):
        return
    last = request.address + request.words - 1
    longer = {}
    for row in constraints.rows(request.function):
        first, end = constraints.widened(min(row.first, request.address), max(row.last, last))
        words = end - first + 1
        gap = max(
            constraints.gap(request.function, last + 1, row.first - 1),
            constraints.gap(request.function, row.last + 1, request.address - 1),
        )
        fits = gap <= constraints.map.bridge and constraints.fits(request.function, first, end)
        if fits and request.words < words <= request.words + LENGTHENING_MAX:
            longer[words] = Block(request.function, first, words, request.rows)
    yield from (longer[words] for words in sorted(longer))
