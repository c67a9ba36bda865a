"""label_replace, label_join, and the natural sort order of label values."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from meterd.promql.budget import Budget
from meterd.promql.instant_vector import InstantVector, Labels, label_value, merge_rows, pack_labels
from meterd.promql.matcher import regex
from meterd.promql.result import PromErrorType, QueryError

# Bounds label values made by functions: nested calls that join a label with itself multiply it.
VALUE_MAX_CHARS = 16_384

_GROUP = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))")


def replace(
    vector: InstantVector, target: str, template: str, source: str, pattern: str, budget: Budget
) -> InstantVector:
    """label_replace: sets the target label from a full match's groups; other series are unchanged.

    Raises QueryError (execution) for an invalid regex or target, and for equal label sets.
    """
    try:
        expression = regex(pattern)
    except QueryError as error:
        message = f"invalid regular expression in label_replace(): {pattern}"
        raise QueryError(PromErrorType.EXECUTION, message) from error
    _check_target(target, "label_replace")
    labels = []
    for row_labels in vector.labels:
        budget.check_deadline()
        match = expression.fullmatch(label_value(row_labels, source))
        if match is None:
            labels.append(row_labels)
            continue
        value = _join_bounded(_expand(template, match), "label_replace")
        labels.append(_with_label(row_labels, target, value))
    return merge_rows(labels, vector.values, vector.present)


def join(
    vector: InstantVector, target: str, separator: str, sources: Sequence[str], budget: Budget
) -> InstantVector:
    """label_join: sets the target label to the sources' values. Raises QueryError (execution)."""
    _check_target(target, "label_join")
    for source in sources:
        if not source:
            raise QueryError(
                PromErrorType.EXECUTION, f"invalid source label name in label_join(): {source}"
            )
    labels = []
    for row_labels in vector.labels:
        budget.check_deadline()
        parts = (
            part for source in sources for part in (separator, label_value(row_labels, source))
        )
        value = _join_bounded(islice(parts, 1, None), "label_join")
        labels.append(_with_label(row_labels, target, value))
    return merge_rows(labels, vector.values, vector.present)


def _check_target(target: str, function: str) -> None:
    if not target:
        raise QueryError(
            PromErrorType.EXECUTION, f"invalid destination label name in {function}(): {target}"
        )


def _with_label(labels: Labels, name: str, value: str) -> Labels:
    return pack_labels(dict(labels) | {name: value})


def _join_bounded(parts: Iterable[str], function: str) -> str:
    """Joins the parts. Raises QueryError (execution) beyond VALUE_MAX_CHARS."""
    joined: list[str] = []
    chars_left = VALUE_MAX_CHARS
    for part in parts:
        chars_left -= len(part)
        if chars_left < 0:
            message = f"{function}() makes a label value longer than {VALUE_MAX_CHARS} characters"
            raise QueryError(PromErrorType.EXECUTION, message)
        joined.append(part)
    return "".join(joined)


def _expand(template: str, match: Any) -> Iterator[str]:
    """Expands $1, ${1}, $name and $$ as Go's regexp does; an unknown group is empty."""
    groups = match.groupdict()
    last = 0
    for reference in _GROUP.finditer(template):
        yield template[last : reference.start()]
        last = reference.end()
        name = reference[2] or reference[3]
        if reference[1]:
            yield "$"
        elif not name.isdecimal():
            yield groups.get(name) or ""
        elif len(name) < 9 and int(name) <= len(match.groups()):
            yield match.group(int(name)) or ""
    yield template[last:]


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """A key that sorts a2 before a10."""
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]
