"""A write batch: what compaction changes, collected first, then written in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from meterd.store.blocks import block as blocks
from meterd.store.blocks.chunk import Chunk
from meterd.store.db.keys import dirty_of
from meterd.store.db.statements import Row


@dataclass(frozen=True, slots=True)
class BlockEntry:
    """The row of a block without its body: device, first and last time (Unix ms), polls."""

    device: int
    first: int
    last: int
    count: int


@dataclass(slots=True)
class WriteBatch:
    """Inserts and deletes of one transaction of compaction."""

    blocks: dict[int, BlockEntry] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    gone: list[int] = field(default_factory=list)  # blocks that were merged into others
    journal_gone: list[int] = field(default_factory=list)
    carry: bytes | None = None  # the polls of those rows that are in no block yet
    hours: dict[int, Row] = field(default_factory=dict)
    hours_gone: list[int] = field(default_factory=list)
    rollups: list[Row] = field(default_factory=list)
    rollups_gone: list[int] = field(default_factory=list)
    stained: set[int] = field(default_factory=set)  # dirty days, by dirty_id
    cleaned: set[int] = field(default_factory=set)

    def add(self, key: int, chunk: Chunk, encoded: Sequence[bytes] | None = None) -> None:
        """`encoded` are the columns' values, where that was done already."""
        times = chunk.times
        self.blocks[key] = BlockEntry(chunk.device, times[0], times[-1], len(times))
        self.bodies[key] = blocks.encode(chunk, encoded)

    def drop(self, key: int) -> Chunk:
        """Removes a block that was merged into another."""
        del self.blocks[key]
        return blocks.decode(self.bodies.pop(key))

    @property
    def size(self) -> int:
        return sum(map(len, self.bodies.values()))

    @property
    def devices(self) -> set[int]:
        """Whose blocks and days it changes."""
        days = (dirty_of(key)[0] for key in (*self.stained, *self.cleaned))
        return {one.device for one in self.blocks.values()}.union(days)
