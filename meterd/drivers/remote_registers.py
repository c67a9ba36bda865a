"""Remote registers: scale factors, ratios and words of a value that need requests of their own.

They are read before and after the value, which is valid if they are equal both times.

words of one number   | high | low | high |            the high word changed: low and high again
a scale, a ratio      | value | scale |                the last poll's scale is the one before

Words of a gauge are read before each poll. Those of a counter, and settings, may be as old as the
last poll: a counter only rises, so equal words did not change in between, and a setting changes
once a year.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from meterd.drivers.blocks import Block
from meterd.drivers.planner import plan
from meterd.drivers.registers import Place, RegisterMap, Row
from meterd.errors import Unsupported
from meterd.model.columns import Columns
from meterd.model.quantity import Kind
from meterd.model.sample import Reading

Fetch = Callable[[Block], Awaitable[bytes]]
Run = tuple[int, int, int]
"""Function, first and last register."""

# Repetitions in one poll of values whose remote words changed meanwhile.
_REPEATS_MAX = 2
# Cache size: plans differ by tier, and by exclusions while rows are refused.
_PLANS_CACHED_MAX = 20
_REGISTER_FUNCTIONS = (3, 4)
_SETTING_CHANGED = "the meter's scale was changed while it was read"
_WORDS_CHANGED = (
    "its registers are read in several requests, and changed from one to the next each time"
)


@dataclass(frozen=True, slots=True)
class _RemoteReads:
    """Remote registers of one poll's requests (`parts`): `blocks` to read after them, `before` of
    which also before; `rows` depend on them."""

    parts: Sequence[Block]
    rows: tuple[Row, ...]
    blocks: tuple[Block, ...]
    before: tuple[Block, ...]


class RemoteRegisters:
    """The remote registers of one meter. `known` are their last values by place; `refused` are the
    requests refused since the last `leave_out`."""

    __slots__ = ("_fetch", "_map", "_reads", "blocks", "known", "refused")

    def __init__(self, register_map: RegisterMap, fetch: Fetch) -> None:
        self._fetch = fetch
        self._map = register_map
        self._reads: dict[int, _RemoteReads] = {}
        self.blocks = requests(register_map)
        self.known: dict[Place, int] = {}
        self.refused: list[tuple[Block, Unsupported]] = []

    def forget(self) -> None:
        """Forget all values: another meter may answer from now on."""
        self.known = {}

    def leave_out(self, names: Collection[str]) -> None:
        """Replace the set of excluded registers; names are those that `requests` gives."""
        self.refused = []
        self.blocks = requests(self._map, names)
        self._reads.clear()
        places = set[Place]().union(*(_block_places(part) for part in self.blocks))
        self.known = {place: word for place, word in self.known.items() if place in places}

    def cost(self, parts: Sequence[Block]) -> list[Block]:
        """The additional requests of a poll with these."""
        reads = self._reads_of(parts)
        return [*reads.before, *reads.blocks]

    async def before(self, parts: Sequence[Block]) -> None:
        """Read what is needed before these requests are sent."""
        reads = self._reads_of(parts)
        for part in reads.blocks:
            if part in reads.before or not _block_places(part) <= self.known.keys():
                await self._read(part)

    async def after(self, parts: Sequence[Block], values: Columns) -> Columns:
        """The values of these requests, None for those whose remote registers changed meanwhile."""
        reads = self._reads_of(parts)
        reasons: dict[str, str] = {}
        moving: list[Row] = []
        for attempt in range(_REPEATS_MAX + 1):
            changed = await self._read_changed(reads.blocks)
            settings = [row for row in reads.rows if row.settings() & row.remote_places() & changed]
            reasons |= {row.quantity: _SETTING_CHANGED for row in settings}
            moving = [
                row
                for row in reads.rows
                if row.quantity not in reasons and row.remote_places() & changed
            ]
            if not moving or attempt == _REPEATS_MAX:
                break
            values = await self._repeat(reads, moving, values)
        reasons |= {row.quantity: _WORDS_CHANGED for row in moving}
        if not reasons:
            return values
        return Columns.of(
            [
                _without_value(reading, reasons[reading.quantity])
                if reading.quantity in reasons
                else reading
                for reading in values
            ]
        )

    async def _repeat(self, reads: _RemoteReads, rows: Iterable[Row], values: Columns) -> Columns:
        """The values with these rows read again."""
        quantities = {row.quantity for row in rows}
        repeated: dict[str, Reading] = {}
        for part in reads.parts:
            if quantities.isdisjoint(row.quantity for row in part.rows):
                continue
            try:
                columns = part.columns(await self._fetch(part), self.known)
            except Unsupported as refusal:
                columns = Columns.of(
                    [Reading(row.quantity, None, row.unit, str(refusal)) for row in part.rows]
                )
            repeated |= {
                reading.quantity: reading for reading in columns if reading.quantity in quantities
            }
        return Columns.of([repeated.get(reading.quantity, reading) for reading in values])

    async def _read_changed(self, blocks: Iterable[Block]) -> set[Place]:
        """Read these blocks; returns the places whose value changed."""
        old = dict(self.known)
        for part in blocks:
            await self._read(part)
        return {place for place in old if old[place] != self.known.get(place)}

    async def _read(self, part: Block) -> None:
        """Read one block into `known`; a refused one is removed from it."""
        if any(part is refused for refused, _ in self.refused):
            return
        places = _block_places(part)
        try:
            data = await self._fetch(part)
        except Unsupported as refusal:
            self.refused.append((part, refusal))
            self.known = {place: word for place, word in self.known.items() if place not in places}
            return
        self.known |= {place: _word(part, data, place[1]) for place in places}

    def _reads_of(self, parts: Sequence[Block]) -> _RemoteReads:
        cached = self._reads.get(id(parts))
        if cached is not None and cached.parts is parts:
            return cached
        rows = tuple(row for part in parts for row in part.rows if row.apart)
        blocks = tuple(part for part in self.blocks if _block_places(part) & _places(rows))
        moving = _places(row for row in rows if row.kind is not Kind.COUNTER) - _settings(rows)
        before = tuple(part for part in blocks if _block_places(part) & moving)
        if len(self._reads) >= _PLANS_CACHED_MAX:
            self._reads.clear()
        self._reads[id(parts)] = _RemoteReads(parts, rows, blocks, before)
        return self._reads[id(parts)]


def requests(register_map: RegisterMap, without: Collection[str] = ()) -> list[Block]:
    """Requests for the remote registers of a map; adjacent ones of a row are in one request.

    Each run of registers is a pseudo row named "@first" or "@first..last".
    """
    runs = {ends for row in register_map.rows if row.apart for ends in row.remote_runs()}
    if not runs:
        return []
    rows = [_run(*ends, several=_is_twice(ends, runs)) for ends in sorted(runs)]
    return plan(register_map, [row for row in rows if row.quantity not in without])


def owners(register_map: RegisterMap, block: Block) -> list[Row]:
    """The rows that depend on this request's registers."""
    return [row for row in register_map.rows if row.remote_places() & _block_places(block)]


def _is_twice(ends: Run, runs: Collection[Run]) -> bool:
    """Whether there is a run of the same addresses with another function."""
    return any(ends[0] != other[0] and ends[1:] == other[1:] for other in runs)


def _run(function: int, first: int, last: int, *, several: bool) -> Row:
    name = f"@{first}" if first == last else f"@{first}..{last}"
    name = f"{name} ({function})" if several else name
    return Row(name, function, first, "bits", last - first + 1, "")


def _block_places(part: Block) -> set[Place]:
    """Places of a request's pseudo rows."""
    return set().union(*(row.places() for row in part.rows))


def _places(rows: Iterable[Row]) -> set[Place]:
    return set().union(*(row.remote_places() for row in rows))


def _settings(rows: Iterable[Row]) -> set[Place]:
    return set().union(*(row.settings() for row in rows))


def _word(part: Block, data: bytes, register: int) -> int:
    offset = register - part.address
    if part.function not in _REGISTER_FUNCTIONS:
        return data[offset >> 3] >> (offset & 7) & 1
    return int.from_bytes(data[2 * offset : 2 * offset + 2], "big")


def _without_value(reading: Reading, reason: str) -> Reading:
    return Reading(reading.quantity, None, reading.unit, reading.reason or reason)
