"""Too long or at fault: the halving of a refused request, at meters that refuse for one reason."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterd.drivers.blocks import Block
from meterd.drivers.planner import block
from meterd.drivers.refused_rows import Findings
from meterd.drivers.register_limit import RegisterLimit
from tests.drivers.test_refused_rows import Answers, constraints, row, without

ROWS = 64


def found(addresses: list[int], answers: Answers) -> tuple[Findings, int]:
    """What was found, and what it cost."""
    where = constraints(addresses)
    reach, cost = RegisterLimit(where, where.map.rows), 0
    while (rows := reach.batch()) is not None:
        cost += 1
        reach.note(answers(block(where, rows)))
    return reach.findings(), cost


def at_most(registers: int) -> Callable[[Block], bool]:
    return lambda one: one.words <= registers


@pytest.mark.parametrize("most", range(1, ROWS))
def test_how_many_registers_a_meter_gives_is_found_to_the_register(most: int) -> None:
    findings, cost = found(list(range(ROWS)), at_most(most))
    assert findings == Findings(most=most)
    assert cost <= 9


@pytest.mark.parametrize("bad", range(ROWS))
def test_a_row_that_is_refused_is_no_matter_of_length(bad: int) -> None:
    findings, cost = found(list(range(ROWS)), without({bad}))
    assert findings == Findings((row(bad),))
    assert cost <= 9


def test_a_hole_that_may_not_be_crossed_is_closed() -> None:
    findings, _ = found([*range(10), *range(15, 40)], without({12}))
    assert findings == Findings(closed=((3, 10, 14),))


def test_a_border_that_no_request_may_cross_is_told_from_a_limit() -> None:
    def answers(one: Block) -> bool:
        return not one.address < 16 < one.address + one.words

    findings, _ = found(list(range(ROWS)), answers)
    assert findings == Findings(closed=((3, 16, 15),))


@settings(max_examples=200, deadline=None)
@given(st.sets(st.integers(0, 200), min_size=2, max_size=60), st.integers(1, 60))
def test_it_never_asks_for_less_than_the_meter_gives_nor_blames_a_row_for_its_length(
    addresses: set[int], most: int
) -> None:
    ordered = sorted(addresses)
    findings, cost = found(ordered, at_most(most))
    assert findings.refused == ()
    assert cost <= 9
    assert findings.most is None or 1 <= findings.most <= most


def test_given_up_before_the_end_nothing_is_claimed() -> None:
    where = constraints(list(range(8)))
    reach = RegisterLimit(where, where.map.rows)
    assert reach.findings() == Findings()
    assert reach.batch() is not None
    reach.note(answered=True)
    assert reach.findings() == Findings()
