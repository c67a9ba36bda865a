"""What a reader has to know of polls that no commit has confirmed yet."""

from collections.abc import Iterable, Iterator, Sequence

from meterd.model.sample import Layout, Poll, Quality
from meterd.store.asked import Asked, Name

Times = dict[int, float | None]
"""Unix ms -> value; None where the newest word on that time is that there is no value."""


def values(polls: Iterable[Poll], asked: Asked) -> dict[Name, Times]:
    """The samples in the window, by series; of two at one time the later one counts."""
    found: dict[Name, Times] = {}
    columns: dict[int, Sequence[tuple[int, str, str]]] = {}
    for poll in polls:
        if not (asked.start <= poll.time < asked.end and asked.wants_device(poll.device)):
            continue
        layout = poll.layout
        if id(layout) not in columns:
            columns[id(layout)] = list(_wanted(layout, asked))
        for column, quantity, unit in columns[id(layout)]:
            series = found.setdefault((poll.device, quantity, unit), {})
            series[poll.time] = _value(poll, column)
    return found


def _wanted(layout: Layout, asked: Asked) -> Iterator[tuple[int, str, str]]:
    for column, (quantity, unit) in enumerate(zip(layout.quantities, layout.units, strict=True)):
        if asked.wants_quantity(quantity):
            yield column, quantity, unit


def _value(poll: Poll, column: int) -> float | None:
    doubt = poll.doubts.get(column)
    return None if doubt is not None and doubt.quality is Quality.INVALID else poll.values[column]


def extents(polls: Iterable[Poll]) -> dict[Name, tuple[int, int]]:
    """The first and last time (Unix ms) of each series."""
    found: dict[Name, tuple[int, int]] = {}
    for (device, _), (layout, first, last) in _spans(polls).items():
        for quantity, unit in zip(layout.quantities, layout.units, strict=True):
            name = device, quantity, unit
            known = found.get(name, (first, last))
            found[name] = min(known[0], first), max(known[1], last)
    return found


def _spans(polls: Iterable[Poll]) -> dict[tuple[str, int], tuple[Layout, int, int]]:
    spans: dict[tuple[str, int], tuple[Layout, int, int]] = {}
    for poll in polls:
        key = poll.device, id(poll.layout)
        _, first, last = spans.get(key, (poll.layout, poll.time, poll.time))
        spans[key] = poll.layout, min(first, poll.time), max(last, poll.time)
    return spans
