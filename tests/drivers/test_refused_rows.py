"""The search for what a meter refuses, at meters that refuse rows, holes and long requests."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterd.drivers.address_constraints import AddressConstraints
from meterd.drivers.blocks import Block
from meterd.drivers.planner import block, plan
from meterd.drivers.refused_rows import Findings, RefusedRowSearch
from meterd.drivers.registers import RegisterMap, Row

pytestmark = pytest.mark.virtual

BUDGET = 20
Answers = Callable[[Block], bool]


def row(address: int) -> Row:
    return Row(f"x.r{address}", 3, address, "u16", 1, "1")


def constraints(addresses: Sequence[int]) -> AddressConstraints:
    rows = tuple(map(row, addresses))
    return AddressConstraints(RegisterMap("made_up", "Nobody", "None", "this test", "low", rows))


def search(
    where: AddressConstraints, answers: Answers, budget: int = BUDGET
) -> tuple[Findings, set[int], int]:
    """What was found, the registers of rows that were answered, and what it cost."""
    hunt, read, cost = RefusedRowSearch(where, where.map.rows), set[int](), 0
    while cost < budget and (rows := hunt.batch()) is not None:
        cost += 1
        answered = answers(block(where, rows))
        if answered:
            read |= {one.address for one in rows}
        hunt.note(answered)
    return hunt.findings(), read, cost


def without(bad: set[int]) -> Answers:
    return lambda one: not bad & set(range(one.address, one.address + one.words))


def refused(findings: Findings) -> set[int]:
    return {one.address for one in findings.refused}


@pytest.mark.parametrize("bad", range(32))
def test_one_refused_row_of_32_is_found_with_ten_requests_and_all_others_read(bad: int) -> None:
    findings, read, cost = search(constraints(range(32)), without({bad}))
    assert findings == Findings((row(bad),))
    assert read == set(range(32)) - {bad}
    assert cost <= 10


@settings(max_examples=200, deadline=None)
@given(st.sets(st.integers(0, 60), min_size=1, max_size=30), st.data(), st.integers(0, 60))
def test_every_row_is_read_or_named_whatever_the_meter_refuses_and_whenever_it_stops(
    addresses: set[int], data: st.DataObject, budget: int
) -> None:
    bad = data.draw(st.sets(st.sampled_from(sorted(addresses)), min_size=1))
    findings, read, cost = search(constraints(sorted(addresses)), without(bad), budget)
    assert read | refused(findings) == addresses
    assert not read & refused(findings)
    assert not read & bad
    assert not findings.closed
    assert findings.most is None
    certain = {one.address for one in findings.refused if one not in findings.unclear}
    assert certain <= bad
    if cost < budget:
        assert certain == bad


def test_three_refused_rows_of_60_lose_few_others() -> None:
    lost = 0
    triples = [{n, (7 * n + 11) % 60, (13 * n + 29) % 60} for n in range(60)]
    for bad in triples:
        findings, _, cost = search(constraints(range(60)), without(bad))
        assert cost <= BUDGET
        lost += len(refused(findings) - bad)
    # Halving depth first, and asking both halves, loses twelve at a time.
    assert lost / len(triples) < 3


def test_a_hole_that_may_not_be_crossed_is_closed_and_no_row_is_lost() -> None:
    where = constraints([*range(10), *range(15, 25)])
    findings, read, cost = search(where, without({12}))
    assert refused(findings) == set()
    assert findings.closed == ((3, 10, 14),)
    assert read == set(range(10)) | set(range(15, 25))
    assert cost <= 10


def test_a_meter_that_gives_less_at_once_than_its_map_says_is_believed() -> None:
    findings, read, _ = search(constraints(range(40)), lambda one: one.words <= 16)
    assert refused(findings) == set()
    assert read == set(range(40))
    assert findings.closed == ()
    assert findings.most is not None
    assert 8 <= findings.most <= 16


def test_a_border_between_neighbours_is_no_matter_of_length() -> None:
    def across(one: Block) -> bool:
        return one.address <= 15 and one.address + one.words - 1 >= 16

    where = constraints(range(40))
    findings, read, _ = search(where, lambda one: not across(one))
    assert refused(findings) == set()
    assert read == set(range(40))
    assert findings.most is None
    assert (3, 16, 15) in findings.closed
    learned = where.without(closed=findings.closed)
    assert not any(across(one) for one in plan(where.map, where.map.rows, constraints=learned))


def test_a_search_given_up_between_question_and_answer_names_what_is_open() -> None:
    hunt = RefusedRowSearch(constraints(range(4)), constraints(range(4)).map.rows)
    assert hunt.batch() is not None
    assert refused(hunt.findings()) == set(range(4))


def test_a_single_row_is_at_fault_itself() -> None:
    findings, _, cost = search(constraints([7]), without({7}))
    assert (refused(findings), cost) == ({7}, 0)
