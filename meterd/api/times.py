"""How REST writes times and durations; the command line reads them as its queries do."""

import math
import re
from datetime import UTC, datetime, timedelta

from meterd.config.duration import seconds
from meterd.config.duration import spell as spell_seconds

# The last whole second of year 9999: what datetime and RFC 3339 can say.
LATEST_MS = 253_402_300_799_000
LATEST_S = LATEST_MS // 1000

_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,9})?", re.ASCII)
# A "+" that nobody escaped arrives as a space: it is taken for what was meant.
_RELATIVE = re.compile(r"now(?:([-+ ])(.+))?", re.ASCII)
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?(?:[Zz]|([-+ ]\d\d:\d\d))", re.ASCII
)

# What schemas say of both: not each that fits is a time, but each that is one fits.
_LENGTH = r"([0-9]{1,9}(\.[0-9]{1,9})?(ms|[dhms]))+"
_SECONDS = r"[0-9]{1,15}(\.[0-9]{1,9})?"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
_ZONE = r"([Zz]|[-+ ][0-9]{2}:[0-9]{2})"
MOMENT = rf"^(now([-+ ]({_LENGTH}|{_SECONDS}))?|{_SECONDS}|{_DATE}{_ZONE})$"
STEP = rf"^(raw|{_LENGTH}|{_SECONDS}|[0-9]{{1,4}}(d|w|mo|y))$"

MOMENT_HINT = "write 2026-11-21T10:00:00Z, Unix seconds, now, now-6h or now+1h"
DURATION_HINT = "write 500ms, 10s, 5m, 1h or 1d, or a number of seconds"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Without a zone, isoformat writes none: five times as fast as strftime.
_START = _EPOCH.replace(tzinfo=None)
_MS = timedelta(milliseconds=1)
_YEAR_S = 31_556_952


def rfc3339(ms: int) -> str:
    """Unix ms as `2026-11-21T10:00:00.000Z`."""
    return (_START + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds") + "Z"


def duration(text: str) -> int:
    """`10s`, `1h30m`, `90` (seconds) as ms. Raises ValueError with a sentence."""
    length = float(text) if _NUMBER.fullmatch(text) else seconds(text)
    if length is None:
        raise ValueError("is no duration")
    ms = round(length * 1000)
    if not 0 < ms <= LATEST_MS:
        raise ValueError("is too short" if ms <= 0 else "is too long")
    return ms


def spell(ms: int) -> str:
    """A duration as people write it: 90000 -> `1m30s`."""
    return spell_seconds(ms / 1000)


def moment(value: object, now: int) -> int:
    """A time that a client wrote as Unix ms; `now` (Unix ms) is what "now" means.

    A number, and a text that is one, are Unix seconds. Raises ValueError with a sentence.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _seconds(value)
    if not isinstance(value, str):
        raise ValueError("is no time")
    if match := _RELATIVE.fullmatch(value):
        return _bounded(now + _offset(match[1], match[2]))
    if _NUMBER.fullmatch(value):
        return _seconds(float(value))
    ms = rfc3339_ms(value)
    if ms is None:
        raise ValueError("is no time")
    return _bounded(ms)


def rfc3339_ms(text: str) -> int | None:
    """`2026-11-21T10:00:00.5+01:00` as Unix ms; None if it is written otherwise.

    Raises ValueError for a day or an hour that does not exist.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    day, clock, fraction, offset = match.groups()
    zone = offset.replace(" ", "+") if offset else "+00:00"
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}{zone}")
    except ValueError as error:
        raise ValueError("is a day or an hour that does not exist") from error
    return (whole - _EPOCH) // _MS + int((fraction or ".").ljust(4, "0")[1:4])


def too_late(seconds: float) -> str:
    """The text for a time in Unix seconds beyond the year 9999."""
    if seconds > LATEST_MS:
        return "lies outside the years 1970 to 9999"
    year = 1970 + int(seconds // _YEAR_S)
    meant = f"{seconds / 1000:.3f}".rstrip("0").rstrip(".")
    return f"is the year {year}: times are Unix seconds, {meant} without the milliseconds"


def _offset(sign: str | None, text: str | None) -> int:
    if sign is None or text is None:
        return 0
    return -duration(text) if sign == "-" else duration(text)


def _seconds(number: float) -> int:
    if number != number or abs(number) == math.inf:
        raise ValueError("is no time")
    if number < 0:
        raise ValueError("lies outside the years 1970 to 9999")
    if number > LATEST_S:
        raise ValueError(too_late(number))
    return _bounded(round(number * 1000))


def _bounded(ms: int) -> int:
    if not 0 <= ms <= LATEST_MS:
        raise ValueError("lies outside the years 1970 to 9999")
    return ms
