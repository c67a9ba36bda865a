"""Durations in the file: a number with its unit, such as 500ms or 10s, within limits."""

import re

from pydantic import BeforeValidator, ValidationInfo

from meterd.config.codes import Code, ValueFlaw
from meterd.model.duration import seconds, spell

__all__ = ["between", "seconds", "spell"]

_UNIT_WORDS = re.compile(r"^(milli|ms|d|h|mo|m|s)[a-z]*$")

# Units that meterd does not take, since their length varies: days to suggest instead.
_CALENDAR_UNIT_DAYS = {"w": 7, "mo": 30, "y": 365, "a": 365}
_UNITS_HINT = "the units are ms, s, m, h and d"


def _hint(text: str) -> str:
    """How to write what was probably meant: "10 sec" -> "write 10s"."""
    match = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)\s*", text)
    if not match:
        return "write it as in 500ms, 10s, 5m, 1h or 400d"
    number, word = match[1], match[2].lower()
    if not word:
        return f"add the unit: {number}s is seconds, {number}m is minutes"
    unit_word = _UNIT_WORDS.match(word)
    unit = {"milli": "ms", "mo": ""}.get(unit_word[1], unit_word[1]) if unit_word else ""
    if unit:
        return f"write {number}{unit}"
    days = next((days for start, days in _CALENDAR_UNIT_DAYS.items() if word.startswith(start)), 0)
    if days:
        return f"write {float(number) * days:g}d: {_UNITS_HINT}"
    return _UNITS_HINT


def guess(text: str) -> str | None:
    """The text as a duration, or the one that it probably means; None where that is unclear."""
    if seconds(text) is not None:
        return text
    match = re.match(r"write ([0-9.]+[a-z]+)", _hint(text))
    return match[1] if match else None


def _bound(text: str) -> float:
    if (limit := seconds(text)) is None:
        raise ValueError(text)
    return limit


def between(low: str, high: str) -> BeforeValidator:
    """The validator of a duration from `low` to `high`, both included; its value is seconds.

    Numbers are taken as seconds where code makes the settings; in a file (`info.context` is set)
    they are refused: their unit would be a guess.
    """
    minimum, maximum = _bound(low), _bound(high)

    def check(value: object, info: ValidationInfo) -> float:
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        if number is None and isinstance(value, str):
            number = seconds(value)
        elif info.context is not None:
            number = None
        if number is None:
            raise ValueFlaw(
                Code.DURATION, "must be a duration with its unit", _hint(str(value))
            ).error()
        if not minimum <= number <= maximum:
            raise ValueFlaw(Code.RANGE, f"must be from {low} to {high}").error()
        return float(number)

    return BeforeValidator(check)
