"""What a request to Prometheus' API asks: parameters of URL and form, times, durations."""

import re
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qsl

from aiohttp import web

from meterd.api import times
from meterd.api.promapi.reply import Trouble
from meterd.promql.durations import LONGEST_MS
from meterd.promql.result import PromErrorType

FORM = "application/x-www-form-urlencoded"

# Far beyond any sample, and far from where int64 ends: lookbacks may be added. In Unix ms.
EARLIEST, LATEST = -9_000_000_000_000_000, 9_000_000_000_000_000
# More parameters than any client sends; each costs time.
_MOST = 1_000

_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,4})?", re.ASCII)
# Go's earliest and latest time: what promtool sends for "since ever" and "for ever".
_ENDS = {
    "-292273086-05-16T16:47:06Z": EARLIEST,
    "292277025-08-18T07:12:54.999999999Z": LATEST,
}
_DURATION = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII
)
_UNITS = (31_536_000_000, 604_800_000, 86_400_000, 3_600_000, 60_000, 1000, 1)


class Params:
    """Parameters by name; those of the form come before those of the URL."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def one(self, name: str) -> str:
        """The first value, or the empty text."""
        return self._values.get(name, [""])[0]

    def all(self, name: str) -> Sequence[str]:
        return self._values.get(name, [])

    def moment(self, name: str, default: int) -> int:
        """A time as Unix ms. Raises Trouble."""
        text = self.one(name)
        if not text:
            return default
        ms = moment(text)
        if ms is None:
            raise invalid(name, f"cannot parse {_quoted(text)} to a valid timestamp")
        return ms

    def moment_of_samples(self, name: str, default: int) -> int:
        """A time as Unix ms of which there may be samples: not beyond the year 9999.

        Milliseconds by habit would find nothing, and say nothing. Raises Trouble.
        """
        ms = self.moment(name, default)
        if ms > times.LATEST_MS:
            why = f"it {times.too_late(ms if ms >= LATEST else ms / 1000)}"
            shown = _quoted(self.one(name))
            raise invalid(name, f"cannot parse {shown} to a valid timestamp: {why}")
        return ms

    def duration(self, name: str, default: int) -> int:
        """A duration as ms; it may be 0 or negative. Raises Trouble."""
        text = self.one(name)
        if not text:
            return default
        ms = duration(text)
        if ms is None:
            raise invalid(name, f"cannot parse {_quoted(text)} to a valid duration")
        return ms

    def limit(self, name: str = "limit") -> int:
        """How many at the most; 0 for all. Raises Trouble."""
        text = self.one(name)
        if not text:
            return 0
        if not re.fullmatch(r"[-+]?\d{1,18}", text, re.ASCII):
            raise invalid(name, f"cannot parse {_quoted(text)} to a valid limit")
        if int(text) < 0:
            raise invalid(name, "limit must be non-negative")
        return int(text)

    def window(self) -> tuple[int, int]:
        """start and end, all time where they are left out. Raises Trouble."""
        start, end = self.moment("start", EARLIEST), self.moment("end", LATEST)
        if end < start:
            raise invalid("end", "end timestamp must not be before start timestamp")
        return start, end


def invalid(name: str, why: str) -> Trouble:
    """The refusal of one parameter."""
    return Trouble(PromErrorType.BAD_DATA, f'invalid parameter "{name}": {why}')


def _quoted(text: str) -> str:
    shown = text if len(text) <= 80 else f"{text[:80]}…"
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'


def moment(text: str) -> int | None:
    """Unix seconds or RFC 3339 as Unix ms; None if it is neither."""
    if _NUMBER.fullmatch(text):
        return _milliseconds(text, 1000)
    if text in _ENDS:
        return _ENDS[text]
    try:
        return times.rfc3339_ms(text)
    except ValueError:
        return None


def duration(text: str) -> int | None:
    """`15`, `0.5` (seconds), `1h30m`, `1m0s` as ms; None if it is neither."""
    if _NUMBER.fullmatch(text):
        ms = _milliseconds(text, 1000)
        return ms if ms is not None and abs(ms) <= LONGEST_MS else None
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return None
    parts = zip(match.groups(), _UNITS, strict=True)
    ms = sum(int(number[:18]) * unit for number, unit in parts if number)
    return ms if ms <= LONGEST_MS else None


def _milliseconds(text: str, factor: int) -> int | None:
    value = float(text) * factor
    # Beyond all samples is beyond all samples: the probe for exemplars sends ms for seconds.
    return max(EARLIEST, min(LATEST, round(value))) if abs(value) != float("inf") else None


def read(request: web.Request, body: bytes) -> Params:
    """The parameters of a request. Raises Trouble."""
    pairs: list[tuple[str, str]] = []
    if request.method == "POST" and request.content_type == FORM:
        # As Prometheus does: what is no form has no parameters.
        pairs += _form(body)
    pairs += request.query.items()
    if len(pairs) > _MOST:
        raise Trouble(PromErrorType.BAD_DATA, f"more than {_MOST} parameters")
    try:
        "".join(value for _, value in pairs).encode()
    except UnicodeEncodeError as error:
        raise Trouble(PromErrorType.BAD_DATA, "a parameter is no UTF-8") from error
    return Params(pairs)


def _form(body: bytes) -> list[tuple[str, str]]:
    try:
        text = body.decode()
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST)
    except ValueError as error:
        raise Trouble(
            PromErrorType.BAD_DATA, "error parsing form values: it is no UTF-8 form"
        ) from error
