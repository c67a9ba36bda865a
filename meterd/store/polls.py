"""Polls as the journal has them, and polls again from what it or the spool kept of them."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from operator import attrgetter

from meterd.model.sample import Doubt, Layout, Poll
from meterd.store.catalog import Catalog
from meterd.store.corrupt import DamageError
from meterd.store.format.columns import Sheet, Span, merge
from meterd.store.hot import Hot, Stretch
from meterd.store.stretch import doubts_of

Names = Callable[[int], tuple[str, str, str]]
"""Device, quantity and unit of a series, by its number."""


class Polls:
    """Makes polls of spans; equal columns get one Layout."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._layouts: dict[tuple[int, ...], Layout] = {}

    def of(self, span: Span, device: str) -> Iterator[Poll]:
        """The polls of a span in time order. Polls that had no columns at all are not kept."""
        rows: list[list[tuple[int, float]]] = [[] for _ in span.times]
        doubts: dict[int, dict[int, Doubt]] = {}
        for column in span.columns:
            for row, value in zip(column.rows, column.values, strict=True):
                rows[row].append((column.series, value))
            for place, doubt in doubts_of(column):
                doubts.setdefault(column.rows[place], {})[column.series] = doubt
        for number, (time, cells) in enumerate(zip(span.times, rows, strict=True)):
            series = tuple(one for one, _ in cells)
            values = tuple(value if value == value else None for _, value in cells)
            doubted = {
                place: doubts[number][one]
                for place, one in enumerate(series)
                if one in doubts.get(number, ())
            }
            yield Poll(device, time, self._layout(series), values, doubted)

    def _layout(self, series: tuple[int, ...]) -> Layout:
        if series not in self._layouts:
            self._layouts[series] = Layout.of([self._names(one)[1:] for one in series])
        return self._layouts[series]


def replay(rows: Iterable[tuple[int, list[Span]]], hot: Hot, catalog: Catalog) -> dict[int, int]:
    """Takes the polls of journal rows; returns the newest time (Unix ms) of each row.

    Raises DamageError for a row of devices or series that the store does not have.
    """
    polls = Polls(lambda number: catalog.by_id[number].name)
    newest: dict[int, int] = {}
    # Closed at once where a row is refused: the rows may come out of a transaction.
    with closing(_each(rows)) as each:
        for number, spans in each:
            if strange := _strange(spans, catalog):
                text = f"it holds polls of {strange}, which the store does not have"
                raise DamageError("journal", number, text)
            newest[number] = max((span.times[-1] for span in spans), default=0)
            catalog.note(spans)
            told = (polls.of(span, catalog.names[span.device]) for span in spans)
            # Layouts that took turns are spans of their own.
            for poll in sorted(chain.from_iterable(told), key=attrgetter("time")):
                hot.take(poll)
    return newest


def _each(rows: Iterable[tuple[int, list[Span]]]) -> Generator[tuple[int, list[Span]]]:
    yield from rows


def _strange(spans: Iterable[Span], catalog: Catalog) -> str:
    """The first device or series that nobody knows, or a series that is another device's."""
    for span in spans:
        name = catalog.names.get(span.device)
        if name is None:
            return f"device {span.device}"
        for column in span.columns:
            known = catalog.by_id.get(column.series)
            if known is None or known.name[0] != name:
                return f"series {column.series} of {name}"
    return ""


def journal_spans(batch: Sequence[Stretch], catalog: Catalog) -> list[Span]:
    """What a journal row says of these polls, device by device."""
    by_device: dict[str, list[Span]] = {}
    for stretch in batch:
        owner = catalog.device(stretch.device)
        spans = by_device.setdefault(stretch.device, [])
        spans += (span for span in stretch.rows(owner, catalog.one) if span.times)
    return [span for spans in by_device.values() for span in _for_journal(spans)]


def _for_journal(spans: list[Span]) -> list[Span]:
    """Rows as they are, which is quicker than to merge them; anything else as one span."""
    rows = len(spans) == 1 or all(isinstance(span, Sheet) for span in spans)
    return spans if rows else [merge(spans)]
