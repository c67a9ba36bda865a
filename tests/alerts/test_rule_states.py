"""Rules: when an alert pends, fires and is resolved, and when nothing may change."""

import itertools
import json
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.alerts.rule import Rule
from meterd.alerts.rule_states import RESOLVED_KEEP_MAX, RESOLVED_KEEP_S, RuleStates
from meterd.errors import ConfigError
from meterd.model.alert import Alert, AlertState
from meterd.model.sample import Poll, Quality
from tests.alerts.polls import START_MS, down, other, poll

PENDING, FIRING = AlertState.PENDING, AlertState.FIRING
RESOLVED, INACTIVE = AlertState.RESOLVED, AlertState.INACTIVE

HIGH = Rule("high", "voltage.l1", above=253, hold=10)
AT_ONCE = Rule("high", "voltage.l1", above=253)
STEADY = Rule("high", "voltage.l1", above=253, clear_below=250)


def rules(*given: Rule) -> RuleStates:
    numbers = itertools.count(1)
    return RuleStates(given, new_id=lambda: f"a{next(numbers)}")


def played(engine: RuleStates, *values: float | None, step: float = 1.0) -> list[list[str]]:
    """The states that each of these values, `step` seconds apart, leads to."""
    found = []
    for number, value in enumerate(values):
        changes = engine.take(poll(value, number * step), 100 + number * step)
        found.append([change.state.value for change in changes])
    return found


def states(changes: list[Alert]) -> list[AlertState]:
    return [change.state for change in changes]


@pytest.mark.parametrize(
    ("rule", "value", "holds", "clears"),
    [
        (Rule("r", "q", above=253), 253.0, False, True),
        (Rule("r", "q", above=253), 253.1, True, False),
        (Rule("r", "q", below=207), 207.0, False, True),
        (Rule("r", "q", below=207), 206.9, True, False),
        (Rule("r", "q", equals=1), 1.0, True, False),
        (Rule("r", "q", equals=1), 0.0, False, True),
        (Rule("r", "q", equals=0), 0.0, True, False),
        (Rule("r", "q", equals=1), 0.999, False, True),
        (Rule("r", "q", above=253, clear_below=250), 251.0, False, False),
        (Rule("r", "q", above=253, clear_below=250), 250.0, False, False),
        (Rule("r", "q", above=253, clear_below=250), 249.9, False, True),
        (Rule("r", "q", below=207, clear_above=210), 208.0, False, False),
        (Rule("r", "q", below=207, clear_above=210), 210.1, False, True),
        (Rule("r", "q", above=0), 0.1, True, False),
        (Rule("r", "q", below=0), -0.1, True, False),
    ],
)
def test_what_holds_and_what_clears(rule: Rule, value: float, holds: bool, clears: bool) -> None:
    assert (rule.holds(value), rule.clears(value)) == (holds, clears)


@pytest.mark.parametrize("keys", [{}, {"above": 1, "below": 2}, {"equals": 0, "above": 0}])
def test_a_rule_has_exactly_one_condition(keys: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="exactly one"):
        Rule("r", "q", **keys)  # type: ignore[arg-type]


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        RuleStates([HIGH, HIGH])


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        (AT_ONCE, [250, 254, 255, 253, 250], [[], ["firing"], [], ["resolved"], []]),
        (HIGH, [254, 254, 250], [["pending"], [], ["inactive"]]),
        (STEADY, [254, 251, 254, 250, 249], [["firing"], [], [], [], ["resolved"]]),
        (STEADY, [251, 249], [[], []]),
        # Hysteresis holds what fires, not what pends.
        (
            Rule("high", "voltage.l1", above=253, clear_below=250, hold=10),
            [254, 251],
            [["pending"], ["inactive"]],
        ),
        (AT_ONCE, [254, 250, 254, 250], [["firing"], ["resolved"], ["firing"], ["resolved"]]),
        (AT_ONCE, [None, 254, None, 250], [[], ["firing"], [], ["resolved"]]),
        (AT_ONCE, [math.nan, math.inf, 254], [[], [], ["firing"]]),
    ],
)
def test_states_by_values(
    rule: Rule, values: list[float | None], expected: list[list[str]]
) -> None:
    assert played(rules(rule), *values) == expected


def test_a_condition_fires_once_it_held_long_enough() -> None:
    engine = rules(HIGH)
    assert played(engine, *[254.0] * 12) == [["pending"], *[[]] * 9, ["firing"], []]


def test_time_alone_ripens_between_polls() -> None:
    engine = rules(HIGH)
    engine.take(poll(254.0), 100)
    assert engine.tick(109.9, START_MS + 9_900) == []
    (fired,) = engine.tick(110, START_MS + 10_000)
    assert fired.state is FIRING
    assert (fired.since, fired.updated) == (START_MS, START_MS + 10_000)
    assert engine.tick(111, START_MS + 11_000) == []


def test_a_flapping_value_never_fires_when_it_never_holds() -> None:
    engine = rules(HIGH)
    for number in range(100):
        changes = engine.take(poll(254.0 if number % 9 else 250.0, number), 100.0 + number)
        changes += engine.tick(100.5 + number, START_MS)
        assert FIRING not in states(changes)


def test_with_hysteresis_a_flapping_value_fires_once() -> None:
    engine = rules(STEADY)
    counts: Counter[str] = Counter()
    for found in played(engine, *[254.0, 251.0] * 50):
        counts.update(found)
    assert counts == {"firing": 1}


CALM = Rule("high", "voltage.l1", above=253, clear_below=250, clear_hold=5)


def test_what_flaps_is_over_once_it_was_clear_for_long_enough() -> None:
    engine = rules(CALM)
    found = played(engine, 254, *[249, 249, 249, 254] * 20, *[249] * 6, 249)
    assert [one for changes in found for one in changes] == ["firing", "resolved"]
    assert found[-2] == ["resolved"]


def test_what_is_between_the_limits_is_not_clear() -> None:
    assert played(rules(CALM), 254, 249, 249, 251, *[249] * 5) == [["firing"], *[[]] * 8]


def test_time_alone_ends_what_is_clear() -> None:
    engine = rules(CALM)
    played(engine, 254, 249)
    assert engine.tick(105.9, START_MS) == []
    (ended,) = engine.tick(106, START_MS + 6000)
    assert (ended.state, ended.updated) == (RESOLVED, START_MS + 6000)
    assert engine.tick(107, START_MS) == []


@pytest.mark.parametrize("blind", [poll(None), down(), poll(249.0, quality=Quality.SUSPECT)])
def test_what_is_not_known_does_not_end_what_was_clear(blind: Poll) -> None:
    engine = rules(CALM)
    played(engine, 254, 249)
    engine.take(blind, 102)
    assert engine.tick(120, START_MS) == []
    assert states(engine.take(poll(249.0), 121)) == [RESOLVED]


def test_being_clear_goes_on_over_a_restart() -> None:
    engine = rules(CALM)
    played(engine, 254, 249, 249, 249)
    after = rules(CALM)
    after.restore(engine.snapshot(103), 7)
    assert after.tick(20, START_MS) == []
    assert after.take(poll(249.0), 9.9) == []
    assert states(after.take(poll(249.0), 10)) == [RESOLVED]


def test_a_state_noted_before_there_was_such_a_time_is_read() -> None:
    engine = rules(CALM)
    played(engine, 254)
    saved = engine.snapshot(103)
    for one in saved:
        del one["clear"]
    after = rules(CALM)
    after.restore(saved, 7)
    assert [alert.state for alert in after.active()] == [FIRING]


def test_one_alert_keeps_its_id_and_the_next_has_another() -> None:
    engine = rules(AT_ONCE)
    ids = [
        change.id
        for number, value in enumerate([254.0, 250.0, 254.0, 250.0])
        for change in engine.take(poll(value, number), number)
    ]
    assert ids == ["a1", "a1", "a2", "a2"]
    engine = rules(HIGH)
    ids = [
        change.id
        for now, value in ((0, 254.0), (10, 254.0), (11, 250.0))
        for change in engine.take(poll(value, now), now)
    ]
    assert ids == ["a1"] * 3


def test_without_a_source_of_ids_they_are_unique() -> None:
    engine = RuleStates([AT_ONCE])
    ids = {engine.take(poll(254.0, device=f"d{n}"), 0)[0].id for n in range(50)}
    assert len(ids) == 50


def test_an_alert_carries_what_people_need() -> None:
    rule = Rule("high", "voltage.l1", above=253, severity="critical")
    (alert,) = rules(rule).take(poll(254.5, 3.0), 7)
    assert alert == Alert(
        id="a1",
        rule="high",
        device="main",
        quantity="voltage.l1",
        state=FIRING,
        severity="critical",
        value=254.5,
        unit="V",
        since=START_MS + 3000,
        updated=START_MS + 3000,
    )


def test_devices_have_states_of_their_own_and_others_are_not_watched() -> None:
    engine = rules(Rule("high", "voltage.l1", ("a", "b"), above=253))
    assert len(engine.take(poll(254.0, device="a"), 0)) == 1
    assert engine.take(poll(250.0, device="b"), 1) == []
    assert engine.take(poll(254.0, device="c"), 2) == []
    assert [alert.device for alert in engine.active()] == ["a"]


def test_several_rules_may_watch_one_quantity() -> None:
    engine = rules(AT_ONCE, Rule("very-high", "voltage.l1", above=260, severity="critical"))
    assert [change.rule for change in engine.take(poll(265.0), 0)] == ["high", "very-high"]


# -- what is not known -------------------------------------------------------------------------

NO_EVIDENCE = [
    poll(None, 5),
    poll(None, 5, quality=Quality.INVALID),
    poll(250.0, 5, quality=Quality.SUSPECT),
    poll(999.0, 5, quality=Quality.SUSPECT),
    poll(250.0, 5, quality=Quality.STALE),
    down(5),
]


@pytest.mark.parametrize("blind", NO_EVIDENCE)
def test_what_is_not_known_starts_nothing(blind: Poll) -> None:
    assert rules(AT_ONCE).take(blind, 0) == []


@pytest.mark.parametrize("blind", NO_EVIDENCE)
def test_what_is_not_known_ends_nothing(blind: Poll) -> None:
    engine = rules(AT_ONCE)
    engine.take(poll(254.0), 100)
    assert engine.take(blind, 105) == []
    (alert,) = engine.active()
    assert (alert.state, alert.value) == (FIRING, 254.0)


@pytest.mark.parametrize("blind", NO_EVIDENCE)
def test_what_is_not_known_ripens_nothing_but_does_not_start_over(blind: Poll) -> None:
    engine = rules(HIGH)
    engine.take(poll(254.0), 100)
    assert engine.take(blind, 105) == []
    assert engine.tick(500, START_MS) == []
    assert states(engine.active()) == [PENDING]
    assert states(engine.take(poll(254.0, 500), 600)) == [FIRING]


def test_evidence_against_it_ends_a_pending_alert_after_a_blind_time() -> None:
    engine = rules(HIGH)
    engine.take(poll(254.0), 100)
    engine.take(down(5), 105)
    assert states(engine.take(poll(250.0, 20), 120)) == [INACTIVE]
    assert engine.active() == []


def test_a_quantity_that_is_read_less_often_still_holds_in_between() -> None:
    engine = rules(HIGH)
    engine.take(poll(254.0), 100)
    assert engine.take(other(5), 105) == []
    assert states(engine.tick(110, START_MS)) == [FIRING]


def test_an_estimated_value_is_evidence() -> None:
    changes = rules(AT_ONCE).take(poll(254.0, quality=Quality.ESTIMATED), 0)
    assert states(changes) == [FIRING]


def test_a_device_that_is_gone_is_an_ordinary_alert() -> None:
    engine = rules(Rule("gone", "device.up", equals=0, hold=120))
    assert states(engine.take(down(0), 100)) == [PENDING]
    assert engine.take(down(60), 160) == []
    assert states(engine.tick(220, START_MS)) == [FIRING]
    assert states(engine.take(other(130), 230)) == [RESOLVED]


# -- clocks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-3600, 86_400])
def test_a_clock_that_is_set_changes_no_duration(jump: float) -> None:
    engine = rules(HIGH)
    engine.take(poll(254.0, 0), 100)
    assert engine.take(poll(254.0, jump + 5), 105) == []
    assert engine.tick(109, START_MS + round(jump * 1000)) == []
    assert states(engine.take(poll(254.0, jump + 10), 110)) == [FIRING]
    assert engine.active()[0].since == START_MS


# -- what people see ---------------------------------------------------------------------------


def test_active_shows_the_newest_change_first_and_the_last_value() -> None:
    engine = rules(HIGH, Rule("low", "voltage.l1", below=300))
    engine.take(poll(254.0, 0), 100)
    engine.take(poll(255.0, 10), 110)
    first, second = engine.active()
    assert (first.rule, first.state) == ("high", FIRING)
    assert (second.rule, second.state) == ("low", FIRING)
    assert (second.value, second.updated) == (255.0, START_MS + 10_000)


def test_resolved_alerts_are_remembered_for_a_while() -> None:
    engine = rules(AT_ONCE)
    played(engine, 254.0, 250.0)
    engine.tick(101 + RESOLVED_KEEP_S, START_MS)
    assert states(engine.active()) == [RESOLVED]
    engine.tick(101.1 + RESOLVED_KEEP_S, START_MS)
    assert engine.active() == []


def test_what_was_resolved_is_shown_for_the_rest_of_its_time_after_a_restart() -> None:
    before, after = rules(AT_ONCE), rules(AT_ONCE)
    played(before, 254.0, 250.0)
    # Resolved at 101, noted five minutes later; the clock of the next start begins at 7.
    after.restore(json.loads(json.dumps(before.snapshot_resolved(401))), 7)
    assert [(alert.id, alert.state) for alert in after.active()] == [("a1", RESOLVED)]
    after.tick(7 + 600, START_MS)
    assert states(after.active()) == [RESOLVED]
    # It is over: the next is another alert.
    assert states(after.take(poll(254.0), 7 + 600)) == [FIRING]
    after.tick(7 + 600.1, START_MS)
    assert states(after.active()) == [FIRING]


@pytest.mark.parametrize(
    "now", [[], [Rule("high", "voltage.l1", above=260)], [Rule("high", "voltage.l2", above=253)]]
)
def test_an_alert_of_a_rule_that_is_another_after_the_restart_is_left_out(now: list[Rule]) -> None:
    before, after = rules(AT_ONCE), rules(*now)
    played(before, 254.0)
    after.restore(json.loads(json.dumps(before.snapshot(101))), 7)
    assert after.active() == []


def test_not_more_resolved_alerts_than_the_limit_are_remembered() -> None:
    engine = rules(AT_ONCE)
    for number in range(1005):
        engine.take(poll(254.0), number / 10)
        engine.take(poll(250.0), number / 10)
    assert len(engine.active()) == RESOLVED_KEEP_MAX == 1000


# -- reloads -----------------------------------------------------------------------------------


def test_a_reload_keeps_the_alerts_of_unchanged_rules() -> None:
    engine = rules(HIGH, Rule("low", "voltage.l1", below=300))
    engine.take(poll(254.0), 100)
    before = engine.active()
    assert engine.replace([HIGH, Rule("low", "voltage.l1", below=300)], 105, START_MS) == []
    assert engine.active() == before
    assert states(engine.tick(110, START_MS)) == [FIRING]


def test_a_reload_may_change_what_a_rule_says_and_whom_it_tells() -> None:
    engine = rules(AT_ONCE)
    engine.take(poll(254.0), 100)
    louder = Rule("high", "voltage.l1", above=253, severity="critical", notify=("ops",))
    assert engine.replace([louder], 105, START_MS) == []
    (ended,) = engine.take(poll(250.0, 10), 110)
    assert (ended.id, ended.severity, ended.state) == ("a1", "critical", RESOLVED)


@pytest.mark.parametrize(
    ("after", "devices"),
    [
        ([], None),
        ([Rule("high", "voltage.l1", above=260)], None),
        ([Rule("high", "voltage.l1", ("others",), above=253)], None),
        ([AT_ONCE], ["others"]),
    ],
)
def test_what_loses_its_rule_or_device_is_over(
    after: list[Rule], devices: list[str] | None
) -> None:
    engine = rules(AT_ONCE)
    engine.take(poll(254.0), 100)
    (ended,) = engine.replace(after, 105, START_MS + 5000, devices)
    assert (ended.id, ended.state, ended.updated) == ("a1", RESOLVED, START_MS + 5000)
    assert states(engine.active()) == [RESOLVED]


def test_a_pending_alert_that_loses_its_rule_is_told_to_nobody() -> None:
    engine = rules(HIGH)
    engine.take(poll(254.0), 100)
    assert states(engine.replace([], 105, START_MS)) == [INACTIVE]
    assert engine.active() == []


def test_new_rules_watch_devices_known_before() -> None:
    engine = rules()
    assert engine.take(poll(254.0), 100) == []
    engine.replace([AT_ONCE], 101, START_MS)
    assert states(engine.take(poll(254.0), 102)) == [FIRING]


# -- whatever happens --------------------------------------------------------------------------

HAPPENINGS = st.lists(
    st.tuples(
        st.sampled_from(["high", "between", "low", "none", "suspect", "down", "other", "tick"]),
        st.integers(0, 8),
        st.integers(-5000, 5000),
    ),
    max_size=60,
)
POLLS = {
    "high": poll(254.0),
    "between": poll(251.0),
    "low": poll(249.0),
    "none": poll(None),
    "suspect": poll(249.0, quality=Quality.SUSPECT),
    "down": down(),
    "other": other(),
}


@given(HAPPENINGS, st.integers(0, 12), st.booleans())
def test_alerts_fire_after_their_time_and_end_once(
    happenings: list[tuple[str, int, int]], hold: int, hysteresis: bool
) -> None:
    clear = 250.0 if hysteresis else None
    engine = rules(Rule("r", "voltage.l1", above=253, clear_below=clear, hold=hold))
    now = 0
    held_since: int | None = None
    seen: dict[str, list[AlertState]] = {}
    for what, pause, jump in happenings:
        now += pause
        if what == "high" and held_since is None:
            held_since = now
        if what in ("low", "between"):
            held_since = None
        changes = (
            engine.tick(now, START_MS + jump) if what == "tick" else engine.take(POLLS[what], now)
        )
        for change in changes:
            seen.setdefault(change.id, []).append(change.state)
            if change.state is FIRING:
                assert held_since is not None
                assert now - held_since >= hold
                assert what in ("high", "tick")
            if change.state is RESOLVED:
                assert what == "low" or (what == "between" and not hysteresis)
    for history in seen.values():
        assert history in (
            [PENDING],
            [PENDING, INACTIVE],
            [PENDING, FIRING],
            [PENDING, FIRING, RESOLVED],
            [FIRING],
            [FIRING, RESOLVED],
        )
        assert (FIRING in history[:1]) == (hold == 0)
    firing = [alert for alert in engine.active() if alert.state is FIRING]
    assert len(firing) <= 1
    assert {a.id for a in firing} == {i for i, history in seen.items() if history[-1] is FIRING}
