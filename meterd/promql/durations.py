"""Durations as PromQL writes them (1h30m, 1m0s, 500ms), to milliseconds."""

import re

from meterd.promql.result import PromErrorType, QueryError

LONGEST_MS = (1 << 63) // 1_000_000  # of any duration: 292 years, as far as Go counts

_UNITS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_FORM = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?"
)


def milliseconds(text: str) -> int:
    """Ms of a duration, units from large to small. Raises QueryError (bad_data)."""
    found = _FORM.fullmatch(text) if len(text) <= 64 else None
    if found is None or not text:
        raise QueryError(PromErrorType.BAD_DATA, f"not a valid duration string: {text[:64]!r}")
    counts = zip(found.groups(), _UNITS.values(), strict=True)
    return sum(int(count) * unit for count, unit in counts if count)
