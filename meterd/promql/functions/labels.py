"""label_replace, label_join, and the natural order of label values."""

import re
from collections.abc import Sequence
from typing import Any

from meterd.promql.frame import Frame, Labels, get, united
from meterd.promql.frame import pack as packed
from meterd.promql.matcher import regex
from meterd.promql.result import QueryError

_GROUP = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))")


def replaced(frame: Frame, target: str, template: str, source: str, pattern: str) -> Frame:
    """The target label set from the groups of a full match; other series stay as they are.

    Raises QueryError (execution) for a bad regex or target, and where two series become one.
    """
    try:
        expression = regex(pattern)
    except QueryError as error:
        what = f"invalid regular expression in label_replace(): {pattern}"
        raise QueryError("execution", what) from error
    _name(target, "label_replace")
    labels = []
    for each in frame.labels:
        found = expression.fullmatch(get(each, source))
        labels.append(each if found is None else _set(each, target, _expanded(template, found)))
    return united(labels, frame.values, frame.here)


def joined(frame: Frame, target: str, separator: str, sources: Sequence[str]) -> Frame:
    """The target label set to the sources' values. Raises QueryError (execution)."""
    _name(target, "label_join")
    for source in sources:
        if not source:
            raise QueryError("execution", f"invalid source label name in label_join(): {source}")
    labels = [
        _set(each, target, separator.join(get(each, source) for source in sources))
        for each in frame.labels
    ]
    return united(labels, frame.values, frame.here)


def _name(target: str, function: str) -> None:
    if not target:
        raise QueryError("execution", f"invalid destination label name in {function}(): {target}")


def _set(labels: Labels, name: str, value: str) -> Labels:
    return packed(dict(labels) | {name: value})


def _expanded(template: str, found: Any) -> str:
    """$1, ${1}, $name and $$ as Go reads them; an unknown group is empty."""
    named = found.groupdict()

    def group(hit: re.Match[str]) -> str:
        if hit[1]:
            return "$"
        name = hit[2] or hit[3]
        if not name.isdecimal():
            return named.get(name) or ""
        return (found.group(int(name)) or "") if int(name) <= len(found.groups()) else ""

    return _GROUP.sub(group, template)


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key that sorts a2 before a10."""
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]
