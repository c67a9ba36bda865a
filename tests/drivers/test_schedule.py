"""Which rows are due when, and that what is due together is planned together."""

from collections.abc import Sequence

import pytest

from meterd.drivers.blocks import Block
from meterd.drivers.costs import Costs, seconds
from meterd.drivers.distinct_lengths import DistinctLengths
from meterd.drivers.map_library import load_map
from meterd.drivers.planner import plan
from meterd.drivers.registers import RegisterMap, Row
from meterd.drivers.schedule import Schedule

BUS = Costs.serial(9600, tau=0.01)


def row(address: int, tier: str = "fast") -> Row:
    return Row(f"x.r{address}", 3, address, "u16", 1, "1", tier=tier)


def meter(*rows: Row) -> RegisterMap:
    return RegisterMap("made_up", "Nobody", "None", "this test", "low", rows, bridge=60)


def fetched(blocks: Sequence[Block]) -> list[int]:
    return sorted(row.address for block in blocks for row in block.rows)


TIERS = meter(row(0), row(1, "slow"), row(2, "static"))


@pytest.mark.parametrize(
    ("interval", "slow", "polls"),
    [(5, 60, [12, 24, 36]), (7, 60, [9, 18, 27]), (60, 60, [3, 4, 5]), (300, 60, [3, 4, 5])],
)
def test_slow_rows_are_due_at_each_nth_poll(interval: float, slow: float, polls: list[int]) -> None:
    schedule = Schedule(TIERS, interval, BUS, slow=slow)
    due = [k for k in range(40) if 1 in fetched(schedule.blocks(k))]
    # The first three are for counters, which are believed after three reads.
    assert due[:6] == [0, 1, 2, *polls]
    assert (schedule.ordinary in due) is (schedule.every == 1)


def test_fast_rows_are_due_always_and_static_ones_once() -> None:
    schedule = Schedule(TIERS, 1.0, BUS)
    assert all(0 in fetched(schedule.blocks(k)) for k in range(100))
    assert [k for k in range(200) if 2 in fetched(schedule.blocks(k))] == [0]


def test_a_plan_is_made_once() -> None:
    schedule = Schedule(TIERS, 30.0, BUS)
    assert schedule.blocks(3) is schedule.blocks(5)
    assert schedule.blocks(2) is schedule.blocks(4)


def test_what_is_due_together_is_planned_together() -> None:
    sdm630 = load_map("eastron_sdm630")
    schedule = Schedule(sdm630, 5.0, BUS)
    apart = [plan(sdm630, [r for r in sdm630.rows if r.tier == t], BUS) for t in ("fast", "slow")]
    together = seconds(schedule.blocks(12), BUS)
    assert together < sum(seconds(part, BUS) for part in apart)


def test_rows_and_holes_are_left_out_and_taken_back() -> None:
    schedule = Schedule(meter(row(0), row(3), row(6)), 1.0, BUS)
    assert [(b.address, b.words) for b in schedule.blocks(0)] == [(0, 7)]
    schedule.leave_out([schedule.constraints.map.rows[1]])
    assert [(b.address, b.words) for b in schedule.blocks(0)] == [(0, 1), (6, 1)]
    schedule.leave_out(closed=((3, 4, 5),))
    assert [(b.address, b.words) for b in schedule.blocks(1)] == [(0, 4), (6, 1)]
    schedule.leave_out(most=4)
    assert sorted(b.words for b in schedule.blocks(1)) == [1, 4]
    schedule.leave_out()
    assert [(b.address, b.words) for b in schedule.blocks(1)] == [(0, 7)]


def test_a_row_with_words_for_its_numbers_may_be_refused() -> None:
    named = Row("x.state", 3, 1, "u16", 1, "1", enum={0: "off", 1: "on"})
    schedule = Schedule(meter(row(0), named), 1.0, BUS)
    schedule.leave_out([named])
    assert fetched(schedule.blocks(0)) == [0]


def test_measured_costs_change_only_plans_that_gain_by_it() -> None:
    schedule = Schedule(meter(row(0), row(40)), 1.0, Costs.serial(9600, tau=0.0))
    assert len(schedule.blocks(1)) == 2
    assert not schedule.learn(Costs.serial(9600, tau=0.01))
    before = schedule.blocks(1)
    # 82 characters more, or 20 and 65 ms: 2 % are no reason.
    assert not schedule.learn(Costs.serial(9600, tau=0.065))
    assert schedule.blocks(1) is before
    assert schedule.learn(Costs.serial(9600, tau=0.2))
    assert len(schedule.blocks(1)) == 1


def test_requests_have_different_lengths_where_that_is_wished() -> None:
    one = RegisterMap("m", "", "", "", "low", (row(0), row(10), row(11, "slow")), bridge=0)
    assert [b.words for b in Schedule(one, 1.0, BUS).blocks(3)] == [1, 1]
    lengths = DistinctLengths()
    first = Schedule(one, 1.0, BUS, lengths=lengths, meter=1)
    assert [b.words for b in first.blocks(3)] == [1, 2]


def neighbours(one: RegisterMap, count: int) -> list[Schedule]:
    """So many meters of one model on one link."""
    lengths = DistinctLengths()
    return [Schedule(one, 1.0, BUS, lengths=lengths, meter=unit) for unit in range(count)]


def test_neighbours_of_one_model_are_asked_for_different_lengths() -> None:
    one = RegisterMap(
        "m", "", "", "", "low", (row(0), *(row(n, "slow") for n in range(1, 5))), bridge=0
    )
    meters = neighbours(one, 5)
    assert [meter.blocks(3)[0].words for meter in meters] == [1, 2, 3, 4, 5]
    # Asked again, replanned, or started over, each keeps to what is free for it.
    assert [meter.blocks(4)[0].words for meter in meters] == [1, 2, 3, 4, 5]
    meters[2].leave_out()
    assert meters[2].blocks(3)[0].words == 3


def test_neighbours_that_learn_costs_keep_their_lengths() -> None:
    rows = (row(0), row(22), *(row(n, "slow") for n in range(1, 4)))
    one = RegisterMap("m", "", "", "", "low", rows, bridge=25)
    meters = neighbours(one, 3)
    before = [[b.words for b in meter.blocks(3)] for meter in meters]
    # Dearer by so much that one request would do for two, but gain next to nothing.
    assert not any(meter.learn(Costs.serial(9600, tau=0.024)) for meter in meters)
    assert [[b.words for b in meter.blocks(3)] for meter in meters] == before


def test_meters_of_one_map_on_like_links_share_their_plans() -> None:
    one = meter(row(0), row(40))
    here, there = (Schedule(one, 1.0, Costs.serial(9600, tau=0.0)) for _ in range(2))
    assert here.blocks(1) is there.blocks(1)
    # What was measured differs a little from meter to meter.
    assert here.learn(Costs.serial(9600, tau=0.2))
    assert there.learn(Costs.serial(9600, tau=0.201))
    assert here.blocks(1) is there.blocks(1)
    here.leave_out([one.rows[1]])
    assert (fetched(here.blocks(1)), fetched(there.blocks(1))) == ([0], [0, 40])
    there.leave_out([one.rows[1]])
    assert here.blocks(1) is there.blocks(1)


def test_a_poll_that_has_nothing_due_asks_for_the_cheapest_row_all_the_same() -> None:
    wide = Row("x.wide", 3, 10, "u64", 4, "1", tier="slow")
    text = Row("info.serial_number", 3, 90, "u16", 1, "", tier="static")
    schedule = Schedule(meter(wide, row(30, "slow"), text), 1.0, BUS)
    assert fetched(schedule.blocks(60)) == [10, 30]
    assert fetched(schedule.blocks(61)) == [30]
    only = Schedule(meter(text), 1.0, BUS)
    assert fetched(only.blocks(7)) == [90]
    only.leave_out([text])
    assert only.blocks(7) == []
