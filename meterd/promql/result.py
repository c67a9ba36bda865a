"""What a query gives back, and what may go wrong with it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from meterd.errors import MeterdError
from meterd.promql.source import Times, Values

Kind = Literal["bad_data", "execution", "timeout", "canceled"]
Type = Literal["matrix", "vector", "scalar", "string"]


class QueryError(MeterdError):
    """The query was not answered; `kind` is Prometheus' errorType, the text is for people.

    Kinds: bad_data (400), execution (422), timeout (503), canceled (499).
    """

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text, code=kind)
        self.kind: Kind = kind


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one query may use. `deadline` is a moment of `clock` in seconds, None for no end."""

    max_samples: int = 50_000_000
    deadline: float | None = None
    max_points: int = 11_000
    lookback_ms: int = 300_000
    clock: Callable[[], float] | None = None
    canceled: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class ResultSeries:
    """Labels (with __name__ where it was kept) and points: ms since 1970 and float64."""

    labels: Mapping[str, str]
    times: Times
    values: Values


@dataclass(frozen=True, slots=True)
class Result:
    """An answer. A vector has one point a series; a scalar is one series without labels.

    `data` is the text for type string, else the series; `time` is the ms that were asked for.
    """

    type: Type
    data: tuple[ResultSeries, ...] | str
    time: int = 0
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()
