"""Aggregates of windows start < time <= end, such as PromQL's, from roll-ups where these suffice.

A window that begins and ends at multiples of half an hour is made of whole quarter hours, but for
the samples that stand exactly at its ends: that at its start is none of it, that at its end is.
Roll-ups keep these apart, the *aligned* samples, so every window is a run of pieces in time order:

    at 10:00 | after 10:00 until before 10:15 | 10:15 until before 10:30 | at 10:30 | …
               └── the window (10:00, 10:30] is these ──────────────────────────┘

Days without roll-ups that say it (the newest ones, those of old stores, those that wait for
compaction) are cut into the same pieces out of raw samples.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from meterd.model.quantity import GUARDED
from meterd.store.blocks.rollup import ALIGNMENT_MS, QUARTER_MS, QUARTERS
from meterd.store.blocks.slicing import DAY
from meterd.store.head.catalog import Name
from meterd.store.query.block_reader import BlockReader
from meterd.store.query.range_reader import Moment, bounded, sample_arrays
from meterd.store.query.series_array import EMPTY, SeriesArray, Times, Values

AGGREGATES: Final = frozenset(("avg", "sum", "min", "max", "count"))

# The lane of a roll-up that an aggregate is made of, besides the number of samples.
_LANES: Final = {"avg": "sum", "sum": "sum", "min": "min", "max": "max"}
_FOLDS: Final = {"min": np.minimum, "max": np.maximum}
# Days whose samples are read in place of their roll-ups. Where there are more, whoever asks reads
# samples with a limit of his own.
_MOST_RAW_DAYS = 40
# At once: 1.7 M samples of series at 10 s, which are 28 MB.
_DAYS_AT_ONCE, _NAMES_AT_ONCE = 5, 40
# The last two days have no roll-ups yet.
_LEAST_MS = 2 * DAY
# Meterd's values have no more decimals; what is left beyond is rounding.
_DIGITS = 6
_TIDY = 1e-12


Places: TypeAlias = NDArray[np.intp]


class WindowAggregates(NamedTuple):
    """One number a window, and how many samples it is made of; NaN where there are none."""

    values: Values
    counts: Values


class _WindowPieces(NamedTuple):
    """Parts of windows, ascending by `keys`; `values` is what the aggregate is made of.

    The key of an aligned sample is twice the number of the quarter hour that begins there, that of
    the samples behind it one more.
    """

    keys: Times
    n: Values
    values: Values


_NO_PIECES: Final = _WindowPieces(np.empty(0, np.int64), np.empty(0), np.empty(0))


def fits(starts: Times, ends: Times) -> bool:
    """Whether all windows (Unix ms) begin and end where roll-ups can tell, and there are some."""
    if ends[-1] - starts[0] < _LEAST_MS:
        return False
    return not ((starts % ALIGNMENT_MS).any() or (ends % ALIGNMENT_MS).any())


def window_aggregates(
    moment: Moment, names: Sequence[Name], starts: Times, ends: Times, agg: str
) -> list[WindowAggregates | None]:
    """Of each series, without nulls and invalid samples; None where its samples are to be asked.

    `starts` and `ends` are ascending Unix ms for which `fits` holds. Raises StoreError.
    """
    of_days = not ((starts % DAY).any() or (ends % DAY).any())
    blocks = BlockReader(moment.connection, moment.decoded)
    first_start, last_end = int(starts[0]), int(ends[-1])
    gathered: dict[Name, list[_WindowPieces]] = {}
    raw: dict[range, list[Name]] = {}
    for name in names:
        moment.go_on()
        found = _rolled_days(moment, blocks, name, (first_start, last_end), agg, of_days)
        if found is not None and len(found.missing) <= _MOST_RAW_DAYS:
            gathered[name] = [found.pieces]
            for run in _runs(sorted(found.missing)):
                for first in range(run.start, run.stop, _DAYS_AT_ONCE):
                    days = range(first, min(run.stop, first + _DAYS_AT_ONCE))
                    raw.setdefault(days, []).append(name)
    for days, some in raw.items():
        start, end = max(first_start + 1, days.start * DAY), min(last_end + 1, days.stop * DAY)
        for first in range(0, len(some), _NAMES_AT_ONCE):
            tracks = sample_arrays(moment, some[first : first + _NAMES_AT_ONCE], start, end)
            for name, track in tracks.items():
                gathered[name].append(_cut(track.without_nulls(), agg))
    return [
        _windows(_in_order(gathered[name]), starts, ends, agg) if name in gathered else None
        for name in names
    ]


def _windows(pieces: _WindowPieces, starts: Times, ends: Times, agg: str) -> WindowAggregates:
    low = np.searchsorted(pieces.keys, starts // QUARTER_MS * 2, side="right")
    high = np.searchsorted(pieces.keys, ends // QUARTER_MS * 2, side="right")
    counts = _reduced(np.add, pieces.n, low, high)
    folded = counts
    if agg != "count":
        folded = _reduced(_FOLDS.get(agg, np.add), pieces.values, low, high)
    if agg in ("avg", "sum"):
        folded = _tidy(folded, np.abs(folded))
    if agg == "avg":
        folded = folded / np.maximum(counts, 1)
    return WindowAggregates(np.where(counts > 0, folded, np.nan), counts)


class _RolledDays(NamedTuple):
    """What roll-ups say of a window, and the days (since 1970) of which they do not say enough."""

    pieces: _WindowPieces
    missing: set[int]


def _rolled_days(
    moment: Moment,
    blocks: BlockReader,
    name: Name,
    window: tuple[int, int],
    agg: str,
    of_days: bool,
) -> _RolledDays | None:
    """Of start < time <= end, and perhaps some around; None where samples are left out singly."""
    if name[1].startswith(GUARDED):
        return None  # those of a wrong time
    days = set(bounded(moment, [name], window[0] + 1, window[1] + 1).all())
    series = moment.catalog.series.get(name)
    if series is None or not days:
        return _RolledDays(_NO_PIECES, days)
    device = moment.catalog.devices[name[0]]
    recent = moment.head.get(name, EMPTY).times
    open_day = int(recent[0]) // DAY if len(recent) else max(days) + 1
    rolled = {day for day in days if day < open_day and blocks.is_rolled(device, day)}
    if not rolled or len(days) - len(rolled) > _MOST_RAW_DAYS:
        return _RolledDays(_NO_PIECES, days)
    span = range(min(rolled), max(rolled) + 1)
    pieces, unknown = _rolled(blocks, series.id, span, agg, of_days=of_days)
    unknown &= rolled
    return _RolledDays(_of_days(pieces, rolled - unknown), (days - rolled) | unknown)


def _runs(days: Sequence[int]) -> Iterator[range]:
    """Consecutive days."""
    for _, run in groupby(enumerate(days), lambda numbered: numbered[1] - numbered[0]):
        listed = [day for _, day in run]
        yield range(listed[0], listed[-1] + 1)


def _in_order(parts: Sequence[_WindowPieces]) -> _WindowPieces:
    keys = np.concatenate([_NO_PIECES.keys, *[part.keys for part in parts]])
    n = np.concatenate([_NO_PIECES.n, *[part.n for part in parts]])
    values = np.concatenate([_NO_PIECES.values, *[part.values for part in parts]])
    order = np.argsort(keys, kind="stable")
    return _WindowPieces(keys[order], n[order], values[order])


def _of_days(pieces: _WindowPieces, days: set[int]) -> _WindowPieces:
    """Those of these days alone."""
    of_day = pieces.keys // (2 * QUARTERS)
    chosen = np.isin(of_day, np.fromiter(days, np.int64, len(days)))
    if chosen.all():
        return pieces
    return _WindowPieces(pieces.keys[chosen], pieces.n[chosen], pieces.values[chosen])


def _rolled(
    blocks: BlockReader, series: int, days: range, agg: str, *, of_days: bool
) -> tuple[_WindowPieces, set[int]]:
    """What roll-ups say of these days, and the days of which they do not say enough."""
    if not of_days:
        return _of_quarters(blocks, series, days, agg)
    whole = blocks.whole_days(series, days.start, days.stop, _LANES.get(agg, "sum"))
    is_aligned = whole.first_times == whole.days * DAY
    inner_n, values = whole.n - is_aligned, whole.values
    doubtful = whole.first_times < 0
    if agg in _FOLDS:
        # Whether another sample is as extreme as the aligned one is not known of the whole day.
        doubtful |= is_aligned & (whole.firsts == values)
    else:
        values = np.where(is_aligned, _without(values, whole.firsts), values)
    kept = (inner_n > 0) & ~doubtful
    keys = whole.days * (2 * QUARTERS)
    alone = is_aligned & ~doubtful
    parts = [
        _WindowPieces(keys[kept] + 1, inner_n[kept], values[kept]),
        _WindowPieces(
            keys[alone],
            np.ones(int(alone.sum())),
            whole.firsts[alone],
        ),
    ]
    unknown: set[int] = set()
    for run in _runs(whole.days[doubtful].tolist()):
        pieces, missing = _of_quarters(blocks, series, run, agg)
        parts.append(pieces)
        unknown |= missing
    return _in_order(parts), unknown


def _without(sums: Values, aligned: Values) -> Values:
    """Sums without one of their terms."""
    return _tidy(sums - aligned, np.abs(sums))


def _tidy(sums: Values, scale: Values) -> Values:
    """Rounded to decimals where they only differ by binary rounding, relative to `scale`."""
    rounded = np.round(sums, _DIGITS)
    return np.where(np.abs(rounded - sums) <= _TIDY * scale, rounded, sums)


def _of_quarters(
    blocks: BlockReader, series: int, days: range, agg: str
) -> tuple[_WindowPieces, set[int]]:
    lane = _LANES.get(agg)
    quarters, aligned, unknown = blocks.apart(
        series, days.start, days.stop, () if lane is None else (lane,)
    )
    values = {"min": quarters.low, "max": quarters.high}.get(agg, quarters.total)
    parts = [
        _WindowPieces(2 * quarters.numbers + 1, quarters.n, values),
        _WindowPieces(
            2 * aligned.numbers,
            np.ones(len(aligned.values)),
            aligned.values,
        ),
    ]
    return _in_order(parts), set(unknown)


def _cut(track: SeriesArray, agg: str) -> _WindowPieces:
    """Raw samples as pieces."""
    times, values = track
    if not len(times):
        return _NO_PIECES
    keys = times // QUARTER_MS * 2 + (times % ALIGNMENT_MS > 0)
    first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    n = np.diff(first, append=len(times)).astype(np.float64)
    fold = _FOLDS.get(agg, np.add)
    return _WindowPieces(keys[first], n, fold.reduceat(values, first))


def _reduced(
    fold: np.ufunc, lane: Values, low: "NDArray[np.intp]", high: "NDArray[np.intp]"
) -> Values:
    """The fold of lane[low:high] for each window, 0 for empty ones."""
    reduced = np.zeros(len(low))
    full = high > low
    if full.any():
        pairs = np.empty(2 * int(full.sum()), np.intp)
        pairs[0::2], pairs[1::2] = low[full], high[full]
        reduced[full] = fold.reduceat(np.append(lane, 0.0), pairs)[::2]
    return reduced
