"""Durations as people write them: 500ms, 10s, 5m, 1h, 400d, and 1h30m."""

import re

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_ORDER = tuple(_UNITS)
# Nine digits are 30 years of seconds; more is a slip of the finger.
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|[dhms])")


def seconds(text: str) -> float | None:
    """Seconds that the text stands for; None where it is no duration. Units go downwards."""
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
    """The shortest way to write so many seconds: 90.0 -> "1m30s"."""
    left = round(duration * 1000)
    words = []
    for unit, size in _UNITS.items():
        count, left = divmod(left, round(size * 1000))
        if count:
            words.append(f"{count}{unit}")
    return "".join(words) or "0s"
