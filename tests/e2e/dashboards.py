"""The dashboards of config/grafana, and their queries as Grafana would send them."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[2] / "config" / "grafana" / "dashboards"
BOARDS: Mapping[str, dict[str, Any]] = {
    file.stem: json.loads(file.read_text("utf-8")) for file in sorted(FOLDER.glob("*.json"))
}

# Seconds: `timeInterval` of the provisioned data source.
SCRAPE = 10
# A window of 1,280 pixels, less its borders, in 24 columns.
_PIXELS = 1248 / 24
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# Where Grafana rounds a step to, in seconds.
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_STEPS: tuple[int, ...] = (
    *(1, 2, 5, 10, 15, 20, 30),
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 20, 30)),
    *(n * _HOUR for n in (1, 2, 3, 6, 12)),
    *(n * _DAY for n in (1, 7, 30, 365)),
)


class Asked(NamedTuple):
    """One query of a panel: times and step in Unix seconds; step 0 asks for one moment."""

    panel: str
    expr: str
    start: int
    end: int
    step: int

    @property
    def path(self) -> str:
        return "query_range" if self.step else "query"

    @property
    def form(self) -> dict[str, str]:
        if not self.step:
            return {"query": self.expr, "time": str(self.end)}
        times = {"start": str(self.start), "end": str(self.end), "step": str(self.step)}
        return {"query": self.expr, **times}


def queries(board: Mapping[str, Any], values: Mapping[str, str], now: int) -> Iterator[Asked]:
    """All that a board sends at `now` with these values of its variables, in UTC."""
    for panel in board["panels"]:
        start = since(panel.get("timeFrom") or board["time"]["from"], now)
        lowest = _seconds(panel.get("interval") or f"{SCRAPE}s")
        step = max(lowest, _rounded((now - start) / (panel["gridPos"]["w"] * _PIXELS)))
        for target in panel["targets"]:
            expr = expanded(target["expr"], values, step, now - start)
            if target["instant"]:
                yield Asked(panel["title"], expr, start, now, 0)
            else:
                ends = start // step * step, now // step * step
                yield Asked(panel["title"], expr, *ends, step)


def expanded(expr: str, values: Mapping[str, str], step: int, span: int) -> str:
    """With variables and macros put in; $1 of label_replace is none of them."""
    macros = {
        "__rate_interval": duration(max(step + SCRAPE, 4 * SCRAPE)),
        "__interval": duration(step),
        "__range": f"{span}s",
    }
    return re.sub(r"\$([a-z_]\w*)", lambda match: {**values, **macros}[match[1]], expr)


def duration(seconds: int) -> str:
    """As Go writes it: 1m0s, 24h0m0s."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def since(text: str, now: int) -> int:
    """`7d`, `now-6h`, `now/d`, `now-11M/M` as Unix seconds, in UTC."""
    match = re.fullmatch(r"(?:now)?-?(?:(\d+)([smhdM]))?(?:/([dM]))?", text)
    assert match is not None, text
    count, unit, whole = match.groups()
    moment = datetime.fromtimestamp(now, UTC)
    if unit == "M":
        months = moment.year * 12 + moment.month - 1 - int(count)
        moment = moment.replace(year=months // 12, month=months % 12 + 1, day=1)
    elif unit:
        moment -= timedelta(seconds=_seconds(f"{count}{unit}"))
    if whole == "M":
        moment = moment.replace(day=1)
    if whole:
        moment = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return int(moment.timestamp())


def _seconds(text: str) -> int:
    return int(text[:-1]) * _UNITS[text[-1]]


def _rounded(seconds: float) -> int:
    """To the nearest of Grafana's steps, as the middle between two decides."""
    pairs = pairwise(_STEPS)
    return next((low for low, high in pairs if seconds < (low + high) / 2), _STEPS[-1])
