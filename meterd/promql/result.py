"""Query results, limits and errors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from meterd.errors import MeterdError
from meterd.promql.source import Times, Values

Kind = Literal["bad_data", "execution", "timeout", "canceled"]
Type = Literal["matrix", "vector", "scalar", "string"]


class QueryError(MeterdError):
    """A query failed; `kind` is Prometheus' errorType, the text its error message.

    Kinds with their HTTP status: bad_data (400), execution (422), timeout (503), canceled (499).
    """

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text, code=kind)
        self.kind: Kind = kind


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """Limits of one query. `deadline` is in seconds of `clock` (default: time.monotonic)."""

    max_samples: int = 50_000_000
    deadline: float | None = None
    max_points: int = 11_000
    lookback_ms: int = 300_000
    clock: Callable[[], float] | None = None
    canceled: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class ResultSeries:
    """Labels (with __name__ unless it was dropped) and points: Unix ms and float64."""

    labels: Mapping[str, str]
    times: Times
    values: Values


@dataclass(frozen=True, slots=True)
class Result:
    """A query result. A vector has one point per series; a scalar is one series without labels.

    `data` is the text for type string, else the series; `time` (Unix ms) is the query's time, of a
    range query its start.
    """

    type: Type
    data: tuple[ResultSeries, ...] | str
    time: int = 0
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()
