import pytest

from meterd.api.promapi.params import EARLIEST, LATEST, Params, duration, moment
from meterd.api.promapi.reply import Trouble
from meterd.api.promapi.rules import go_float


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("4", 4000),
        ("1760000000.123", 1_760_000_000_123),
        ("1e9", 1_000_000_000_000),
        (".5", 500),
        ("-10", -10_000),
        ("+10", 10_000),
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01t00:00:01.5z", 1500),
        ("1970-01-01T10:00:00.123456789+10:00", 123),
        ("1760000000000", 1_760_000_000_000_000),
        ("1e300", LATEST),
        ("-1e300", EARLIEST),
        ("-292273086-05-16T16:47:06Z", EARLIEST),
        ("292277025-08-18T07:12:54.999999999Z", LATEST),
    ],
)
def test_a_moment_is_seconds_or_rfc_3339(text: str, ms: int) -> None:
    assert moment(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "NaN", "Inf", "-inf", "1e999", "1_0", " 1", "1 ", "0x10", "1e", "--1", "٣"),
        *("now", "2026-13-01T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00"),
        "2026-01-01T25:00:00Z",
    ],
)
def test_what_is_no_moment_is_told_apart(text: str) -> None:
    assert moment(text) is None


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("15", 15_000),
        ("0.5", 500),
        ("15s", 15_000),
        ("1h30m", 5_400_000),
        ("1m0s", 60_000),
        ("1h0m0s", 3_600_000),
        ("250ms", 250),
        ("1d", 86_400_000),
        ("1y2w", 31_536_000_000 + 1_209_600_000),
        ("0", 0),
        ("-5", -5000),
        ("0.0001", 0),
    ],
)
def test_a_duration_is_seconds_or_go_units(text: str, ms: int) -> None:
    assert duration(text) == ms


@pytest.mark.parametrize("text", ["", "x", "5x", "1m1h", "-5m", "1.5h", "m", "9" * 40 + "y", "NaN"])
def test_what_is_no_duration_is_told_apart(text: str) -> None:
    assert duration(text) is None


def test_the_first_of_several_values_counts_and_the_form_comes_first() -> None:
    params = Params([("a", "form"), ("a", "url"), ("match[]", "x"), ("match[]", "y")])
    assert (params.one("a"), params.one("b")) == ("form", "")
    assert list(params.all("match[]")) == ["x", "y"]


def test_a_refusal_quotes_what_was_sent_but_not_all_of_it() -> None:
    with pytest.raises(Trouble) as caught:
        Params([("time", 'a"\\' + "b" * 500)]).moment("time", 0)
    assert 'cannot parse "a\\"\\\\bbb' in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1e+00"),
        (253.4, "2.534e+02"),
        (-0.001, "-1e-03"),
        (1e100, "1e+100"),
        (0.1 + 0.2, "3.0000000000000004e-01"),
        (0.0, "0e+00"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (None, "NaN"),
    ],
)
def test_an_alerts_value_is_written_as_go_does(value: float | None, text: str) -> None:
    assert go_float(value) == text


def test_milliseconds_by_habit_find_nothing_and_are_told() -> None:
    params = Params([("time", "1796036000000"), ("end", "4"), ("start", "1e300")])
    assert params.moment_of_samples("end", 0) == 4000
    with pytest.raises(Trouble, match="the year 58884: times are Unix seconds, 1796036000 without"):
        params.moment_of_samples("time", 0)
    with pytest.raises(Trouble, match="to a valid timestamp: it lies outside"):
        params.moment_of_samples("start", 0)
    # The probe for exemplars sends them, and asks for names only.
    assert params.moment("time", 0) == 1_796_036_000_000_000
