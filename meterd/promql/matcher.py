"""Label matchers (=, !=, =~, !~) and their predicates over label values."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from meterd.promql.result import PromErrorType, QueryError


@dataclass(frozen=True, slots=True)
class Matcher:
    """A label matcher; op is =, !=, =~ or !~. A missing label has the value ""."""

    name: str
    op: str
    value: str


def compile_matcher(matcher: Matcher) -> Callable[[str], bool]:
    """The matcher as a predicate over label values. Raises QueryError for an invalid regex."""
    value = matcher.value
    if matcher.op == "=":
        return lambda label: label == value
    if matcher.op == "!=":
        return lambda label: label != value
    fullmatch = regex(value).fullmatch
    if matcher.op == "=~":
        return lambda label: fullmatch(label) is not None
    return lambda label: fullmatch(label) is None


@lru_cache(maxsize=64)  # a compiled pattern takes up to some MB
def regex(pattern: str) -> Any:
    """Compiles with RE2, which never backtracks; a dot matches newlines, as in Prometheus 3.

    Raises QueryError (bad_data).
    """
    import re2  # type: ignore[import-untyped]

    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        message = error.args[0].decode("utf-8", "replace") if error.args else "unreadable"
        raise QueryError(
            PromErrorType.BAD_DATA, f"parse error: error parsing regexp: {message}"
        ) from error
