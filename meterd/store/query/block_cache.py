"""Cache of decoded series of blocks: charts ask for the same ones every few seconds."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from meterd.store.query.series_array import SeriesArray, Times, of_block

MOST_BYTES = 24 << 20  # twelve series at 10 s for eight days

_OVERHEAD = 500  # bytes of a block without its arrays, about

_Key = tuple[int, int, bytes]


@dataclass(slots=True)
class _CachedBlock:
    """Decoded series of one block; None for series that it does not have."""

    found: dict[int, SeriesArray | None] = field(default_factory=dict)
    size: int = 0


class BlockCache:
    """Thread-safe; evicts the least recently used."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        """`most`: bytes."""
        self._guard = threading.Lock()
        self._most = most
        self._size = 0
        self._blocks: OrderedDict[_Key, _CachedBlock] = OrderedDict()

    def arrays(
        self, number: int, body: bytes, wanted: Sequence[int]
    ) -> list[tuple[int, SeriesArray]]:
        """The wanted series of the block with that key. Raises StoreError (corrupt).

        The arrays are not to be written to.
        """
        # A block that was merged with late polls has the same key and another checksum.
        key = number, len(body), bytes(body[-4:])
        with self._guard:
            block = self._blocks.get(key)
            cached = {} if block is None else dict(block.found)
            if block is not None:
                self._blocks.move_to_end(key)
        missing = [series for series in wanted if series not in cached]
        if missing:
            fresh = dict.fromkeys(missing, None) | dict(of_block(body, missing))
            cached |= fresh
            self._add(key, fresh)
        return [(series, array) for series in wanted if (array := cached[series]) is not None]

    def _add(self, key: _Key, fresh: dict[int, SeriesArray | None]) -> None:
        with self._guard:
            block = self._blocks.setdefault(key, _CachedBlock())
            before = block.size
            block.found |= fresh
            arrays_ = [array for array in block.found.values() if array is not None]
            # Series of one block mostly share their times.
            times = {id(base): base.nbytes for base in map(_base, arrays_)}
            arrays = sum(times.values()) + sum(array.values.nbytes for array in arrays_)
            # Also where it has none of the series: a long window meets thousands of such blocks.
            block.size = _OVERHEAD + arrays
            self._size += block.size - before
            while self._size > self._most:
                _, gone = self._blocks.popitem(last=False)
                self._size -= gone.size


def _base(track: SeriesArray) -> Times:
    """The array that the times are a part of."""
    base: Times | None = track.times.base
    return track.times if base is None else base
