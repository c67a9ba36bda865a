import pytest

from meterd.config.settings import DeviceSettings
from tests.config.judge import MINIMAL, problem, settings


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1000ms", 1), ("10s", 10), ("1m", 60), ("59s999ms", 59.999), ("1.5s", 1.5)],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert settings(f"store: {{commit: {text}}}\n{MINIMAL}").store.commit == seconds


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("10", "add the unit: 10s is seconds, 10m is minutes"),
        ("0.5", "add the unit: 0.5s is seconds, 0.5m is minutes"),
        ("'10'", "add the unit: 10s is seconds, 10m is minutes"),
        ("10 s", "write 10s"),
        ("10 sec", "write 10s"),
        ("10S", "write 10s"),
        ("2minutes", "write 2m"),
        ("500 millis", "write 500ms"),
        ("3 months", "write 90d: the units are ms, s, m, h and d"),
        ("5w", "write 35d: the units are ms, s, m, h and d"),
        ("2y", "write 730d: the units are ms, s, m, h and d"),
        ("1.5 years", "write 547.5d: the units are ms, s, m, h and d"),
        ("5 fortnights", "the units are ms, s, m, h and d"),
        ("30s1m", "write it as in 500ms, 10s, 5m, 1h or 400d"),
        ("1s1s", "write it as in 500ms, 10s, 5m, 1h or 400d"),
        ("-5s", "write it as in 500ms, 10s, 5m, 1h or 400d"),
        ("soon", "write it as in 500ms, 10s, 5m, 1h or 400d"),
        ("1_0s", "write it as in 500ms, 10s, 5m, 1h or 400d"),
        ("٣s", "write it as in 500ms, 10s, 5m, 1h or 400d"),
        ("true", "write it as in 500ms, 10s, 5m, 1h or 400d"),
        ("", "write it as in 500ms, 10s, 5m, 1h or 400d"),
    ],
)
def test_what_is_no_duration_is_refused_with_what_was_meant(text: str, hint: str) -> None:
    found = problem(f"store: {{commit: {text} }}\n")
    assert found.code == "C025"
    assert found.what.startswith("store.commit: must be a duration with its unit, not ")
    assert found.hint == hint


@pytest.mark.parametrize(
    ("where", "low", "high"),
    [
        ("store: {{commit: {}}}\n", "999ms", "60.001s"),
        ("store: {{keep: {{raw: {}}}}}\n", "59m", "36501d"),
        ("links: {{b: {{url: 'tcp://h', gap: {}}}}}\n", None, "10001ms"),
        ("links: {{b: {{url: 'tcp://h', timeout: {}}}}}\n", "9ms", "61s"),
        ("links: {{b: {{url: 'tcp://h', connect_timeout: {}}}}}\n", "99ms", "61s"),
        ("devices: {{m: {{driver: open, link: 'tcp://h', interval: {}}}}}\n", "99ms", "25h"),
        ("devices: {{m: {{driver: open, link: 'tcp://h', timeout: {}}}}}\n", "9ms", "61s"),
        ("alerts: {{hooks: {{h: {{type: webhook, url: 'http://h', timeout: {}}}}}}}\n", "0s", "2m"),
        (
            "alerts: {{rules: {{r: {{quantity: device.up, equals: 0, for: {}}}}}}}\n",
            None,
            "30d1ms",
        ),
    ],
)
def test_every_duration_has_its_limits(where: str, low: str | None, high: str) -> None:
    for text in filter(None, (low, high)):
        found = problem(where.format(text))
        assert found.code == "C023"
        assert "must be from " in found.what
        assert found.what.endswith(f"not '{text}'")


def test_code_may_give_seconds_as_numbers() -> None:
    assert DeviceSettings(driver="d", link="tcp://h", interval=0.5).interval == 0.5
    assert DeviceSettings(driver="d", link="tcp://h").timeout is None
