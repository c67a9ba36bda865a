"""All polls of one commit as one body: a WAL row.

    | bytes when inflated | deflated: shapes of chunks | columns | states | series by length |

One deflate stream over everything: single series have a handful of values each.
"""

import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from functools import lru_cache, partial
from itertools import accumulate, chain, compress, repeat, zip_longest
from operator import itemgetter, sub

from meterd.store.blocks import byte_planes, matrix, string_table, varint
from meterd.store.blocks.checksum import seal, verified
from meterd.store.blocks.chunk import (
    Chunk,
    ChunkColumn,
    RowBatch,
    Rows,
    State,
    as_range,
    check,
    check_order,
    has_infinity,
    without_infinities,
)
from meterd.store.blocks.matrix import AS_IS, laid
from meterd.store.blocks.varint import Cursor, Damage

FORMAT = 1
MOST_BYTES = 1 << 28  # inflated; a damaged length must not eat the memory
_WHAT = "a journal row"
_LEVEL = 4  # 7 % smaller than 1, for 0.02 µs a sample
_WINDOW, _MEMORY = -15, 6

_Pick = Callable[["array[float]"], Iterable[float]]


def encode(chunks: Sequence[Chunk], digits: MutableMapping[int, int] | None = None) -> bytes:
    """Raises ValueError for a chunk that breaks its own rules.

    `digits` remembers from one commit to the next how many digits each series has, which saves
    a third of the work; the caller keeps it, and may lose it.
    """
    digits = {} if digits is None else digits
    sheets = [chunk for chunk in chunks if isinstance(chunk, RowBatch) and chunk.values]
    if sheets and len(sheets) == len(chunks):
        return _sealed([_sheet_shapes(sheets), *_sheet_series(sheets, digits)])
    columns = [column for chunk in chunks for column in chunk.columns]
    values = [column.values for column in columns]
    ids = [column.series for column in columns]
    lengths = list(map(len, values))
    doubted = [column for column in columns if column.states]
    _check(chunks, columns, lengths, bool(doubted))
    shapes = _shapes(chunks, [len(chunk.columns) for chunk in chunks])
    parts = [shapes, _columns(chunks, columns, ids, lengths), _states(columns, doubted)]
    for length, places in _groups([len(chunk.columns) for chunk in chunks], lengths):
        series = [ids[place] for place in places]
        some = [values[place] for place in places]
        parts.append(_learned(series, digits, partial(matrix.write, some, length)))
    return _sealed(parts)


def _learned(
    series: Sequence[int], digits: MutableMapping[int, int], write: Callable[[bytearray], bytes]
) -> bytes:
    """What `write` makes of the decimal digits that each series had last; remembers those it
    corrects.
    """
    before = bytes(map(digits.get, series, repeat(0)))
    tried = bytearray(before)
    body = write(tried)
    if tried != before:
        digits.update(zip(series, tried.replace(bytes((AS_IS,)), b"\0"), strict=True))
    return body


def _sealed(parts: Iterable[bytes]) -> bytes:
    plain = b"".join(parts)
    if len(plain) > MOST_BYTES:
        raise ValueError(f"{len(plain)} bytes are too many for one journal row")
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY, zlib.Z_FILTERED)
    return seal(FORMAT, varint.number(len(plain)) + stream.compress(plain) + stream.flush())


def _sheet_shapes(sheets: Sequence[RowBatch]) -> bytes:
    """What is before the series, of chunks whose columns have all rows."""
    for sheet in sheets:
        check_order(sheet)
    shapes = _shapes(sheets, [len(sheet.ids) for sheet in sheets])
    ids, _, _ = _of_sheets(tuple(sheet.ids for sheet in sheets))
    return shapes + ids + 2 * byte_planes.ZEROS + _states((), ())


def _sheet_series(sheets: Sequence[RowBatch], digits: MutableMapping[int, int]) -> Iterator[bytes]:
    """By length and woven like `_groups` does; but row by row, as they are."""
    for length in sorted({len(sheet.times) for sheet in sheets}):
        mine = [sheet for sheet in sheets if len(sheet.times) == length]
        _, pick, series = _of_sheets(tuple(sheet.ids for sheet in mine))
        polls = [array("d", pick(_row(mine, row))) for row in range(length)]
        yield _learned(series, digits, partial(matrix.write_polls, polls))


@lru_cache(maxsize=4)
def _of_sheets(ids: tuple[tuple[int, ...], ...]) -> tuple[bytes, _Pick, tuple[int, ...]]:
    """The ids as they are written, what weaves a row of them, and the woven ids.

    From one commit to the next they are mostly the same, and thousands.
    """
    order = _woven(tuple(map(len, ids)))
    flat = list(chain.from_iterable(ids))
    # Of one place, itemgetter would give no tuple.
    pick: _Pick = itemgetter(*order) if len(order) > 1 else tuple
    return byte_planes.lay(_differences(flat)), pick, tuple(flat[place] for place in order)


def _row(sheets: Sequence[RowBatch], row: int) -> "array[float]":
    """That row of each sheet, one behind the other."""
    cut = [(sheet.values, row * len(sheet.ids), len(sheet.ids)) for sheet in sheets]
    return array("d", b"".join([values[at : at + width].tobytes() for values, at, width in cut]))


@lru_cache(maxsize=16)
def _woven(widths: tuple[int, ...]) -> list[int]:
    """Of columns side by side: the first of each sheet, the second of each, …"""
    ends = list(accumulate(widths))
    of_sheets = [range(end - width, end) for end, width in zip(ends, widths, strict=True)]
    return [place for places in zip_longest(*of_sheets) for place in places if place is not None]


def decode(body: bytes) -> list[Chunk]:
    """The chunks, as they were given. Raises StoreError (corrupt)."""
    return _decoded(body, by_row=False)


def decode_rows(body: bytes) -> list[Chunk]:
    """The chunks; as a RowBatch each where all series have all rows, none null or doubted.

    No object is made for a series then, which takes a tenth of the time. Raises StoreError
    (corrupt).
    """
    return _decoded(body, by_row=True)


def _decoded(body: bytes, *, by_row: bool) -> list[Chunk]:
    with verified(_WHAT, FORMAT, body) as outside:
        size = outside.number()
        if size > MOST_BYTES:
            raise Damage(f"{size} bytes")
        cursor = Cursor(byte_planes.inflate(outside.rest(), size))
        chunks = _read(cursor, by_row=by_row)
        cursor.end()
        return chunks


def _check(
    chunks: Sequence[Chunk], columns: Sequence[ChunkColumn], lengths: Sequence[int], doubted: bool
) -> None:
    """Quickly for the usual chunk, whose columns have all rows and no doubts."""
    for chunk in chunks:
        check_order(chunk)
    rows = [len(column.rows) for column in columns]
    counts = chain.from_iterable([len(chunk.times)] * len(chunk.columns) for chunk in chunks)
    if doubted or rows != lengths or rows != list(counts):
        for chunk in chunks:
            check(chunk)


def _shapes(chunks: Sequence[Chunk], widths: Sequence[int]) -> bytes:
    """Devices, how many times and columns each has, and the times."""
    firsts = [chunk.times[0] for chunk in chunks if chunk.times]
    steps = [step for chunk in chunks for step in map(sub, chunk.times[1:], chunk.times)]
    return b"".join(
        (
            varint.number(len(chunks)),
            byte_planes.lay([chunk.device for chunk in chunks]),
            byte_planes.lay([len(chunk.times) for chunk in chunks]),
            byte_planes.lay(widths),
            byte_planes.lay(_differences(firsts)),
            byte_planes.lay(steps),
        )
    )


def _columns(
    chunks: Sequence[Chunk],
    columns: Sequence[ChunkColumn],
    ids: Sequence[int],
    lengths: Sequence[int],
) -> bytes:
    """Series ids, how many rows are missing of each column, and the rows where some are."""
    counts = chain.from_iterable([len(chunk.times)] * len(chunk.columns) for chunk in chunks)
    missing = list(map(sub, counts, lengths))
    partial = compress(columns, missing) if any(missing) else ()
    rows = [row for column in partial for row in column.rows]
    return byte_planes.lay(_differences(ids)) + byte_planes.lay(missing) + byte_planes.lay(rows)


def _states(columns: Sequence[ChunkColumn], doubted: Sequence[ChunkColumn]) -> bytes:
    reasons = string_table.numbered(doubted)
    runs = [len(column.states) for column in columns] if doubted else []
    flat = [
        number
        for column in doubted
        for count, quality, reason in column.states
        for number in (count, quality, reasons[reason])
    ]
    return (
        byte_planes.lay(runs) + varint.sized(string_table.encode(reasons)) + byte_planes.lay(flat)
    )


def _differences(numbers: Sequence[int]) -> list[int]:
    return list(map(sub, numbers, chain((0,), numbers)))


def _groups(widths: Sequence[int], lengths: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Places of columns of equal length: the first of each chunk, the second of each, …"""
    woven = _woven(tuple(widths))
    distinct = sorted(set(lengths))
    if len(distinct) == 1:
        yield distinct[0], woven
        return
    for length in distinct:
        yield length, [place for place in woven if lengths[place] == length]


def _read(cursor: Cursor, *, by_row: bool) -> list[Chunk]:
    devices, times, widths = _read_shapes(cursor)
    counts, total = list(map(len, times)), sum(widths)
    ids = tuple(accumulate(laid(cursor, total)))
    if by_row:
        start = cursor.place
        sheets = _row_batches(cursor, devices, times, ids, widths)
        if sheets is not None:
            return sheets
        cursor.go_back(start)
    of_span = list(chain.from_iterable([n] * width for n, width in enumerate(widths)))
    missing = laid(cursor, total)
    lengths = [counts[n] - less for n, less in zip(of_span, missing, strict=True)]
    rows = _rows(cursor, [counts[n] for n in of_span], lengths)
    states = _runs(cursor, lengths)
    values = _values(cursor, widths, lengths)
    columns = map(without_infinities, map(ChunkColumn, ids, rows, values, states))
    return [
        Chunk(device, at, tuple(next(columns) for _ in range(width)))
        for device, at, width in zip(devices, times, widths, strict=True)
    ]


def _read_shapes(cursor: Cursor) -> tuple[list[int], list["array[int]"], list[int]]:
    """Of each chunk the device, its times, and how many columns it has."""
    many = cursor.number()
    devices, counts, widths = (laid(cursor, many).tolist() for _ in range(3))
    return devices, _times(cursor, counts), widths


def _row_batches(
    cursor: Cursor,
    devices: Sequence[int],
    times: Sequence["array[int]"],
    ids: tuple[int, ...],
    widths: Sequence[int],
) -> list[Chunk] | None:
    """The rest of a record as a RowBatch a chunk; None where something is missing or doubted."""
    total, lengths = len(ids), list(map(len, times))
    if not total or any(laid(cursor, total)) or laid(cursor, 0):
        return None
    if any(laid(cursor, total)) or string_table.decode(cursor.sized()) or laid(cursor, 0):
        return None
    rows: list[list[bytes]] = [[] for _ in widths]
    for length in sorted(set(lengths)):
        mine = tuple(place for place, count in enumerate(lengths) if count == length)
        some = tuple(widths[place] for place in mine)
        polls, nulls = matrix.read_polls(cursor, sum(some), length)
        if nulls or any(map(has_infinity, polls)):
            return None
        pick = _unwoven(some)
        for poll in polls:
            flat, at = array("d", pick(poll)).tobytes(), 0
            for place, width in zip(mine, some, strict=True):
                rows[place].append(flat[at : at + 8 * width])
                at += 8 * width
    chunks: list[Chunk] = []
    at = 0
    for device, when, width, parts in zip(devices, times, widths, rows, strict=True):
        values = array("d", b"".join(parts))
        chunks.append(RowBatch(device, when, ids[at : at + width], values))
        at += width
    return chunks


@lru_cache(maxsize=4)
def _unwoven(widths: tuple[int, ...]) -> _Pick:
    """What puts a row that `_woven` wove back: chunk by chunk."""
    woven = _woven(widths)
    order = sorted(range(len(woven)), key=woven.__getitem__)
    return itemgetter(*order) if len(order) > 1 else tuple


def _times(cursor: Cursor, counts: Sequence[int]) -> list["array[int]"]:
    firsts = accumulate(laid(cursor, sum(1 for count in counts if count)))
    steps = laid(cursor, sum(count - 1 for count in counts if count))
    times: list[array[int]] = []
    used = 0
    for count in counts:
        if not count:
            times.append(array("q"))
            continue
        mine = steps[used : used + count - 1]
        times.append(array("q", accumulate(mine, initial=next(firsts))))
        used += count - 1
    return times


def _rows(cursor: Cursor, counts: Sequence[int], lengths: Sequence[int]) -> list[Rows]:
    partial = [length for length, count in zip(lengths, counts, strict=True) if length != count]
    flat = laid(cursor, sum(partial))
    rows: list[Rows] = []
    used = 0
    for length, count in zip(lengths, counts, strict=True):
        if length == count:
            rows.append(range(count))
            continue
        rows.append(as_range(flat[used : used + length]))
        used += length
    return rows


def _runs(cursor: Cursor, lengths: Sequence[int]) -> list[tuple[State, ...]]:
    runs = laid(cursor, len(lengths))
    reasons = string_table.decode(cursor.sized())
    flat = laid(cursor, 3 * sum(runs)).tolist()
    each = iter(zip(flat[::3], flat[1::3], (reasons[n] for n in flat[2::3]), strict=True))
    return [tuple(next(each) for _ in range(many)) for many in runs]


def _values(
    cursor: Cursor, widths: Sequence[int], lengths: Sequence[int]
) -> Iterable["array[float]"]:
    by_place: dict[int, array[float]] = {}
    for length, places in _groups(widths, lengths):
        by_place.update(zip(places, matrix.read(cursor, len(places), length), strict=True))
    return (by_place[place] for place in range(len(lengths)))
