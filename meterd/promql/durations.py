"""Parses PromQL durations (1h30m, 1m0s, 500ms) to milliseconds."""

import re

from meterd.promql.result import PromErrorType, QueryError

LONGEST_MS = (1 << 63) // 1_000_000  # Go's time.Duration: int64 nanoseconds, 292 years

_UNITS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_DURATION = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?"
)


def milliseconds(text: str) -> int:
    """The duration in ms; units must go from large to small. Raises QueryError (bad_data)."""
    match = _DURATION.fullmatch(text) if len(text) <= 64 else None
    if match is None or not text:
        raise QueryError(PromErrorType.BAD_DATA, f"not a valid duration string: {text[:64]!r}")
    counts = zip(match.groups(), _UNITS.values(), strict=True)
    return sum(int(count) * unit for count, unit in counts if count)
