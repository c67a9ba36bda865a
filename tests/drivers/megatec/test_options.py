"""What meterd.yaml may say about a Megatec UPS."""

import pytest
from pydantic import ValidationError

from tests.drivers.megatec.units import options


@pytest.mark.parametrize(
    ("text", "volts"), [("12V", 12.0), ("12 V", 12.0), (48, 48.0), ("13.5", 13.5)]
)
def test_volts_are_written_with_or_without_their_unit(text: object, volts: float) -> None:
    assert options(battery={"nominal": text}).battery.nominal == volts


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"battery": {"nominal": "12A"}}, "12V or 12"),
        ({"battery": {"nominal": "nan"}}, "12V or 12"),
        ({"battery": {"nominal": float("nan")}}, "greater than 0|finite"),
        ({"battery": {"nominal": 0}}, "greater than 0"),
        ({"battery": {"nominal": "-12V"}}, "12V or 12"),
        ({"battery": {"packs": 0}}, "greater than 0"),
        ({"battery": {"low": 13, "high": "10V"}}, "less than battery.high"),
        ({"battery": {"volts": 12}}, "Extra inputs"),
        ({"protocol": "q1"}, "'auto', 'megatec' or 'mustek'"),
        ({"runtimecal": "240,100"}, "four numbers"),
        ({"runtimecal": [240, 100, 720]}, "four numbers"),
        ({"runtimecal": [240, 100, 720, None]}, "four numbers"),
        ({"runtimecal": 7}, "tuple|list"),
        ({"battery": {"chargetime": "10s"}}, "1m to 7d"),
        ({"battery": {"chargetime": 12}}, "its unit"),
        ({"runtimecal": "a,b,c,d"}, "four numbers"),
        ({"runtimecal": "720,50,240,100"}, "smaller load comes second"),
        ({"runtimecal": [240, 100, 720, 0]}, "greater than 0"),
        ({"baud": 2400}, "Extra inputs"),
    ],
)
def test_wrong_options_say_what_is_right(keys: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        options(**keys)
