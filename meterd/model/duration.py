"""Parses and formats durations as in the configuration: 500ms, 10s, 5m, 1h, 400d, 1h30m."""

import re

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_ORDER = tuple(_UNITS)
# Nine digits of seconds are 30 years; more is a typing mistake.
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|[dhms])")


def seconds(text: str) -> float | None:
    """The duration in seconds; None where the text is none. Units must go from large to small."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    ranks = [_ORDER.index(unit) for _, unit in parts]
    if ranks != sorted(set(ranks)):
        return None
    return sum(
        float(number) / 1000 if unit == "ms" else float(number) * _UNITS[unit]
        for number, unit in parts
    )


def spell(duration: float) -> str:
    """Formats seconds, rounded to ms, in the shortest form: 90.0 -> "1m30s"."""
    remaining_ms = round(duration * 1000)
    words = []
    for unit, size in _UNITS.items():
        count, remaining_ms = divmod(remaining_ms, round(size * 1000))
        if count:
            words.append(f"{count}{unit}")
    return "".join(words) or "0s"
