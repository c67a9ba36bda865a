"""Durations as keys of the file: with their unit, and within their limits."""

import re

from pydantic import BeforeValidator, ValidationInfo

from meterd.config.codes import Code, ValueFlaw
from meterd.model.duration import seconds, spell

__all__ = ["between", "seconds", "spell"]

_WORDS = re.compile(r"^(milli|ms|d|h|mo|m|s)[a-z]*$")

# Units that people write and calendars do not agree on, in days.
_LONG = {"w": 7, "mo": 30, "y": 365, "a": 365}
_UNITS = "the units are ms, s, m, h and d"


def _meant(text: str) -> str:
    """A hint from what was probably meant: "10 sec" -> "write 10s"."""
    found = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)\s*", text)
    if not found:
        return "write it as in 500ms, 10s, 5m, 1h or 400d"
    number, word = found[1], found[2].lower()
    if not word:
        return f"add the unit: {number}s is seconds, {number}m is minutes"
    known = _WORDS.match(word)
    unit = {"milli": "ms", "mo": ""}.get(known[1], known[1]) if known else ""
    if unit:
        return f"write {number}{unit}"
    days = next((days for start, days in _LONG.items() if word.startswith(start)), 0)
    if days:
        return f"write {float(number) * days:g}d: {_UNITS}"
    return _UNITS


def meant(text: str) -> str | None:
    """The duration that a text is, or probably means; None where that is not clear."""
    if seconds(text) is not None:
        return text
    found = re.match(r"write ([0-9.]+[a-z]+)", _meant(text))
    return found[1] if found else None


def _bound(text: str) -> float:
    if (limit := seconds(text)) is None:
        raise ValueError(text)
    return limit


def between(low: str, high: str) -> BeforeValidator:
    """A duration from `low` to `high`, both included.

    Numbers are seconds where code makes the settings; in a file they are refused, because
    nobody can tell what was meant.
    """
    least, most = _bound(low), _bound(high)

    def check(value: object, info: ValidationInfo) -> float:
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        if number is None and isinstance(value, str):
            number = seconds(value)
        elif info.context is not None:
            number = None
        if number is None:
            raise ValueFlaw(
                Code.DURATION, "must be a duration with its unit", _meant(str(value))
            ).error()
        if not least <= number <= most:
            raise ValueFlaw(Code.RANGE, f"must be from {low} to {high}").error()
        return float(number)

    return BeforeValidator(check)
