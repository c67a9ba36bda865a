"""Query results, limits and errors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from meterd.errors import MeterdError

if TYPE_CHECKING:  # numpy is loaded with the first query
    from meterd.promql.source import Times, Values

Type = Literal["matrix", "vector", "scalar", "string"]


class PromErrorType(StrEnum):
    """Prometheus' errorType (web/api/v1/api.go); the comment says the HTTP status and who acts.

    The last three are relatives of our own, for refusals that Prometheus leaves to its proxy.
    """

    BAD_DATA = "bad_data"
    """400: the query or a parameter is wrong; the client changes it."""
    EXECUTION = "execution"
    """422: the query cannot be computed, or needs too many samples; the client changes it."""
    CANCELED = "canceled"
    """499: the client went away, or meterd stops."""
    TIMEOUT = "timeout"
    """503: the query took longer than it may; ask for less, or later."""
    UNAVAILABLE = "unavailable"
    """503: the store cannot answer, or too many queries wait; ask again later."""
    INTERNAL = "internal"
    """500: a bug in meterd; the log has the stack."""
    NOT_FOUND = "not_found"
    """404: there is no such path or label."""
    UNAUTHORIZED = "unauthorized"
    """401: a login is needed, or this one is wrong."""
    FORBIDDEN = "forbidden"
    """403: the login lacks a scope, or a page of another site asks."""
    TOO_MANY_REQUESTS = "too_many_requests"
    """429: too many logins have failed from there."""


class QueryError(MeterdError):
    """A query failed; the code is Prometheus' errorType, the text its error message.

    The engine raises BAD_DATA, EXECUTION, TIMEOUT and CANCELED.
    """

    code: PromErrorType

    def __init__(self, code: PromErrorType, text: str) -> None:
        super().__init__(text, code=code)


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
    times: "Times"
    values: "Values"


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
