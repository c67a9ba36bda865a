"""Bus time of one poll of an SDM630: our plan, a request for each value, and the optimum.

Arithmetic, no clock: `(20 + 2n) · tc + tau` a request, 8N1. The optimum is found another way
than the plan: by trying every request that the meter takes, wherever it starts, however long.
"""

import time
from collections.abc import Iterator, Sequence
from functools import cache

from bench.report import Figure
from meterd.drivers.costs import Costs, seconds
from meterd.drivers.map_library import load_map
from meterd.drivers.planner import plan
from meterd.drivers.registers import RegisterMap, Row

BAUDS = (2400, 9600, 19200, 38400)
TAUS = (0.005, 0.01, 0.05, 0.2)
# mbmd's requests for this meter, and what they take at 9600 baud if it thinks for 10 ms.
PEER_REQUESTS = 52
_ROUNDS = 20
_REGISTERS = 2


def _requests(meter: RegisterMap, rows: Sequence[Row]) -> Iterator[tuple[int, int]]:
    """(first row left over, registers) of every request that fetches rows[0] and may be sent."""
    align, known = meter.align, {r for row in rows for r in range(row.first, row.last + 1)}
    earliest = max(0, rows[0].first - meter.bridge)
    for start in range(earliest - earliest % align, rows[0].first + 1, align):
        for words in range(align, meter.max_registers + 1, align):
            inside = range(start, start + words)
            whole = [row.first in inside and row.last in inside for row in rows]
            if whole[0] and _longest_hole(inside, known) <= meter.bridge:
                yield (whole.index(False) if False in whole else len(rows)), words


def _longest_hole(registers: range, known: set[int]) -> int:
    longest = hole = 0
    for register in registers:
        hole = 0 if register in known else hole + 1
        longest = max(longest, hole)
    return longest


def _optimum(meter: RegisterMap, rows: Sequence[Row], costs: Sequence[Costs]) -> list[float]:
    """For each of `costs` the least seconds that fetch all rows, which do not overlap."""
    ordered = sorted(rows, key=lambda row: row.first)
    steps = [
        {(i + left, words) for left, words in _requests(meter, ordered[i:])}
        for i in range(len(ordered))
    ]

    def least(cost: Costs) -> float:
        @cache
        def rest(i: int) -> float:
            if i == len(ordered):
                return 0.0
            return min(cost.seconds(4, words) + rest(left) for left, words in steps[i])

        return rest(0)

    return [least(cost) for cost in costs]


def _planning(meter: RegisterMap) -> float:
    """Seconds of CPU to plan all rows of a map."""
    before = time.process_time()
    for _ in range(_ROUNDS):
        plan(meter, meter.rows)
    return (time.process_time() - before) / _ROUNDS


def measure() -> list[Figure]:
    meter = load_map("eastron_sdm630")
    rows = [row for row in meter.rows if row.tier == "fast"]
    links = [(baud, tau) for baud in BAUDS for tau in TAUS]
    costs = [Costs.serial(baud, tau=tau) for baud, tau in links]
    figures = []
    for (baud, tau), cost, least in zip(links, costs, _optimum(meter, rows, costs), strict=True):
        blocks = plan(meter, rows, cost)
        single = len(rows) * cost.seconds(4, _REGISTERS)
        what = (
            f"SDM630, {len(rows)} values, {baud} baud, tau {tau * 1000:g} ms: "
            f"{len(blocks)} requests (one a value: {single:.3g} s)"
        )
        figures.append(Figure(what, round(seconds(blocks, cost), 4), "s", goal=round(least, 4)))
    peer = PEER_REQUESTS * Costs.serial(9600, tau=0.01).seconds(4, _REGISTERS)
    figures.append(Figure(f"mbmd, {PEER_REQUESTS} requests, 9600 baud, tau 10 ms", peer, "s"))
    figures.append(Figure("planning all rows of the SDM630", _planning(meter) * 1e3, "ms CPU", 5))
    return figures
