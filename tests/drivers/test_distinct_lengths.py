"""Requests of several meters on one link: as unlike as their maps allow, and no value lost."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterd.drivers.address_constraints import AddressConstraints
from meterd.drivers.blocks import Block
from meterd.drivers.costs import Costs
from meterd.drivers.distinct_lengths import DistinctLengths, on
from meterd.drivers.map_library import load_map, shipped
from meterd.drivers.planner import LENGTHENING_MAX, distinct, plan
from meterd.drivers.registers import RegisterMap
from tests.drivers.test_planner import meter, row, spans

FAST = frozenset(("fast",))
TCP = Costs.tcp(0.01)


def planned(one: RegisterMap) -> list[Block]:
    return plan(one, [each for each in one.rows if each.tier == "fast"], TCP)


def words(blocks: Sequence[Block]) -> list[int]:
    return [block.words for block in blocks]


# Two registers that are wanted, and four behind them that are known and may come along.
ONE = meter(row(0, 2), *(row(place, tier="slow") for place in range(2, 6)), bridge=0)


def test_a_meter_alone_on_its_link_is_asked_as_planned() -> None:
    blocks = planned(ONE)
    assert DistinctLengths().apart("a", FAST, AddressConstraints(ONE), blocks) == blocks


def test_meters_of_one_model_take_turns_through_the_lengths_that_are_free() -> None:
    link, ground, blocks = DistinctLengths(), AddressConstraints(ONE), planned(ONE)
    found = [words(link.apart(unit, FAST, ground, blocks)) for unit in range(7)]
    assert found == [[2], [3], [4], [5], [6], [2], [3]]


def test_a_meter_that_plans_again_keeps_its_length() -> None:
    link, ground, blocks = DistinctLengths(), AddressConstraints(ONE), planned(ONE)
    first = [link.apart(unit, FAST, ground, blocks) for unit in range(3)]
    again = [link.apart(unit, FAST, ground, blocks) for unit in range(3)]
    assert list(map(words, first)) == list(map(words, again))


def test_a_meter_that_went_leaves_its_length_to_the_next() -> None:
    link, ground, blocks = DistinctLengths(), AddressConstraints(ONE), planned(ONE)
    for unit in range(3):
        link.apart(unit, FAST, ground, blocks)
    link.forget(1)
    assert words(link.apart("new", FAST, ground, blocks)) == [3]


def test_its_own_requests_differ_before_those_of_others_do() -> None:
    pair = meter(row(0, 2), row(10, 2), row(12, tier="slow"), bridge=0)
    link = DistinctLengths()
    for unit in range(4):
        found = link.apart(unit, FAST, AddressConstraints(pair), planned(pair))
        assert len(set(words(found))) == 2


def test_a_meter_that_has_no_choice_stays_as_it_is() -> None:
    fixed = meter(row(0, 2))
    link = DistinctLengths()
    found = [link.apart(unit, FAST, AddressConstraints(fixed), planned(fixed)) for unit in range(3)]
    assert list(map(words, found)) == [[2], [2], [2]]


def test_meters_with_like_neighbours_share_their_requests() -> None:
    ground, blocks = AddressConstraints(ONE), planned(ONE)
    links = [DistinctLengths() for _ in range(2)]
    for link in links:
        link.apart("a", FAST, ground, blocks)
    one, two = (link.apart("b", FAST, ground, blocks) for link in links)
    assert one is two


def test_one_link_has_one_account_and_takes_it_along_when_it_goes() -> None:
    class Link:
        pass

    one, two = Link(), Link()
    assert on(one) is on(one)
    assert on(one) is not on(two)


@pytest.mark.parametrize("name", shipped())
def test_alone_it_is_what_the_planner_makes_distinct(name: str) -> None:
    one = load_map(name)
    ground, blocks = AddressConstraints(one), planned(one)
    found = DistinctLengths().apart("a", FAST, ground, blocks)
    assert spans(found) == spans(distinct(ground, blocks))


@given(names=st.lists(st.sampled_from(shipped()), min_size=2, max_size=6))
@settings(max_examples=30, deadline=None)
def test_no_row_is_lost_no_limit_broken_and_no_request_much_longer(names: list[str]) -> None:
    link = DistinctLengths()
    for unit, name in enumerate(names):
        one = load_map(name)
        ground, blocks = AddressConstraints(one), planned(one)
        found = link.apart(unit, FAST, ground, blocks)
        assert [part.rows for part in found] == [part.rows for part in blocks]
        assert len(set(kinds(found))) == len(set(kinds(distinct(ground, blocks))))
        for new, old in zip(found, blocks, strict=True):
            assert new.address <= old.address
            assert new.address + new.words >= old.address + old.words
            assert 0 <= new.words - old.words <= LENGTHENING_MAX
            last = new.address + new.words - 1
            assert new is old or ground.fits(new.function, new.address, last)


def kinds(blocks: Sequence[Block]) -> list[tuple[int, int]]:
    return [(block.function, block.words) for block in blocks]
