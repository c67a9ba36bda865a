"""Which series a selector means."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from meterd.promql.result import QueryError
from meterd.promql.source import Labelled


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label; op is =, !=, =~ or !~ (a missing label is the empty text)."""

    name: str
    op: str
    value: str


def parse_selector(text: str) -> tuple[Matcher, ...]:
    """The matchers of a `match[]`. Raises QueryError (bad_data) where it is no vector selector."""
    from meterd.promql.plan import selector

    return selector(text).matchers


def matching(names: Sequence[Labelled], matchers: Sequence[Matcher]) -> list[int]:
    """The ids (places in names) of the series that meet all matchers."""
    ids = list(range(len(names)))
    for matcher in matchers:
        name, meets = matcher.name, compiled(matcher)
        values = [names[place].labels.get(name, "") for place in ids]
        met = {value: meets(value) for value in set(values)}
        ids = [place for place, value in zip(ids, values, strict=True) if met[value]]
    return ids


def compiled(matcher: Matcher) -> Callable[[str], bool]:
    """The matcher as a question to a label's value. Raises QueryError for a bad regex."""
    value = matcher.value
    if matcher.op == "=":
        return lambda found: found == value
    if matcher.op == "!=":
        return lambda found: found != value
    whole = regex(value).fullmatch
    if matcher.op == "=~":
        return lambda found: whole(found) is not None
    return lambda found: whole(found) is None


@lru_cache(maxsize=256)
def regex(pattern: str) -> Any:
    """RE2, which cannot backtrack; the dot meets newlines, as in Prometheus 3.

    Raises QueryError (bad_data).
    """
    import re2  # type: ignore[import-untyped]

    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0].decode("utf-8", "replace") if error.args else "unreadable"
        raise QueryError("bad_data", f"parse error: error parsing regexp: {why}") from error
