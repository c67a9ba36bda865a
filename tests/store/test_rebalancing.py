"""Devices come out evenly among meterds, and nobody gives and takes for ever."""

import random

import pytest

from meterd.store.cluster.rebalancing import Rebalancer, choose_devices


def test_one_that_is_alone_has_everything() -> None:
    assert Rebalancer({"a": 0}, 7).most("a") == 7
    assert Rebalancer({"a": 7}, 0).most("a") == 7


def test_a_newcomer_is_given_half() -> None:
    fair = Rebalancer({"a": 4, "b": 0}, 0)
    assert (fair.most("a"), fair.most("b")) == (2, 2)


def test_who_has_one_more_already_keeps_it() -> None:
    fair = Rebalancer({"a": 1, "b": 2, "c": 1}, 0)
    assert [fair.most(one) for one in "abc"] == [1, 2, 1]


def test_what_was_begun_to_be_given_up_is_gone_on_with() -> None:
    assert choose_devices(["a", "b", "c"], ["c"], 2) == {"c"}
    assert choose_devices(["a", "b", "c"], [], 2) == {"a"}
    assert choose_devices(["a", "b"], ["a"], 2) == set()


@pytest.mark.parametrize("seed", range(40))
def test_turns_in_any_order_end_evenly_and_then_nothing_moves(seed: int) -> None:
    said = random.Random(seed)
    names = [f"m{number}" for number in range(said.randrange(1, 6))]
    counts = {name: said.randrange(0, 9) for name in names}
    free = said.randrange(0, 9)
    total = free + sum(counts.values())

    def turn(one: str) -> bool:
        nonlocal free
        most = Rebalancer(counts, free).most(one)
        change = min(free, most - counts[one])
        counts[one] += change
        free -= change
        return change != 0

    for _ in range(2 * len(names)):
        for one in said.sample(names, len(names)):
            turn(one)
    assert not any(turn(one) for one in names)
    assert free == 0
    assert sum(counts.values()) == total
    assert max(counts.values()) - min(counts.values()) <= 1
