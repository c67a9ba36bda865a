import pytest

from meterd.config.alerts import RuleSettings
from tests.config.judge import MINIMAL, problem, problems, settings

RULE = "alerts: {{rules: {{r: {{quantity: voltage.l1, {}}}}}}}\n"
HOOK = "alerts: {{hooks: {{h: {{type: webhook, url: {}}}}}}}\n"


def rule(text: str) -> RuleSettings:
    return settings(RULE.format(text) + MINIMAL).alerts.rules["r"]


def test_a_rule_has_sensible_defaults() -> None:
    made = rule("above: 253")
    assert (made.device, made.notify, made.for_, made.severity) == ((), (), 0.0, "warning")
    assert (made.equals, made.above, made.below, made.text) == (None, 253.0, None, None)


def test_one_device_or_several() -> None:
    assert rule("above: 1, device: main").device == ("main",)
    assert rule("above: 1, device: [main, main]").device == ("main", "main")


def test_a_status_may_be_compared_with_zero() -> None:
    assert rule("equals: 0").equals == 0.0


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ("for: 1s", "has no condition"),
        ("above: null", "has no condition"),
        ("above: 1, below: 2", "has above and below"),
        ("above: 1, below: 2, equals: 3", "has equals and above and below"),
    ],
)
def test_exactly_one_condition_is_needed(keys: str, what: str) -> None:
    found = problem(RULE.format(keys))
    assert found.code == "C045"
    assert found.what == f"alerts.rules.r: {what}"


def test_a_condition_is_missed_beside_other_mistakes_too() -> None:
    found = problems(RULE.format("for: 5") + MINIMAL)
    assert [p.code for p in found] == ["C045", "C025"]


@pytest.mark.parametrize("keys", ["above: 5, clear_below: 5", "below: 5, clear_above: 5.5"])
def test_a_rule_may_clear_at_another_value(keys: str) -> None:
    assert rule(keys).quantity == "voltage.l1"


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ("above: 5, clear_below: 6", "must not be higher than `above: 5`, not 6"),
        ("below: 5, clear_above: 4", "must not be lower than `below: 5`, not 4"),
        ("below: 5, clear_below: 4", "goes with `above:`, which this rule does not have"),
        ("above: 5, clear_above: 4", "goes with `below:`, which this rule does not have"),
        ("equals: 1, clear_above: 4", "goes with `below:`, which this rule does not have"),
    ],
)
def test_a_value_to_clear_at_must_make_sense(keys: str, what: str) -> None:
    found = problem(RULE.format(keys))
    assert found.code == "C046"
    assert found.what.endswith(what)


@pytest.mark.parametrize("value", ["true", ".nan", ".inf", "1e999", "high", "[1]"])
def test_a_limit_is_a_finite_number(value: str) -> None:
    assert problem(RULE.format(f"above: {value}")).code in ("C022", "C023")


def test_an_own_quantity_is_known_by_its_prefix() -> None:
    text = "alerts: {rules: {r: {quantity: x.pool.ph, above: 8}}}\n" + MINIMAL
    assert settings(text).alerts.rules["r"].quantity == "x.pool.ph"


def test_a_text_is_one_line() -> None:
    assert problem(RULE.format(r'above: 1, text: "a\nb"')).code == "C026"
    assert problem(RULE.format(f"above: 1, text: {'x' * 501}")).code == "C023"


@pytest.mark.parametrize(
    "url",
    [
        "''",
        "h/alert",
        "'http://'",
        "'http:///x'",
        "'ftp://h'",
        "'http://h:99999'",
        "'http://h/a b'",
    ],
)
def test_a_hook_needs_a_whole_http_url(url: str) -> None:
    assert problem(HOOK.format(url)).code == "C038"


@pytest.mark.parametrize("headers", [r'{A: "b\r\nC: d"}', "{'A:': b}", "{'': b}", "no colon"])
def test_a_header_cannot_smuggle_another(headers: str) -> None:
    assert problem(HOOK.format(f"'http://h', headers: {headers}")).code == "C039"


def test_a_hook_of_an_unknown_type_is_told_the_types() -> None:
    found = problem("alerts: {hooks: {h: {type: webhok, url: 'http://h'}}}\n")
    assert (found.code, found.hint) == ("C024", "did you mean webhook?")


def test_names_of_rules_and_hooks_are_checked() -> None:
    rules = "{'a b': {quantity: device.up, equals: 0}}"
    hooks = "{'/': {type: webhook, url: 'http://h'}}"
    text = f"alerts: {{rules: {rules}, hooks: {hooks}}}\n"
    found = problems(text + MINIMAL)
    assert [(p.code, p.hint) for p in found] == [("C030", "write a-b"), ("C030", "")]


def test_unknown_names_get_a_near_one() -> None:
    text = """\
    devices: {main: {driver: open, link: "tcp://h"}}
    alerts:
      rules:
        r: {quantity: voltage.l1, above: 1, device: mian, notify: [opps, ops]}
        q: {quantity: volage.l1, above: 1, severity: critcal}
      hooks: {ops: {type: webhook, url: "http://h"}}
    """
    assert [(p.line, p.code, p.hint.split(" or ")[0]) for p in problems(text)] == [
        (4, "C042", "did you mean main?"),
        (4, "C043", "did you mean ops?"),
        (5, "C044", "did you mean voltage.l1"),
        (5, "C024", "did you mean critical?"),
    ]
