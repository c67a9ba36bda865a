"""The planner against brute force over every way to share out rows, and at meters of this world."""

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterd.drivers.address_constraints import AddressConstraints
from meterd.drivers.blocks import Block
from meterd.drivers.costs import Costs, seconds
from meterd.drivers.map_library import load_map, shipped
from meterd.drivers.planner import LENGTHENING_MAX, better, distinct, plan, unplannable
from meterd.drivers.registers import RegisterMap, Row

TCP = Costs.tcp(0.01)
BUS = Costs.serial(9600, tau=0.01)
# Few enough that every set partition of them can be tried.
MOST_ROWS = 7


def row(address: int, words: int = 1, **more: object) -> Row:
    tail = "".join(f".{key}{value}" for key, value in more.items())
    fields = {"function": 3, "type": "bits", "unit": "1", **more}
    return Row(f"x.r{address}.{words}{tail}", address=address, words=words, **fields)  # type: ignore[arg-type]


def meter(*rows: Row, **limits: object) -> RegisterMap:
    fields = {"max_registers": 20, "bridge": 4, **limits}
    return RegisterMap("made_up", "Nobody", "None", "this test", "low", rows, **fields)  # type: ignore[arg-type]


def spans(blocks: Sequence[Block]) -> list[tuple[int, int]]:
    return [(block.address, block.words) for block in blocks]


# -- the judge: sets of registers, one subset of the rows after the other ------------------------


def registers_of(one: Row) -> set[int]:
    scale = set() if one.scale_register is None else {one.scale_register}
    return set(range(one.address, one.address + one.words)) | scale


class Judge:
    """What a request for a set of rows costs, by the letter of the limits; None: not allowed."""

    def __init__(self, ground: AddressConstraints, costs: Costs) -> None:
        self.map, self.costs = ground.map, costs
        self.refused = [one for one in self.map.rows if one in ground.refused]
        self.good = [o for o in self.map.rows if not o.alone and o not in ground.refused]

    def request(self, rows: Sequence[Row]) -> range:
        align = self.map.align
        first = min(one.first for one in rows)
        last = max(one.last for one in rows)
        while first % align:
            first -= 1
        while (last + 1) % align:
            last += 1
        return range(first, last + 1)

    def shut(self, function: int) -> set[int]:
        needed = {r for o in self.good if o.function == function for r in registers_of(o)}
        refused = {r for o in self.refused if o.function == function for r in registers_of(o)}
        barred = {r for low, high in self.map.unreadable for r in range(low, high + 1)}
        return barred | (refused - needed)

    def allowed(self, rows: Sequence[Row]) -> bool:
        if len({one.function for one in rows}) > 1:
            return False
        if len(rows) == 1:
            return True
        function, request = rows[0].function, self.request(rows)
        if any(one.alone for one in rows) or len(request) > self.map.max_registers:
            return False
        if self.shut(function) & set(request):
            return False
        friends = [*rows, *(one for one in self.good if one.function == function)]
        known = {r for one in friends for r in range(one.first, one.last + 1)}
        hole = 0
        for register in range(min(o.first for o in rows), max(o.last for o in rows) + 1):
            hole = 0 if register in known else hole + 1
            if hole > self.map.bridge:
                return False
        return True

    def cost(self, rows: Sequence[Row]) -> float | None:
        if not self.allowed(rows):
            return None
        function, words = rows[0].function, len(self.request(rows))
        payload = words if function > 2 else -(-words // 16)
        return self.costs.fixed + self.costs.register * payload

    def least(self, rows: Sequence[Row]) -> float:
        """The least total over all set partitions: the part with the first row, then the rest."""
        whole = (1 << len(rows)) - 1
        price = [self.cost([o for i, o in enumerate(rows) if m >> i & 1]) if m else 0.0
                 for m in range(whole + 1)]  # fmt: skip
        best = [0.0] + [float("inf")] * whole
        for mask in range(1, whole + 1):
            lowest, part = mask & -mask, mask
            while part:
                own = price[part] if part & lowest else None
                if own is not None:
                    best[mask] = min(best[mask], own + best[mask ^ part])
                part = (part - 1) & mask
        return best[whole]


@st.composite
def _rows(draw: st.DrawFn, count: int) -> list[Row]:
    found = []
    for number in range(count):
        address = draw(st.integers(0, 40))
        scale = draw(st.none() | st.integers(0, 45) | st.integers(address, address + 3))
        found.append(
            Row(
                f"x.r{number}",
                draw(st.sampled_from((3, 3, 3, 4))),
                address,
                "bits",
                draw(st.integers(1, 4)),
                "1",
                scale_register=scale,
                alone=draw(st.integers(0, 9)) == 9,
            )
        )
    return found


@st.composite
def cases(draw: st.DrawFn) -> tuple[AddressConstraints, list[Row], Costs]:
    """A meter, the rows that are wanted of it, and what requests cost."""
    rows = draw(_rows(draw(st.integers(1, MOST_ROWS))))
    others = draw(_rows(draw(st.integers(0, 3))))
    others = [replace(one, quantity=f"x.other{i}") for i, one in enumerate(others)]
    starts = draw(st.lists(st.integers(0, 45), max_size=2))
    found = meter(
        *rows,
        *others,
        max_registers=draw(st.integers(2, 30)),
        bridge=draw(st.integers(0, 8)),
        align=draw(st.sampled_from((1, 2))),
        unreadable=tuple((first, first + draw(st.integers(0, 2))) for first in starts),
    )
    refused = [one for one in others if draw(st.booleans())]
    costs = Costs(float(draw(st.integers(0, 12))), draw(st.sampled_from((0.0, 1.0, 1.0))))
    return AddressConstraints(found, refused), rows, costs


@settings(max_examples=400, deadline=None)
@given(cases())
def test_no_way_to_share_out_the_rows_takes_less_time(
    case: tuple[AddressConstraints, list[Row], Costs],
) -> None:
    ground, rows, costs = case
    blocks = plan(ground.map, rows, costs, ground)
    judge = Judge(ground, costs)
    for one in blocks:
        assert judge.allowed(one.rows), one
        assert range(one.address, one.address + one.words) == judge.request(one.rows)
    fetched = sorted(row.quantity for one in blocks for row in one.rows)
    assert fetched == sorted(row.quantity for row in rows)
    assert seconds(blocks, costs) == pytest.approx(judge.least(rows))


@settings(max_examples=200, deadline=None)
@given(cases())
def test_lengthened_requests_stay_within_what_the_meter_takes(
    case: tuple[AddressConstraints, list[Row], Costs],
) -> None:
    ground, rows, costs = case
    before = plan(ground.map, rows, costs, ground)
    after = distinct(ground, before)
    shut = {function: Judge(ground, costs).shut(function) for function in (3, 4)}
    for old, new in zip(before, after, strict=True):
        assert (new.function, new.rows) == (old.function, old.rows)
        assert old.words <= new.words <= old.words + LENGTHENING_MAX
        assert new.address <= old.address
        assert new.address + new.words >= old.address + old.words
        if new.words == old.words:
            continue
        assert new.words <= ground.map.max_registers
        assert not shut[new.function] & set(range(new.address, new.address + new.words))
        # It begins and ends with its own rows, or with whole rows of the map.
        ends = {ground.widened(one.first, one.last)[1] for one in ground.rows(new.function)}
        assert new.address + new.words - 1 in {*ends, old.address + old.words - 1}
    assert len({(b.function, b.words) for b in after}) >= len(
        {(b.function, b.words) for b in before}
    )


# -- by hand -----------------------------------------------------------------------------------


def test_a_hole_is_crossed_where_that_is_cheaper_than_a_request() -> None:
    # 20 characters and the turn-around of 9.6 more: as much as 14.8 registers.
    for hole, requests in ((14, 1), (15, 2)):
        one = meter(row(0), row(1 + hole), bridge=60, max_registers=125)
        assert len(plan(one, one.rows, BUS)) == requests, hole


def test_a_hole_of_the_bridge_is_crossed_and_a_longer_one_is_not() -> None:
    for bridge in (0, 1, 4):
        for hole, requests in ((bridge, 1), (bridge + 1, 2)):
            one = meter(row(3), row(4 + hole), bridge=bridge)
            assert len(plan(one, one.rows, TCP)) == requests, (bridge, hole)


def test_over_a_network_a_request_costs_more_than_registers() -> None:
    one = meter(row(0), row(60), bridge=60, max_registers=125)
    assert spans(plan(one, one.rows, TCP)) == [(0, 61)]


def test_the_cut_is_made_where_it_saves_most_not_where_the_limit_is_met() -> None:
    # Filling up the first request would cross the hole of 3 and leave 16 to 17 alone.
    one = meter(*(row(n) for n in (0, 1, 2, 6, 7, 8, 9, 10)), max_registers=10)
    assert spans(plan(one, one.rows, BUS)) == [(0, 3), (6, 5)]


def test_rows_of_another_tier_are_known_ground() -> None:
    between = [row(n) for n in range(1, 9)]
    one = meter(row(0), *between, row(9), bridge=0)
    wanted = [one.rows[0], one.rows[-1]]
    assert spans(plan(one, wanted, BUS)) == [(0, 10)]
    assert spans(plan(one, wanted, BUS, AddressConstraints(one, [between[3]]))) == [(0, 1), (9, 1)]


def test_the_longest_run_between_known_rows_is_the_hole() -> None:
    one = meter(row(10, 2), row(15), row(21))
    ground = AddressConstraints(one)
    # 5..9, 12..14 and 16..20 are unknown, the last cut off at 18.
    assert ground.gap(3, 5, 18) == 5
    assert ground.gap(3, 7, 18) == 3
    assert ground.gap(3, 11, 20) == 5
    assert ground.gap(3, 10, 11) == 0
    assert ground.gap(4, 5, 18) == 14


def test_a_value_far_from_its_scale_takes_along_what_lies_between() -> None:
    far = row(0, scale_register=12)
    one = meter(far, row(5), row(11, 4), row(14, 2), bridge=0)
    assert spans(plan(one, one.rows, BUS)) == [(0, 16)]


def test_values_that_share_one_scale_behind_them_share_a_request() -> None:
    rows = [row(n, scale_register=60) for n in range(0, 60, 3)]
    one = meter(*rows, bridge=0, max_registers=125)
    assert spans(plan(one, one.rows, BUS)) == [(0, 61)]


def test_where_the_limit_parts_them_the_scale_is_read_with_each() -> None:
    rows = [row(0, scale_register=9), row(1), row(8, scale_register=12), row(11)]
    one = meter(*rows, max_registers=10, bridge=9)
    assert spans(plan(one, one.rows, BUS)) == [(0, 10), (8, 5)]


def test_a_row_that_wants_to_be_alone_is() -> None:
    one = meter(row(0), row(1, alone=True), row(2))
    assert spans(plan(one, one.rows, BUS)) == [(0, 3), (1, 1)]


def test_nothing_to_read_costs_nothing() -> None:
    one = meter(row(0))
    assert plan(one, []) == []


def test_a_row_that_fits_no_request_is_named_and_asked_by_itself() -> None:
    wide, barred = row(0, scale_register=40), row(50, 2)
    one = meter(wide, row(3), barred, row(48), unreadable=((51, 60),))
    assert spans(plan(one, one.rows, BUS)) == [(0, 41), (3, 1), (48, 1), (50, 2)]
    assert unplannable(one) == [
        (wide, "needs 41 registers at once, max_registers is 20"),
        (barred, "lies, with its scale, in an unreadable range: 50 to 51"),
    ]


def test_coils_are_counted_in_bits() -> None:
    # 40 coils travel as 3 registers would: a second request is dearer than all of them.
    one = meter(row(0, function=1), row(39, function=1), bridge=60, max_registers=125)
    assert spans(plan(one, one.rows, BUS)) == [(0, 40)]


def test_what_was_refused_or_closed_is_not_crossed() -> None:
    bad = row(4)
    one = meter(row(0), bad, row(8), row(12))
    ground = AddressConstraints(one, [bad], [(3, 10, 10)])
    wanted = [each for each in one.rows if each is not bad]
    assert spans(plan(one, wanted, BUS, ground)) == [(0, 1), (8, 1), (12, 1)]
    assert spans(plan(one, wanted, BUS, AddressConstraints(one))) == [(0, 13)]


def test_a_border_parts_neighbours() -> None:
    one = meter(*(row(n) for n in range(4)))
    assert spans(plan(one, one.rows, BUS, AddressConstraints(one, closed=[(3, 2, 1)]))) == [
        (0, 2),
        (2, 2),
    ]
    assert spans(plan(one, one.rows, BUS, AddressConstraints(one, closed=[(4, 2, 1)]))) == [(0, 4)]


def test_a_refused_value_does_not_close_the_scale_that_others_need() -> None:
    bad = row(5, scale_register=9)
    one = meter(row(0, scale_register=9), bad, row(8, scale_register=9), row(10))
    wanted = [each for each in one.rows if each is not bad]
    ground = AddressConstraints(one, [bad])
    assert ground.fits(3, 6, 10)
    assert not ground.fits(3, 5, 10)
    assert spans(plan(one, wanted[1:], BUS, ground)) == [(8, 3)]


def test_a_scale_that_only_refused_values_need_is_not_crossed() -> None:
    bad = row(4, scale_register=6)
    one = meter(row(0), bad, row(8))
    assert AddressConstraints(one, [bad]).fits(3, 7, 8)
    assert not AddressConstraints(one, [bad]).fits(3, 6, 8)


def test_what_alignment_adds_is_part_of_the_price() -> None:
    # 6 registers at once, or 2 and 2: register 4 must be read before 5.
    one = meter(row(0), row(5), align=2)
    assert spans(plan(one, one.rows, Costs(1.5, 1.0))) == [(0, 2), (4, 2)]
    assert spans(plan(one, one.rows, Costs(2.5, 1.0))) == [(0, 6)]


# -- redone when it pays -------------------------------------------------------------------------


def test_a_plan_is_redone_only_when_it_gains_enough() -> None:
    one = meter(row(0), row(40), bridge=60, max_registers=125)
    two = plan(one, one.rows, Costs(1.0, 0.1))
    together = plan(one, one.rows, Costs(1.0, 0.001))
    assert (spans(two), spans(together)) == ([(0, 1), (40, 1)], [(0, 41)])
    # One request of 41 registers against two of one: 1 + 0.041 f against 2 + 0.002 f.
    assert not better(together, two, Costs(1.0, 0.025))
    assert not better(together, two, Costs(1.0, 0.0235))
    assert better(together, two, Costs(1.0, 0.02))


# -- different lengths ---------------------------------------------------------------------------


def test_equal_lengths_are_told_apart_by_known_rows_beside_them() -> None:
    one = meter(row(0, 2), row(10, 2), row(12, tier="slow"), bridge=0)
    blocks = plan(one, one.rows[:2], BUS)
    assert spans(blocks) == [(0, 2), (10, 2)]
    assert spans(distinct(AddressConstraints(one), blocks)) == [(0, 2), (10, 3)]


def test_a_request_that_is_lengthened_by_rows_before_it_keeps_all_of_its_own() -> None:
    one = meter(row(0, 2), row(8, 2, tier="slow"), row(10, 2), bridge=0)
    blocks = plan(one, [one.rows[0], one.rows[2]], BUS)
    assert spans(distinct(AddressConstraints(one), blocks)) == [(0, 2), (8, 4)]


def test_a_request_makes_way_for_one_that_has_no_choice() -> None:
    one = meter(row(0, 2), row(2, tier="slow"), row(10, 2), row(20, 3), row(23, tier="slow"),
                bridge=0)  # fmt: skip
    blocks = plan(one, [each for each in one.rows if each.tier == "fast"], BUS)
    assert spans(distinct(AddressConstraints(one), blocks)) == [(0, 3), (10, 2), (20, 4)]


def test_functions_tell_replies_apart_already() -> None:
    one = meter(row(0, 2), row(2), row(0, 2, function=4), row(2, function=4), bridge=0)
    blocks = plan(one, [one.rows[0], one.rows[2]], BUS)
    assert spans(distinct(AddressConstraints(one), blocks)) == spans(blocks)


def test_nothing_is_lengthened_into_what_nobody_knows() -> None:
    one = meter(row(0, 2), row(10, 2))
    blocks = plan(one, one.rows, BUS)
    assert spans(distinct(AddressConstraints(one), blocks)) == [(0, 2), (10, 2)]


# -- the shipped maps ----------------------------------------------------------------------------


def test_the_sdm630_takes_four_requests_and_373_ms() -> None:
    sdm630 = load_map("eastron_sdm630")
    blocks = plan(sdm630, [each for each in sdm630.rows if each.tier == "fast"], BUS)
    assert len(blocks) == 4
    assert seconds(blocks, BUS) == pytest.approx(0.3733, abs=1e-4)


@pytest.mark.parametrize("name", shipped())
def test_no_shipped_map_has_a_row_that_fits_no_request(name: str) -> None:
    assert unplannable(load_map(name)) == []


def test_planning_is_no_work() -> None:
    largest = max((load_map(name) for name in shipped()), key=lambda one: len(one.rows))
    plan(largest, largest.rows)
    took = []
    for _ in range(5):
        before = time.process_time()
        plan(largest, largest.rows)
        took.append(time.process_time() - before)
    # A goal of 5 ms; the best of some, with room for a slow machine.
    assert min(took) < 0.05
