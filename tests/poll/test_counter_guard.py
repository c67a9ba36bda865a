"""One guarded counter: each rule by hand, then a true meter under every kind of trouble."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterd.poll.counter_guard import READS_BEFORE_STUCK, CounterGuard, largest_count, offset_of
from meterd.poll.guard_state import GuardOutcome, GuardState, Read, Step

C, H, G, R = GuardOutcome.COUNTED, GuardOutcome.HELD, GuardOutcome.GLITCH, GuardOutcome.RESET
START = 1_800_000_000_000


class Bench:
    """A guard that is read each ten seconds unless told otherwise."""

    def __init__(self, guard: CounterGuard | None = None) -> None:
        self.guard = guard or CounterGuard()
        self.now = 5000.0
        self.time = START

    def read(self, raw: float | None, after: float = 10.0) -> Step:
        self.now += after
        self.time += round(after * 1000)
        return self.guard.step(raw, now=self.now, time_ms=self.time)

    def reads(self, raws: Iterable[float | None]) -> list[Step]:
        return [self.read(raw) for raw in raws]

    def restart(self, down: float = 0.0, clock: float = 77.0, **options: float) -> None:
        """Through JSON, onto another monotonic clock, which shows `clock`."""
        state = GuardState.of(json.loads(json.dumps(asdict(self.guard.state()))))
        self.guard = CounterGuard(state=state, **options)  # type: ignore[arg-type]
        self.now = clock
        self.time += round(down * 1000)


def begun(raw: float, **options: float | None) -> Bench:
    """At `raw`, after the three reads that a beginning takes."""
    bench = Bench(CounterGuard(**options))  # type: ignore[arg-type]
    assert [step.what for step in bench.reads([raw, raw, raw])] == [H, H, C]
    return bench


def values(steps: Iterable[Step]) -> list[float | None]:
    return [step.value for step in steps]


def whats(steps: Iterable[Step]) -> list[GuardOutcome]:
    return [step.what for step in steps]


def test_the_total_begins_as_the_counter_once_three_reads_agree() -> None:
    steps = Bench().reads([4294967295, 50_000, 50_010, 50_020, 50_030])
    assert values(steps) == [None, None, None, 50_020, 50_030]
    assert "first reads" in steps[0].text


# 50 000 Wh before each, read each ten seconds: at 10 MW a rise of 27 778 + 6 556 Wh is possible.
RULES: dict[str, tuple[list[float | None], list[float | None], list[GuardOutcome]]] = {
    "equal reads": ([50_000, 50_000], [50_000, 50_000], [C, C]),
    "a rise": ([50_007, 50_010], [50_007, 50_010], [C, C]),
    "a dip to 0 adds nothing": ([0, 50_020], [None, 50_020], [H, G]),
    "two dips to 0": ([0, 0, 50_020], [None, None, 50_020], [H, H, G]),
    "a dip by 0.1": ([49_999.9, 50_000.3], [None, 50_000.3], [H, G]),
    "a dip, back to the old value": ([10, 50_000], [None, 50_000], [H, G]),
    "a dip to below 0": ([-5, 50_003], [None, 50_003], [GuardOutcome.ABSENT, C]),
    "an impossible rise": ([4e9, 50_020], [None, 50_020], [H, G]),
    "both ways": ([4e9, 0, 50_020], [None, None, 50_020], [H, H, G]),
    "no number": (
        [float("nan"), float("inf"), 50_001],
        [None, None, 50_001],
        [GuardOutcome.ABSENT] * 2,
    ),
    "not read": ([None, 50_001], [None, 50_001], [GuardOutcome.ABSENT, C]),
    # A torn read of 0x0000C350 and 0x00010005: the high word of the first with the low one of the
    # second, and the other way round.
    "a torn read, low": ([0x00000005, 0x00010005], [None, 0x00010005], [H, G]),
    "a torn read, high": ([0x0001C350, 0x00010005], [None, 0x00010005], [H, G]),
    # Reset to 0 and 3 Wh since; the value itself is energy.
    "a reset": ([3, 5, 9, 12], [None, None, 50_009, 50_012], [H, H, R, C]),
    # The 3 Wh are booked when the counter moves: it may still be a dip.
    "a reset, at rest": ([3, 3, 3, 3, 8], [None, None, 50_000, 50_000, 50_008], [H, H, R, C, C]),
    # 50 000 -> 30 000 is no counter that began at 0: another meter, or one that was set.
    "set back": ([30_000, 30_004, 30_010], [None, None, 50_010], [H, H, R]),
    # Nobody can tell what was delivered in a jump, so none of it is booked; what follows is.
    "a jump that stays": (
        [9e6, 9e6 + 1, 9e6 + 5, 9e6 + 9],
        [None, None, 50_005, 50_009],
        [H, H, R],
    ),
    # A gateway that answers 0 for a while; 50 100 Wh is what the meter shows then.
    "a long dip": (
        [0, 0, 0, 0, 50_090, 50_095, 50_100, 50_101],
        [None, None, 50_000, 50_000, None, None, 50_100, 50_101],
        [H, H, R, C, H, H, G, C],
    ),
    "a sentinel that stays for a while": (
        [4e9, 4e9, 4e9, 4e9, 50_090, 50_095, 50_100],
        [None, None, 50_000, 50_000, None, None, 50_100],
        [H, H, R, C, H, H, G],
    ),
    "a dip while a reset is looked at": ([5, 0, 9, 11], [None, None, None, 50_011], [H, H, H, R]),
}


@pytest.mark.parametrize("name", RULES)
def test_each_rule(name: str) -> None:
    raws, totals, kinds = RULES[name]
    steps = begun(50_000).reads(raws)
    assert values(steps) == totals
    assert whats(steps)[: len(kinds)] == kinds
    assert all(step.text for step in steps if step.value is None)


@pytest.mark.parametrize(
    ("wrap", "before", "after", "total"),
    [
        (10_000_000, 9_999_990, 5, 10_000_005),  # PZEM at 10 MWh
        (2**32, 2**32 - 1, 0, 2**32),
        (2**31 * 10, 2**31 * 10 - 40, 30, 2**31 * 10 + 30),  # s32 of 10 Wh
        (429496729.6, 429496729.5, 0.2, 429496729.8),  # u32 of 0.1 Wh
        (1e12, 1e12 - 1000, 1000, 1e12 + 1000),  # 10**9 whole kWh
    ],
)
def test_a_rollover_is_exact(wrap: float, before: float, after: float, total: float) -> None:
    bench = begun(before, wrap=wrap)
    steps = bench.reads([after, after, after])
    assert whats(steps) == [H, H, GuardOutcome.ROLLOVER]
    assert steps[2].value == total
    assert bench.guard.segment == 1
    assert bench.read(after + 7).value == round(total + 7, 6)


def test_a_dip_right_at_the_wrap_is_still_a_dip() -> None:
    bench = begun(9_999_990, wrap=10_000_000)
    assert values(bench.reads([0, 9_999_995])) == [None, 9_999_995]


def test_far_from_the_wrap_a_fall_is_a_reset() -> None:
    bench = begun(5_000_000, wrap=10_000_000)
    assert whats(bench.reads([0, 0, 0])) == [H, H, R]
    # 150 kWh to go, 90 possible: 50 Wh were delivered since 0, not 150 050.
    bench = begun(9_850_000, wrap=10_000_000)
    assert values(bench.reads([30, 40, 50])) == [None, None, 9_850_050]


def test_a_dip_before_a_gap_does_not_hide_the_rollover_in_it() -> None:
    bench = begun(9_500_000, wrap=10_000_000)
    bench.read(0)
    bench.read(20, after=7200)
    assert bench.read(30) == (
        10_000_030,
        GuardOutcome.ROLLOVER,
        "the counter rolled over, from 9500000 Wh to 0 Wh",
    )


def test_a_dip_before_a_gap_does_not_book_what_another_meter_shows_after_it() -> None:
    bench = begun(50_000_000)
    bench.read(0)
    bench.read(5_000_000, after=7200)
    assert values(bench.reads([5_000_001, 5_000_002])) == [None, 50_000_002]


def test_a_small_counter_is_not_near_its_wrap_in_the_middle() -> None:
    """A u16 of Wh wraps in 24 s at 10 MW, so what is possible does not tell."""
    steps = begun(40_000, wrap=65_536).reads([0, 0, 0])
    assert (steps[2].value, steps[2].what) == (40_000, R)


def test_a_counter_without_a_wrap_never_rolls_over() -> None:
    bench = begun(2**32 - 1)
    assert whats(bench.reads([0, 0, 0])) == [H, H, R]
    assert bench.guard.segment == 2


def test_after_days_the_rise_of_days_is_possible_and_confirmed() -> None:
    bench = begun(50_000)
    first = bench.read(50_000 + 400_000_000, after=2 * 86_400)
    assert (first.value, first.what) == (None, H)
    assert "rose while it was not read for 172800 s" in first.text
    steps = bench.reads([400_050_007, 400_050_009, 400_050_011])
    assert values(steps) == [None, 400_050_009, 400_050_011]
    assert whats(steps) == [H, GuardOutcome.CONFIRMED, C]
    assert bench.guard.segment == 1


@pytest.mark.parametrize("down", [600, 3600, 86_400, 30 * 86_400])
@pytest.mark.parametrize("wrong", [900_000, 250_000, 60_000])
@pytest.mark.parametrize("restart", [False, True])
def test_a_first_read_after_a_gap_that_is_too_high_is_not_counted(
    wrong: int, down: int, restart: bool
) -> None:
    bench = begun(50_000)
    if restart:
        bench.restart(down=down)
    after = 10.0 if restart else down
    assert bench.read(50_400 + wrong, after=after).value is None
    steps = bench.reads([50_401, 50_402, 50_403, 50_404])
    assert [value for value in values(steps) if value is not None] == [50_403, 50_404]
    assert bench.guard.segment == 1


def test_a_small_rise_in_a_gap_is_counted_at_once() -> None:
    bench = begun(50_000)
    assert bench.read(59_000, after=3 * 3600) == (59_000, C, "")


def test_a_missed_read_is_no_gap() -> None:
    bench = begun(50_000, interval=600)
    assert bench.read(850_000, after=600) == (850_000, C, "")
    assert bench.read(2_000_000, after=1200).what is H


def test_of_a_high_and_a_low_read_after_a_gap_the_one_that_goes_on_is_right() -> None:
    """A true rise of a megawatt hour, then a torn read that looks like the old value."""
    bench = begun(50_000)
    assert bench.read(1_050_000, after=7200).value is None
    steps = bench.reads([50_010, 1_050_001, 1_050_002, 1_050_003])
    assert values(steps) == [None, None, None, 1_050_003]
    assert bench.guard.segment == 1


def test_suspend_stops_the_monotonic_clock_and_not_the_meter() -> None:
    bench = begun(50_000)
    bench.time += 7_200_000
    steps = bench.reads([5_050_000, 5_050_001, 5_050_002])
    assert values(steps) == [None, None, 5_050_002]
    assert bench.guard.segment == 1


def test_a_step_of_the_clock_of_the_day_changes_nothing() -> None:
    bench = begun(50_000)
    bench.time -= 3_600_000
    assert bench.read(50_010) == (50_010, C, "")


def test_what_it_shows_after_a_reset_in_a_long_gap_is_not_booked() -> None:
    """It may as well be another meter, second-hand."""
    bench = begun(50_000_000)
    bench.read(70_000, after=3600)
    assert values(bench.reads([70_001, 70_005])) == [None, 50_000_005]


def test_a_night_of_zeros_and_a_night_of_silence_book_nothing() -> None:
    """An inverter answers 0 at dusk, then nothing; 500 Wh more in the morning are real."""
    bench = begun(600_000)
    bench.reads([0, 0, 0, 0])
    morning = [bench.read(600_500, after=10 * 3600), *bench.reads([600_500, 600_501])]
    assert values(morning) == [None, None, 600_501]


def test_zeros_for_a_whole_night_book_nothing() -> None:
    bench = begun(50_000_000)
    bench.reads([0] * 3600)
    assert values(bench.reads([50_000_100] * 3)) == [None, None, 50_000_100]


def test_zeros_before_the_first_value_book_nothing() -> None:
    bench = begun(0)
    bench.reads([0] * 3600)
    assert values(bench.reads([50_000_000] * 3 + [50_000_004])) == [None, None, 0, 4]


def test_a_counter_that_flickers_between_two_values_does_not_creep_up() -> None:
    """100 Wh of resolution, at rest on the edge of a step; each value stays for long."""
    bench = begun(49_900)
    for _ in range(20):
        bench.reads([50_000] * 5 + [49_900] * 5)
    assert bench.guard.total == 50_000
    assert values(bench.reads([50_000, 50_100])) == [50_000, 50_100]


def test_a_false_rise_that_was_possible_is_taken_back_by_waiting() -> None:
    bench = begun(50_000)
    steps = bench.reads([80_000, 50_010, 50_020, 50_030, 60_000, 80_000, 80_001])
    assert values(steps) == [80_000, None, None, 80_000, 80_000, 80_000, 80_001]
    assert whats(steps) == [C, H, H, G, GuardOutcome.WAITS, C, C]
    assert "counted too much" in steps[4].text


def test_whole_kilowatt_hours_pass_a_tight_limit() -> None:
    """11 kW, read each second: a step of 1000 Wh comes at once, every six minutes."""
    bench = begun(50_000, max_power=11_000)
    for kwh in range(51, 60):
        steps = [bench.read(kwh * 1000 - 1000, after=1) for _ in range(360)]
        assert set(whats(steps)) == {C}
        assert bench.read(kwh * 1000, after=1).value == kwh * 1000


def test_steps_of_a_hundred_kilowatt_hours_are_late_and_not_lost() -> None:
    """Behind large transformers; nobody told the resolution. 1 MW, read each ten seconds."""
    bench = begun(5_000_000)
    for step in range(1, 5):
        raw = 5_000_000 + step * 100_000
        assert values(bench.reads([raw] * 36))[2:] == [raw] * 34


def test_a_float_of_kilowatt_hours_that_moves_by_its_own_rounding() -> None:
    """2**33 kWh in float32 steps by 1024 kWh; each step is real energy."""
    bench = begun(2.0**33 * 1000, max_power=10e6)
    assert bench.read((2.0**33 + 1024) * 1000).what is C


def test_a_transformer_ratio_that_is_set_anew_books_nothing() -> None:
    bench = begun(50_000)
    steps = bench.reads([50_000_000, 50_001_000, 50_002_000])
    assert values(steps) == [None, None, 52_000]
    assert bench.guard.segment == 2


def test_the_limit_is_what_was_given() -> None:
    bench = begun(50_000, max_power=36_000, resolution=1)
    # 10 Wh/s: 100 in ten seconds, 20 for lateness, 1 for the step, and the float's own.
    assert bench.read(50_121).what is C
    assert bench.read(50_243).what is H


# 3600 W are 1 Wh a second; a step of 1 Wh and two seconds of lateness come on top.
TIGHT = {"max_power": 3600.0, "resolution": 1.0, "interval": 10.0}


@pytest.mark.parametrize(
    ("rise", "after", "what"),
    [
        # Read when it is due: what flows at the most in that time.
        (13, 10, C),
        (14, 10, H),
        (3, 0, C),
        (4, 0, H),
        # 17 s are one and a half intervals and two seconds: no gap yet.
        (20, 17, C),
        (21, 17, H),
        # After a gap ten seconds' worth is counted at once, more waits for a proof.
        (13, 18, C),
        (14, 18, H),
        (13, 3600, C),
        (14, 3600, H),
    ],
)
def test_the_limits_to_the_watt_hour(rise: int, after: float, what: GuardOutcome) -> None:
    bench = begun(50_000, **TIGHT)
    bench.read(50_001)
    assert bench.read(50_001 + rise, after=after).what is what


@pytest.mark.parametrize("raw", [50_001 + 3603, 50_001 + 3604])
def test_after_a_gap_the_limit_is_what_flows_in_it(raw: int) -> None:
    bench = begun(50_000, **TIGHT)
    bench.read(50_001)
    steps = [bench.read(raw, after=3600), bench.read(raw), bench.read(raw)]
    possible = raw - 50_001 <= 3603
    assert whats(steps) == [H, H, GuardOutcome.CONFIRMED if possible else R]


def test_a_fall_by_more_than_a_rollover_can_have_brought_is_a_reset() -> None:
    bench = begun(990, wrap=1000.0, **TIGHT)
    # 10 Wh up to the end, and 24 behind it, in the 30 s that three reads take: one too many.
    assert whats(bench.reads([24, 24, 24])) == [H, H, R]
    bench = begun(990, wrap=1000.0, **TIGHT)
    assert whats(bench.reads([23, 23, 23])) == [H, H, GuardOutcome.ROLLOVER]


@pytest.mark.parametrize(("first", "booked"), [(5, 5), (6, 0)])
def test_what_it_shows_after_a_reset_is_booked_up_to_half_of_what_it_showed(
    first: int, booked: int
) -> None:
    bench = begun(10)
    steps = bench.reads([first, first, first, first + 1])
    assert steps[-1].value == 10 + booked + 1


def test_what_a_reset_owes_is_booked_once_where_a_gap_is_confirmed_after_it() -> None:
    bench = begun(500_000)
    bench.reads([3, 3, 3])
    steps = [bench.read(100_003, after=3000), *bench.reads([100_003, 100_003, 100_004, 100_005])]
    assert whats(steps) == [H, H, GuardOutcome.CONFIRMED, C, C]
    assert [step.value for step in steps[2:]] == [600_003, 600_004, 600_005]


def test_a_counter_that_rested_at_zero_or_after_a_reset_takes_no_late_step() -> None:
    """Neither is known to have counted while it stood still."""
    bench = begun(0, **TIGHT)
    bench.reads([0] * 60)
    assert whats(bench.reads([200, 200, 200])) == [H, H, R]
    bench = begun(50_000, **TIGHT)
    assert whats(bench.reads([3, 3, 3])) == [H, H, R]
    bench.reads([3] * 60)
    assert whats(bench.reads([203, 203, 203])) == [H, H, R]


@pytest.mark.parametrize("dip", ["rollover", "reset", "long dip"])
def test_no_late_step_reaches_back_before_a_rollover_a_reset_or_a_long_dip(dip: str) -> None:
    """What came before it is booked, or not known; 200 Wh in the 30 s since are too many."""
    bench = begun(990, wrap=1000.0 if dip == "rollover" else None, **TIGHT)
    bench.reads([990] * 60)
    raws = {"rollover": [3, 3, 3], "reset": [3, 4, 5], "long dip": [3] * 60 + [991] * 3}[dip]
    steps = bench.reads(raws)
    assert steps[-1].what is {"rollover": GuardOutcome.ROLLOVER, "reset": R, "long dip": G}[dip]
    assert whats(bench.reads([raws[-1] + 200] * 3)) == [H, H, R]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(("rise", "what"), [(303, GuardOutcome.CONFIRMED), (304, R)])
def test_the_first_step_of_a_coarse_counter_is_of_the_five_minutes_before_at_most(
    rise: int, what: GuardOutcome, swapped: bool
) -> None:
    bench = begun(50_000, **TIGHT)
    if swapped:
        bench.read(50_001)
        bench.guard.swap()
        bench.reads([700, 700, 700])
    raw = (700 if swapped else 50_000) + rise
    assert whats(bench.reads([raw, raw, raw])) == [H, H, what]


def test_a_rise_in_a_gap_that_was_false_is_taken_back_by_waiting() -> None:
    bench = begun(50_000)
    steps = [bench.read(1_050_000, after=7200), *bench.reads([1_050_000, 1_050_000])]
    assert whats(steps) == [H, H, GuardOutcome.CONFIRMED]
    steps = bench.reads([50_010, 50_010, 50_010, 50_020])
    assert whats(steps) == [H, H, G, GuardOutcome.WAITS]
    assert steps[-1].value == 1_050_000
    assert bench.guard.segment == 1


def test_a_late_step_that_was_false_is_taken_back_by_waiting() -> None:
    bench = begun(50_000, **TIGHT)
    bench.reads([50_000] * 60)
    steps = bench.reads([50_200, 50_200, 50_200, 50_003, 50_003, 50_003, 50_004])
    assert whats(steps) == [H, H, GuardOutcome.CONFIRMED, H, H, G, GuardOutcome.WAITS]
    assert steps[-1].value == 50_200


@pytest.mark.parametrize(("after", "booked"), [(300, 3), (301, 0)])
def test_what_it_shows_after_a_reset_is_booked_over_five_minutes_at_most(
    after: float, booked: int
) -> None:
    bench = begun(50_000, interval=300)
    bench.read(3, after=after)
    assert bench.reads([3, 3, 4])[-1].value == 50_000 + booked + 1


@pytest.mark.parametrize("old", [[3], [3, 3], [3, 3, 3]])
def test_nothing_of_the_meter_before_a_swap_is_held_against_the_new_one(old: list[float]) -> None:
    """Neither reads of a doubt that was open, nor where it was before a reset."""
    bench = begun(50_000)
    bench.reads(old)
    bench.guard.swap()
    assert not bench.guard.is_reset
    steps = bench.reads([4, 4, 5, 0, 6, 4e9])
    assert whats(steps) == [H, H, C, H, G, H]
    assert steps[4].value == 50_002
    bench.guard.swap()
    steps = bench.reads([49_990, 49_990, 49_990, 49_999, 50_001])
    assert whats(steps) == [H, H, C, C, C]
    assert steps[-1].value == 50_002 + 11


def test_a_first_read_that_needs_no_proof_begins_on_the_clock_of_its_time() -> None:
    bench = Bench(CounterGuard(**TIGHT))  # type: ignore[arg-type]
    first = bench.guard.begin(50_000, now=bench.now, time_ms=bench.time)
    assert (first.value, bench.guard.total) == (50_000, 50_000)
    assert whats(bench.reads([50_500, 50_500, 50_500])) == [H, H, R]


def test_a_total_that_is_ahead_by_a_rounding_does_not_wait() -> None:
    state = GuardState(total=50_000.0000004, raw=50_000.0, time=START)
    assert Bench(CounterGuard(state=state)).read(50_000.0) == (50_000.0000004, C, "")


@pytest.mark.parametrize("after", [10, 3600])
@pytest.mark.parametrize(("steps", "what"), [(2, C), (3, H)])
def test_a_float_may_move_by_two_of_its_own_steps(
    steps: int, what: GuardOutcome, after: float
) -> None:
    """At 2**30 Wh a float32 has steps of 128 Wh, of which 13 can flow between two reads."""
    bench = begun(2.0**30, **TIGHT)
    assert bench.read(2.0**30 + 128 * steps, after=after).what is what


def test_what_is_held_says_which_way_it_went() -> None:
    assert "fell, from 50000 Wh to 3 Wh, 1 of 3" in begun(50_000).read(3).text
    high = begun(50_000).read(4e9).text
    assert "rose faster than the meter can count, from 50000 Wh to 4000000000 Wh" in high


YEAR = 365.25 * 86_400
# The reads of an import: years may lie between two.
RARE: dict[str, float | bool] = {**TIGHT, "interval": float("inf"), "sparse": True}


@pytest.mark.parametrize(
    ("after", "raw", "what"),
    # A hundredth of the time at 1 Wh/s, or five minutes; and the step and the lateness.
    [(YEAR, 315_500, C), (YEAR, 316_000, H), (600, 303, C), (600, 304, H)],
)
def test_an_imported_counter_leaves_zero_by_a_hundredth_of_the_gap(
    after: float, raw: float, what: GuardOutcome
) -> None:
    bench = begun(0, **RARE)
    assert bench.read(raw, after=after).what is what


@pytest.mark.parametrize(("after_it", "what"), [(20, GuardOutcome.ROLLOVER), (21, R)])
def test_an_imported_counter_rolls_over_within_three_times_its_usual_rise(
    after_it: float, what: GuardOutcome
) -> None:
    guard = CounterGuard(**RARE, wraps=(1000.0,))  # type: ignore[arg-type]
    bench = Bench(guard)
    bench.reads([950, 950, 950])
    # 20 Wh an hour, and 10 up to the end: 60 are three times as much as usual, 10 and 50.
    bench.read(970, after=3600)
    bench.read(990, after=3600)
    assert bench.read(after_it, after=1800).what is H
    assert whats(bench.reads([after_it, after_it])) == [H, what]


@pytest.mark.parametrize("back", [10_000, 10_001])
def test_a_dip_ends_where_the_counter_is_back_at_what_it_showed(back: int) -> None:
    """Though 10 kWh could have flowed since."""
    bench = begun(10_000)
    bench.reads([3, 3, 3])
    steps = bench.reads([back] * 3)
    assert whats(steps) == [H, H, G]
    assert steps[-1].value == back


def test_where_it_starts_again_is_not_guessed_before_its_usual_rise_is_known() -> None:
    bench = Bench(CounterGuard(**RARE, wraps=(1000.0,)))  # type: ignore[arg-type]
    assert whats(bench.reads([999.6] * 3 + [0.3] * 3)) == [H, H, C, H, H, R]
    # Nor where two reads of one moment differ.
    bench = Bench(CounterGuard(**RARE, wraps=(1000.0,)))  # type: ignore[arg-type]
    bench.reads([998, 998, 998])
    bench.read(999, after=0)
    assert whats(bench.reads([0, 0, 0])) == [H, H, R]


@pytest.mark.parametrize(("rise", "expected"), [(0, [H, H, C]), (40_000, [H, H, H])])
def test_first_reads_agree_over_a_gap_where_they_hardly_differ(
    rise: int, expected: list[GuardOutcome]
) -> None:
    bench = Bench()
    steps = [bench.read(50_000), bench.read(50_000 + rise, after=3600), bench.read(50_000 + rise)]
    assert whats(steps) == expected


def test_what_a_total_is_above_its_counter_is_the_same_from_any_read() -> None:
    raws = [0.1 * n for n in range(1, 200)]
    # Doubles of 1e12 lie 0.00012 apart.
    assert {offset_of(1e12 + raw + 0.003, 1e12 + raw) for raw in raws} == {0.003}
    # Where doubles are fine enough, all six digits are kept.
    assert {offset_of(raw + 3.000_4, raw) for raw in raws} == {3.000_4}


@pytest.mark.parametrize(("power", "most"), [(10e6, 1e13), (1e9, 1e9 * 100 * 8766)])
def test_the_most_that_a_counter_can_show(power: float, most: float) -> None:
    assert largest_count(power) == most


@pytest.mark.parametrize(("raw", "most"), [(0, 303), (1, 604)])
def test_of_two_reads_one_may_follow_the_other_as_far_as_power_goes(raw: int, most: int) -> None:
    """In 600 s; but a counter that shows 0 may have begun at any time, or be no answer at all."""
    guard = CounterGuard(**TIGHT)  # type: ignore[arg-type]
    first = Read(raw, 0.0, START)
    reached = [guard.can_rise(first, Read(n, 600.0, START + 600_000)) for n in (most, most + 1)]
    assert reached == [True, False]


def test_how_many_reads_agreed_is_told_of_a_judgement_alone() -> None:
    bench = begun(50_000)
    assert bench.guard.agreed == 3
    bench.read(0)
    assert bench.guard.agreed == 0
    assert bench.read(50_001).what is G
    assert bench.guard.agreed == 0
    bench.reads([3, 4, 5])
    assert bench.guard.agreed == 3


def test_a_total_is_ahead_of_its_counter_until_that_is_there_also_after_a_reset() -> None:
    bench = begun(50_000)
    bench.reads([100, 100, 100, 101])
    assert (bench.guard.total, bench.guard.is_ahead) == (50_101, False)
    # A rise that was possible and false: the total waits at 50 901.
    bench.reads([901, 102, 102, 102])
    assert (bench.guard.total, bench.guard.is_ahead) == (50_901, True)
    bench.read(902)
    assert (bench.guard.total, bench.guard.is_ahead) == (50_902, False)


@pytest.mark.parametrize(("raw", "what"), [(303, C), (304, H)])
def test_a_counter_that_is_read_rarely_leaves_zero_by_five_minutes_worth(
    raw: int, what: GuardOutcome
) -> None:
    bench = begun(0, max_power=3600.0, resolution=1.0, interval=600.0)
    bench.read(0, after=600)
    assert bench.read(raw, after=600).what is what


@pytest.mark.parametrize(("rise", "what"), [(303, GuardOutcome.CONFIRMED), (304, R)])
def test_after_a_long_rest_a_counter_takes_five_minutes_worth_and_no_more(
    rise: int, what: GuardOutcome
) -> None:
    bench = begun(50_000, **TIGHT)
    assert set(whats(bench.reads([50_000] * 360))) == {C}
    assert whats(bench.reads([50_000 + rise] * 3)) == [H, H, what]


def test_a_state_knows_when_the_counter_last_moved() -> None:
    bench = begun(50_000)
    bench.read(50_001)
    moved = bench.time
    bench.reads([50_001, 50_001, 50_002])
    state = bench.guard.state()
    # From the read before the rise on: then it was still.
    assert (state.time, state.since) == (bench.time, bench.time - 10_000)
    assert state.since == moved + 20_000
    bench.restart()
    bench.reads([50_002])
    assert bench.guard.state().since == state.since


def test_a_counter_that_stood_for_long_forgets_how_it_got_there() -> None:
    bench = begun(50_000)
    bench.reads([50_001, 50_001])
    bench.guard.forget_rise()
    state = bench.guard.state()
    assert (state.raw, state.before, state.since) == (50_001, None, bench.time)
    # So a fall is no return to what was before the last rise.
    assert whats(bench.reads([50_000, 50_000, 50_000])) == [H, H, R]


def test_a_meter_beyond_its_limit_is_named_once() -> None:
    bench = begun(50_000, max_power=3600, resolution=1)
    steps = bench.reads(50_000 + 1000 * n for n in range(1, 40))
    assert whats(steps).count(GuardOutcome.STUCK) == 1
    assert whats(steps).index(GuardOutcome.STUCK) == READS_BEFORE_STUCK - 1
    assert values(steps) == [None] * 39


def test_a_swap_books_nothing_across_and_goes_on() -> None:
    bench = begun(50_000)
    bench.guard.swap()
    assert values(bench.reads([7_000_000, 7_000_010, 7_000_020, 7_000_021])) == [
        None,
        None,
        50_020,
        50_021,
    ]
    assert bench.guard.segment == 2


def test_a_restart_neither_loses_nor_books_twice() -> None:
    bench = begun(50_000)
    bench.reads([3, 4, 5])
    bench.restart(down=3 * 3600)
    assert bench.read(9_000) == (59_000, C, "")


@pytest.mark.parametrize("cut", [1, 2])
def test_a_reset_over_a_restart_is_booked_as_without(cut: int) -> None:
    bench = begun(50_000)
    steps = bench.reads([3, 4, 5][:cut])
    bench.restart()
    steps += bench.reads([3, 4, 5][cut:])
    assert (steps[2].value, steps[2].what) == (50_005, R)


@pytest.mark.parametrize("clock", [77.0, 9e6])
@pytest.mark.parametrize("cut", range(1, 9))
def test_a_restart_in_the_middle_of_a_doubt_changes_nothing(cut: int, clock: float) -> None:
    raws = [0, 0, 0, 0, 50_090, 50_095, 50_100, 50_101, 50_102]
    whole, broken = begun(50_000), begun(50_000)
    expected = whole.reads(raws)
    steps = broken.reads(raws[:cut])
    broken.restart(clock=clock)
    steps += broken.reads(raws[cut:])
    assert steps == expected


def test_after_a_restart_a_jump_past_where_it_was_before_a_reset_is_no_end_of_a_dip() -> None:
    """The other machine has been up for longer: that is no time in which energy flowed."""
    bench = begun(50_000)
    bench.reads([3, 3, 3])
    bench.restart(clock=9e6)
    assert whats(bench.reads([900_000_000] * 3)) == [H, H, R]


def test_a_rise_while_down_is_bound_by_the_time_it_was_down() -> None:
    bench = begun(50_000)
    bench.restart(down=60)
    assert bench.read(4e9).what is H


@pytest.mark.parametrize("back", [40, 7200, 86_400 * 365])
@pytest.mark.parametrize("rise", [5, 60_000, 2_000_000])
def test_a_rise_while_down_counts_though_the_clock_was_set_back_meanwhile(
    back: int, rise: int
) -> None:
    """Noted two hours ahead, or read by a clock that is not set: nobody knows how long it took."""
    bench = begun(50_000, max_power=100_000, interval=10)
    bench.restart(max_power=100_000, interval=10)
    bench.time -= back * 1000
    raws = [50_000 + rise + n for n in (0, 1, 2, 3)]
    steps = bench.reads(raws)
    assert steps[-1] == Step(raws[-1], C)
    assert R not in whats(steps)
    # A small one at once; a large one needs a proof, as after any gap.
    assert (steps[0].what is C) is (rise == 5)


def test_a_rise_by_more_than_a_day_can_bring_is_none_where_the_clock_was_set_back() -> None:
    bench = begun(50_000, max_power=1_000, interval=10)
    bench.restart(max_power=1_000, interval=10)
    bench.time -= 7_200_000
    # 24 kWh, and the resolution of a counter that counts by whole kWh.
    assert whats(bench.reads([50_000 + 26_000] * 3)) == [H, H, R]
    bench = begun(50_000, max_power=1_000, interval=10)
    bench.restart(max_power=1_000, interval=10)
    bench.time -= 7_200_000
    assert whats(bench.reads([50_000 + 25_000] * 3)) == [H, H, GuardOutcome.CONFIRMED]


def test_a_doubt_outlives_a_restart_under_a_clock_that_is_behind() -> None:
    bench = begun(50_000)
    bench.reads([3, 3])
    bench.restart()
    bench.time -= 3_600_000
    assert whats(bench.reads([3, 50_001])) == [R, H]


def test_a_saved_state_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError):
        GuardState.of({"totals": 1})


@dataclass
class Meter:
    """A true meter, and what is knowable of the energy that it delivered."""

    raw: int
    wrap: int
    delivered: int = 0

    def deliver(self, energy: int) -> None:
        self.raw = (self.raw + energy) % self.wrap
        self.delivered += energy


BELOW = 2777  # Wh that a second may bring at 10 MW
GLITCHES = st.sampled_from(
    [
        lambda raw: 0,
        lambda raw: raw * 0.9,
        lambda raw: raw - 1,
        lambda raw: raw - 0.1,
        # More than the longest gaps here could bring.
        lambda raw: raw + 2**33,
        lambda raw: 0xFFFFFFFFFF - raw,
        lambda raw: None,
        lambda raw: float("nan"),
        lambda raw: raw & 0xFFFF,
    ]
)
OPS = st.one_of(
    st.tuples(st.just("poll"), st.integers(0, 20_000), st.integers(1, 20)),
    st.tuples(st.just("gap"), st.integers(0, 20_000_000), st.integers(8000, 900_000)),
    st.tuples(st.just("glitch"), GLITCHES, st.integers(1, 20)),
    st.tuples(st.just("gap_glitch"), st.integers(40_000, 2**33), st.integers(200, 900_000)),
    st.tuples(st.just("reset"), st.integers(0, 5_000), st.integers(2, 20)),
    st.tuples(st.just("restart"), st.booleans(), st.integers(0, 20)),
)


class Trouble:
    """Lets a true meter live through `ops`, and checks the guard after each."""

    def __init__(self, start: int, wrap: int) -> None:
        self.meter = Meter(start, wrap)
        self.bench = Bench(CounterGuard(wrap=wrap))
        self.wrap, self.start = wrap, start
        self.wrong = 0
        self.settle = 0
        self.last = 0.0
        self.held = self.open = False
        self.good()
        self.good()
        self.good()

    def good(self, after: float = 10.0) -> Step:
        self.wrong = 0
        return self.check(self.bench.read(self.meter.raw, after))

    def check(self, step: Step) -> Step:
        truth = self.start + self.meter.delivered
        self.held = step.value is None
        # Until then, nobody can tell a second wrong read from what was delivered in a gap.
        self.open = self.open and self.held
        if step.value is not None:
            assert self.last <= step.value <= truth
            self.last = step.value
        if step.value is not None and self.settle == 0:
            assert step.value == truth
        return step

    def do(self, kind: str, what: object, seconds: int) -> None:
        getattr(self, f"do_{kind}")(what, seconds)

    def do_poll(self, energy: int, seconds: int) -> None:
        self.meter.deliver(min(energy, seconds * BELOW))
        self.good(seconds)
        self.settle = max(self.settle - 1, 0)

    def do_gap(self, energy: int, seconds: int) -> None:
        # In the first moments after a reset, a long gap can hide what happened: a rule of its own.
        if not self.settle:
            self.do_poll(energy, seconds)

    def do_glitch(self, glitch: object, seconds: int) -> None:
        # A third wrong value that agrees with two others is, to any reader, the truth.
        if self.wrong < 2 and not self.settle and not self.open and self.meter.raw > 1_000_000:
            self.wrong += 1
            raw = glitch(self.meter.raw)  # type: ignore[operator]
            assert self.check(self.bench.read(raw, seconds)).value is None

    def do_gap_glitch(self, too_high: int, seconds: int) -> None:
        """The first read after a gap is one that the time would allow."""
        if not self.settle and self.wrong == 0 and not self.open:
            self.meter.deliver(min(5000, self.wrap - 1 - self.meter.raw))
            wrong = self.meter.raw + too_high
            assert self.check(self.bench.read(wrong, seconds)).value is None
            self.open = True

    def do_reset(self, energy: int, seconds: int) -> None:
        """Right after a read that counted, so that no energy is lost; far from wrap and from 0."""
        far = 30_000_000 < self.meter.raw < self.wrap - 30_000_000
        if far and not self.settle and not self.held:
            self.meter.raw = 0
            self.settle = 4
            self.do_poll(energy, seconds)
            self.do_poll(1, 10)
            # It never sticks: the third read goes on, and all that it shows is booked.
            assert self.good().value is not None
            self.do_poll(1, 10)
            self.settle = 0
            self.do_poll(0, 10)

    def do_restart(self, _: object, seconds: int) -> None:
        self.bench.restart(down=seconds, wrap=self.wrap)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([(50_000_000, 2**40), (2**32 - 9_000_000, 2**32), (9 * 10**8, 10**9)]),
    st.lists(OPS, min_size=5, max_size=60),
)
def test_a_true_meter_under_all_kinds_of_trouble(
    of: tuple[int, int], ops: list[tuple[str, object, int]]
) -> None:
    trouble = Trouble(*of)
    for op in ops:
        trouble.do(*op)
    # Whatever was open is settled by three reads.
    for _ in range(2):
        trouble.good()
    assert trouble.good().value == trouble.start + trouble.meter.delivered


@settings(max_examples=150, deadline=None)
@given(st.lists(st.floats(allow_nan=True) | st.integers(0, 2**32), max_size=40), st.booleans())
def test_whatever_is_read_the_total_never_falls(raws: list[float], wraps: bool) -> None:
    bench = Bench(CounterGuard(wrap=2.0**32 if wraps else None))
    totals = [v for v in values(bench.reads(raws)) if v is not None]
    assert totals == sorted(totals)
