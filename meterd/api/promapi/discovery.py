"""What there is to ask for: series, labels, their values, and what each metric means."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from meterd.api.promapi.params import Params
from meterd.api.promapi.query_executor import QueryDeadline, QueryExecutor
from meterd.api.promapi.reply import PromReply, Trouble, reply
from meterd.promql.matcher import Matcher
from meterd.promql.result import PromErrorType, QueryError

if TYPE_CHECKING:
    from meterd.api.promapi.source import KnownSeries, SiteSource

# More selectors than any client sends.
_MOST_SELECTORS = 100
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_ESCAPED = re.compile(r"_([0-9a-fA-F]{1,6})_|__")

Window = tuple[int, int]


async def series(executor: QueryExecutor, params: Params) -> PromReply:
    """The label sets of the series that a match[] selects."""
    limit, window = params.limit(), params.window()
    if not params.all("match[]"):
        raise Trouble(PromErrorType.BAD_DATA, "no match[] parameter provided")
    select = _selection(params, executor.source())

    def question(deadline: QueryDeadline) -> PromReply:
        rows = [dict(sorted(known.labelled.labels.items())) for known in select(window)]
        rows.sort(key=lambda labels: list(labels.items()))
        return _limited(rows, limit)

    return await executor.work(question)


async def labels(executor: QueryExecutor, params: Params) -> PromReply:
    """The names of all labels."""
    limit, window = params.limit(), params.window()
    select = _selection(params, executor.source())

    def question(deadline: QueryDeadline) -> PromReply:
        names = {name for known in select(window) for name in known.labelled.labels}
        return _limited(sorted(names), limit)

    return await executor.work(question)


async def label_values(executor: QueryExecutor, params: Params, name: str) -> PromReply:
    """The values of one label."""
    label = unescaped(name)
    if not _LABEL.fullmatch(label):
        raise Trouble(PromErrorType.BAD_DATA, f'invalid label name: "{label[:80]}"')
    limit, window = params.limit(), params.window()
    select = _selection(params, executor.source())

    def question(deadline: QueryDeadline) -> PromReply:
        values = {known.labelled.labels.get(label, "") for known in select(window)}
        return _limited(sorted(values - {""}), limit)

    return await executor.work(question)


async def metadata(executor: QueryExecutor, params: Params) -> PromReply:
    """Type, help and unit of each metric."""
    limit, metric = params.limit(), params.one("metric")
    source = executor.source()

    def question(deadline: QueryDeadline) -> PromReply:
        by_name: dict[str, list[Mapping[str, str]]] = {}
        for known in source.series():
            name, kind, text, unit = known.meaning
            if metric in ("", name):
                by_name[name] = [{"type": kind, "help": text, "unit": unit}]
        limited = sorted(by_name.items())[: limit or None]
        return reply(dict(limited), truncated=len(limited) < len(by_name))

    return await executor.work(question)


def _limited(rows: Sequence[object], limit: int) -> PromReply:
    limited = rows[:limit] if limit else rows
    return reply(limited, truncated=len(limited) < len(rows))


def unescaped(name: str) -> str:
    """`U__a_2e_b` -> `a.b`: how newer clients send a label's name that is no identifier."""
    if not name.startswith("U__"):
        return name
    return _ESCAPED.sub(_letter, name.removeprefix("U__"))


def _letter(match: re.Match[str]) -> str:
    if match[1] is None:
        return "_"
    code = int(match[1], 16)
    return chr(code) if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else "\ufffd"


def _selection(params: Params, source: "SiteSource") -> "Callable[[Window], Iterable[KnownSeries]]":
    """The series that any match[] means and that have samples in a window. Raises Trouble."""
    selectors = params.all("match[]")
    if len(selectors) > _MOST_SELECTORS:
        raise Trouble(PromErrorType.BAD_DATA, f"more than {_MOST_SELECTORS} match[] parameters")
    parsed = [_parsed(text) for text in selectors]

    from meterd.promql.select import matching_ids

    def select(window: Window) -> "Iterable[KnownSeries]":
        series = source.series()
        ids: Iterable[int] = range(len(series))
        if parsed:
            labelled = source.names()
            ids = sorted(
                {number for matchers in parsed for number in matching_ids(labelled, matchers)}
            )
        return [series[number] for number in ids if _lives(series[number], window)]

    return select


def _parsed(text: str) -> Sequence[Matcher]:
    from meterd.promql.select import parse_selector

    try:
        return parse_selector(text)
    except QueryError as error:
        raise Trouble(PromErrorType.BAD_DATA, f'invalid parameter "match[]": {error}') from error


def _lives(series: "KnownSeries", window: Window) -> bool:
    return series.first <= window[1] and series.last >= window[0]
