import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.api import times

NOW = 1_795_255_200_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("now", NOW),
        ("now-6h", NOW - 21_600_000),
        ("now+1h", NOW + 3_600_000),
        ("now 1h", NOW + 3_600_000),  # what "now+1h" becomes where nobody escaped the plus
        ("now-1h30m", NOW - 5_400_000),
        ("1795255200", NOW),
        ("1795255200.25", NOW + 250),
        ("2026-11-21T10:00:00Z", NOW),
        ("2026-11-21t10:00:00z", NOW),
        ("2026-11-21T20:00:00+10:00", NOW),
        ("2026-11-21T20:00:00 10:00", NOW),
        ("2026-11-21T10:00:00.1239Z", NOW + 123),
        ("2026-11-21T10:00:00.019Z", NOW + 19),
        ("2026-11-21T10:00:00.5Z", NOW + 500),
        (1_795_255_200, NOW),
        (1_795_255_200.25, NOW + 250),
        (1.7952552e9, NOW),
        (0, 0),
        (times.LATEST_S, times.LATEST_MS),
    ],
)
def test_every_way_to_write_a_time(text: object, ms: int) -> None:
    assert times.moment(text, NOW) == ms


@given(st.integers(0, times.LATEST_S - 1), st.integers(0, 999))
def test_a_number_is_the_same_time_as_its_text(seconds: int, ms: int) -> None:
    text = f"{seconds}.{ms:03}"
    assert times.moment(text, NOW) == times.moment(float(text), NOW)
    assert times.moment(seconds, NOW) == times.moment(str(seconds), NOW) == seconds * 1000


@pytest.mark.parametrize("value", [NOW, float(NOW), str(NOW), NOW - 0.5, 253_402_300_800])
def test_milliseconds_by_habit_are_told_apart_from_seconds(value: float | str) -> None:
    with pytest.raises(ValueError, match="Unix seconds") as caught:
        times.moment(value, NOW)
    meant = float(value) / 1000
    assert f"{meant:.3f}".rstrip("0").rstrip(".") + " without the milliseconds" in str(caught.value)
    if value == NOW:
        assert str(caught.value).startswith("is the year 58859: ")


@pytest.mark.parametrize(
    "value",
    [
        *(
            True,
            False,
            None,
            [],
            [1_795_255_200],
            {},
            {"s": 1},
            -1,
            -0.001,
            1e300,
            10**400,
            -(10**400),
        ),
        *(float("nan"), float("inf"), float("-inf"), b"1795255200"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_any_other_value_is_refused_with_a_sentence(value: object) -> None:
    with pytest.raises(ValueError, match=r"^(is no time|lies outside)"):
        times.moment(value, NOW)


@pytest.mark.parametrize(
    "text",
    [
        *("NaN", "inf", "-inf", "Infinity", "true", "0x10", "1_0", "9" * 15, "+5", "5 ", "1."),
        *("", "yesterday", "now-", "now*2", "now-100000d", "1e9", "-5", "٣", "nan"),
        *("2026-11-21", "2026-11-21T10:00:00", "2026-02-30T00:00:00Z", "2026-11-21T10:00:00Z\n"),
        "1795255200000",
    ],
)
def test_what_is_no_time_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|lies) "):
        times.moment(text, NOW)


@pytest.mark.parametrize(("text", "ms"), [("90", 90_000), ("500ms", 500), ("1h30m", 5_400_000)])
def test_durations_have_units_or_are_seconds(text: str, ms: int) -> None:
    assert times.duration(text) == ms


@pytest.mark.parametrize("text", ["", "0", "0s", "-1s", "1x", "5 m", "9" * 15])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is "):
        times.duration(text)


@given(st.integers(0, times.LATEST_MS))
def test_an_answers_time_can_be_asked_for_again(ms: int) -> None:
    assert times.moment(times.rfc3339(ms), NOW) == ms
    assert len(times.rfc3339(ms)) == 24
