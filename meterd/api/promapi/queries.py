"""PromQL over HTTP: query, query_range, and what an editor of queries asks besides.

The engine and the parser (4 MB) load with the first question: not everybody has a Grafana.
"""

import time
from collections.abc import Callable

from meterd.api.promapi.params import LATEST, Params, invalid
from meterd.api.promapi.query_executor import LONGEST, QueryDeadline, QueryExecutor
from meterd.api.promapi.reply import TRUNCATED, PromReply, Trouble, reply
from meterd.promql import input_limits
from meterd.promql.result import PromErrorType, QueryError, QueryLimits, Result

# Prometheus' own bound, and its words: Grafana's users know them.
MOST_POINTS = 11_000
_TOO_FINE = (
    "exceeded maximum resolution of 11,000 points per timeseries. "
    "Try decreasing the query resolution (?step=XX)"
)
_LOOKBACK = 300_000
# Points of an answer: 30 bytes each, so some 90 MB at the most.
MOST_ANSWERED = 3_000_000


async def query(executor: QueryExecutor, params: Params) -> PromReply:
    """The value of an expression at one moment."""
    limit = params.limit()
    at = params.moment_of_samples("time", executor.clock.now_ms())
    text = _text(params)
    source = executor.source()

    def evaluate(limits: QueryLimits) -> Result:
        from meterd.promql import engine

        return engine.instant(source, text, at, limits=limits)

    return await _evaluated(executor, params, limit, evaluate)


async def query_range(executor: QueryExecutor, params: Params) -> PromReply:
    """The values of an expression at start, start + step, … up to end."""
    limit = params.limit()
    start, end = _needed(params, "start"), _needed(params, "end")
    if end < start:
        raise invalid("end", "end timestamp must not be before start timestamp")
    step = _step(params)
    if (end - start) // step > MOST_POINTS:
        raise Trouble(PromErrorType.BAD_DATA, _TOO_FINE)
    text = _text(params)
    source = executor.source()

    def evaluate(limits: QueryLimits) -> Result:
        from meterd.promql import engine

        return engine.query_range(source, text, start, end, step, limits=limits)

    return await _evaluated(executor, params, limit, evaluate)


async def exemplars(executor: QueryExecutor, params: Params) -> PromReply:
    """Meters have none; Grafana asks all the same."""
    input_limits.parse(_text(params))
    params.window()
    return reply([])


async def formatted(executor: QueryExecutor, params: Params) -> PromReply:
    """The expression as a person would lay it out."""
    text = _text(params)
    input_limits.parse(text)
    return reply(_pretty(text))


def _pretty(text: str) -> str:
    import promql_parser

    try:
        with input_limits.mapped_errors(text):
            return promql_parser.parse(text).prettify().strip()
    except QueryError:
        # meterd takes a little more than the parser's own text does: then it stays as it is.
        return text.strip()


def _text(params: Params) -> str:
    text = params.one("query")
    if not text.strip():
        raise invalid("query", "unknown position: parse error: no expression found in input")
    return text


def _needed(params: Params, name: str) -> int:
    if not params.one(name):
        raise invalid(name, 'cannot parse "" to a valid timestamp')
    return params.moment_of_samples(name, 0)


def _step(params: Params) -> int:
    if not params.one("step"):
        raise invalid("step", 'cannot parse "" to a valid duration')
    step = params.duration("step", 0)
    if step <= 0:
        raise invalid(
            "step",
            "zero or negative query resolution step widths are not accepted. "
            "Try a positive integer",
        )
    return step


def _limits(params: Params) -> Callable[[QueryDeadline], QueryLimits]:
    lookback = params.duration("lookback_delta", _LOOKBACK)
    if lookback <= 0:
        raise invalid("lookback_delta", "a lookback of zero or less finds nothing")
    from meterd.api.promapi.store_source import MOST_SAMPLES

    return lambda deadline: QueryLimits(
        max_samples=MOST_SAMPLES,
        deadline=deadline.at,
        max_points=MOST_POINTS,
        lookback_ms=min(lookback, LATEST),
        clock=time.monotonic,
        canceled=deadline.canceled.is_set,
    )


async def _evaluated(
    executor: QueryExecutor, params: Params, limit: int, evaluate: Callable[[QueryLimits], Result]
) -> PromReply:
    limits = _limits(params)
    timeout = params.duration("timeout", LONGEST)

    def question(deadline: QueryDeadline) -> PromReply:
        from meterd.promql import encode

        result, is_cut = _cut(evaluate(limits(deadline)), limit)
        _need_sendable(result)
        warnings = (*result.warnings, TRUNCATED) if is_cut else result.warnings
        return PromReply.of(encode.json_parts(result), warnings, result.infos)

    return await executor.work(question, timeout)


def _need_sendable(result: Result) -> None:
    if isinstance(result.data, str):
        return
    points = sum(len(one.times) for one in result.data)
    if points > MOST_ANSWERED:
        raise Trouble(
            PromErrorType.EXECUTION,
            f"the answer has {points:,} points, of {MOST_ANSWERED:,} at the most; "
            "ask for fewer series or a longer step",
        )


def _cut(result: Result, limit: int) -> tuple[Result, bool]:
    """At most `limit` series, where there may be several."""
    if not limit or result.type not in ("vector", "matrix") or len(result.data) <= limit:
        return result, False
    cut = Result(
        result.type,
        result.data[:limit],
        result.time,
        warnings=result.warnings,
        infos=result.infos,
    )
    return cut, True
