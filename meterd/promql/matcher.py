"""One condition on a label, and what it asks of a value."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from meterd.promql.result import PromErrorType, QueryError


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label; op is =, !=, =~ or !~ (a missing label is the empty text)."""

    name: str
    op: str
    value: str


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


@lru_cache(maxsize=64)  # one takes up to some MB
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
        raise QueryError(
            PromErrorType.BAD_DATA, f"parse error: error parsing regexp: {why}"
        ) from error
