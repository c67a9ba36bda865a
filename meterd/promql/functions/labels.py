"""label_replace, label_join, and the natural order of label values."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from meterd.promql.budget import Budget
from meterd.promql.instant_vector import InstantVector, Labels, get, united
from meterd.promql.instant_vector import pack as packed
from meterd.promql.matcher import regex
from meterd.promql.result import PromErrorType, QueryError

# Characters of a label's value that a function makes; nobody can read as many.
LONGEST_VALUE = 16_384

_GROUP = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))")


def replaced(
    frame: InstantVector, target: str, template: str, source: str, pattern: str, budget: Budget
) -> InstantVector:
    """The target label set from the groups of a full match; other series stay as they are.

    Raises QueryError (execution) for a bad regex or target, and where two series become one.
    """
    try:
        expression = regex(pattern)
    except QueryError as error:
        what = f"invalid regular expression in label_replace(): {pattern}"
        raise QueryError(PromErrorType.EXECUTION, what) from error
    _name(target, "label_replace")
    labels = []
    for each in frame.labels:
        budget.pulse()
        found = expression.fullmatch(get(each, source))
        if found is None:
            labels.append(each)
            continue
        value = _put_together(_expanded(template, found), "label_replace")
        labels.append(_set(each, target, value))
    return united(labels, frame.values, frame.here)


def joined(
    frame: InstantVector, target: str, separator: str, sources: Sequence[str], budget: Budget
) -> InstantVector:
    """The target label set to the sources' values. Raises QueryError (execution)."""
    _name(target, "label_join")
    for source in sources:
        if not source:
            raise QueryError(
                PromErrorType.EXECUTION, f"invalid source label name in label_join(): {source}"
            )
    labels = []
    for each in frame.labels:
        budget.pulse()
        parts = (part for source in sources for part in (separator, get(each, source)))
        value = _put_together(islice(parts, 1, None), "label_join")
        labels.append(_set(each, target, value))
    return united(labels, frame.values, frame.here)


def _name(target: str, function: str) -> None:
    if not target:
        raise QueryError(
            PromErrorType.EXECUTION, f"invalid destination label name in {function}(): {target}"
        )


def _set(labels: Labels, name: str, value: str) -> Labels:
    return packed(dict(labels) | {name: value})


def _put_together(parts: Iterable[str], function: str) -> str:
    """The parts as one text: a value made of itself, ten times over, soon fills all memory."""
    whole: list[str] = []
    room = LONGEST_VALUE
    for part in parts:
        room -= len(part)
        if room < 0:
            what = f"{function}() makes a label value longer than {LONGEST_VALUE} characters"
            raise QueryError(PromErrorType.EXECUTION, what)
        whole.append(part)
    return "".join(whole)


def _expanded(template: str, found: Any) -> Iterator[str]:
    """$1, ${1}, $name and $$ as Go reads them; an unknown group is empty."""
    named = found.groupdict()
    last = 0
    for hit in _GROUP.finditer(template):
        yield template[last : hit.start()]
        last = hit.end()
        name = hit[2] or hit[3]
        if hit[1]:
            yield "$"
        elif not name.isdecimal():
            yield named.get(name) or ""
        elif len(name) < 9 and int(name) <= len(found.groups()):
            yield found.group(int(name)) or ""
    yield template[last:]


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key that sorts a2 before a10."""
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]
