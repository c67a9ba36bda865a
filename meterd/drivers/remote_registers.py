"""Far registers: those that a value needs beside its own, too far from it for one request.

They are read before the value and behind it, and the value stands if they hold the same on both
sides: then they held it while the value was read, too.

words of one number   | high | low | high |            the high word changed: low and high again
a scale, a ratio      | value | scale |                before is what the last poll had behind it

Words of a number that goes up and down are read anew before each poll. Those of a counter, and
settings, may be as old as the last poll: what only rises and is the same again was never
another, and a setting changes once a year.
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

# How often words that changed while they were read are asked again in one poll.
_AGAIN = 2
# Plans with rows that are due together: a few by what is due, more while rows are refused.
_MOST_PLANS = 20
_REGISTERS = (3, 4)
_SETTING = "the meter's scale was changed while it was read"
_TORN = "its registers are read in several requests, and changed from one to the next each time"


@dataclass(frozen=True, slots=True)
class _Need:
    """What the requests of one poll need beside them."""

    parts: Sequence[Block]
    rows: tuple[Row, ...]
    blocks: tuple[Block, ...]
    fresh: tuple[Block, ...]


class RemoteRegisters:
    """Of one meter. `known` is what its far registers held when they were last read; `refused` are
    the requests that it refused since it was told what to leave out."""

    __slots__ = ("_fetch", "_map", "_needs", "blocks", "known", "refused")

    def __init__(self, register_map: RegisterMap, fetch: Fetch) -> None:
        self._fetch = fetch
        self._map = register_map
        self._needs: dict[int, _Need] = {}
        self.blocks = requests(register_map)
        self.known: dict[Place, int] = {}
        self.refused: list[tuple[Block, Unsupported]] = []

    def forget(self) -> None:
        """It may be another meter from now on."""
        self.known = {}

    def leave_out(self, names: Collection[str]) -> None:
        """From now on leave out just these registers, by the names that `requests` gives."""
        self.refused = []
        self.blocks = requests(self._map, names)
        self._needs.clear()
        places = set[Place]().union(*(_of(part) for part in self.blocks))
        self.known = {place: word for place, word in self.known.items() if place in places}

    def cost(self, parts: Sequence[Block]) -> list[Block]:
        """The requests that a poll with these costs besides."""
        need = self._need(parts)
        return [*need.fresh, *need.blocks]

    async def before(self, parts: Sequence[Block]) -> None:
        """Read what has to be known before these requests are sent."""
        need = self._need(parts)
        for part in need.blocks:
            if part in need.fresh or not _of(part) <= self.known.keys():
                await self._read(part)

    async def after(self, parts: Sequence[Block], said: Columns) -> Columns:
        """What these requests said, with no value whose far registers have changed since."""
        need = self._need(parts)
        lost: dict[str, str] = {}
        moving: list[Row] = []
        for tries in range(_AGAIN + 1):
            changed = await self._changed(need.blocks)
            settings = [row for row in need.rows if row.settings() & row.far_places() & changed]
            lost |= {row.quantity: _SETTING for row in settings}
            moving = [
                row for row in need.rows if row.quantity not in lost and row.far_places() & changed
            ]
            if not moving or tries == _AGAIN:
                break
            said = await self._again(need, moving, said)
        lost |= {row.quantity: _TORN for row in moving}
        if not lost:
            return said
        return Columns.of(
            [_unknown(one, lost[one.quantity]) if one.quantity in lost else one for one in said]
        )

    async def _again(self, need: _Need, rows: Iterable[Row], said: Columns) -> Columns:
        """The same with these rows read once more."""
        wanted = {row.quantity for row in rows}
        anew: dict[str, Reading] = {}
        for part in need.parts:
            if wanted.isdisjoint(row.quantity for row in part.rows):
                continue
            try:
                columns = part.columns(await self._fetch(part), self.known)
            except Unsupported as refusal:
                columns = Columns.of(
                    [Reading(row.quantity, None, row.unit, str(refusal)) for row in part.rows]
                )
            anew |= {one.quantity: one for one in columns if one.quantity in wanted}
        return Columns.of([anew.get(one.quantity, one) for one in said])

    async def _changed(self, blocks: Iterable[Block]) -> set[Place]:
        """Read all of them: what is another than it was."""
        before = dict(self.known)
        for part in blocks:
            await self._read(part)
        return {place for place in before if before[place] != self.known.get(place)}

    async def _read(self, part: Block) -> None:
        """Nothing is known of what the meter refuses."""
        if any(part is refused for refused, _ in self.refused):
            return
        places = _of(part)
        try:
            data = await self._fetch(part)
        except Unsupported as refusal:
            self.refused.append((part, refusal))
            self.known = {place: word for place, word in self.known.items() if place not in places}
            return
        self.known |= {place: _word(part, data, place[1]) for place in places}

    def _need(self, parts: Sequence[Block]) -> _Need:
        known = self._needs.get(id(parts))
        if known is not None and known.parts is parts:
            return known
        rows = tuple(row for part in parts for row in part.rows if row.apart)
        blocks = tuple(part for part in self.blocks if _of(part) & _places(rows))
        moving = _places(row for row in rows if row.kind is not Kind.COUNTER) - _settings(rows)
        fresh = tuple(part for part in blocks if _of(part) & moving)
        if len(self._needs) >= _MOST_PLANS:
            self._needs.clear()
        self._needs[id(parts)] = _Need(parts, rows, blocks, fresh)
        return self._needs[id(parts)]


def requests(register_map: RegisterMap, without: Collection[str] = ()) -> list[Block]:
    """Those that fetch the far registers of a map: what a row has side by side, in one.

    Each run of them is a row named @ and its first register, and its last if it has another.
    """
    found = {ends for row in register_map.rows if row.apart for ends in row.far_runs()}
    if not found:
        return []
    rows = [_run(*ends, several=_is_twice(ends, found)) for ends in sorted(found)]
    return plan(register_map, [row for row in rows if row.quantity not in without])


def owners(register_map: RegisterMap, block: Block) -> list[Row]:
    """The rows that need one of these requests."""
    return [row for row in register_map.rows if row.far_places() & _of(block)]


def _is_twice(ends: Run, found: Collection[Run]) -> bool:
    """Whether another function has a run at the same registers."""
    return any(ends[0] != other[0] and ends[1:] == other[1:] for other in found)


def _run(function: int, first: int, last: int, *, several: bool) -> Row:
    name = f"@{first}" if first == last else f"@{first}..{last}"
    name = f"{name} ({function})" if several else name
    return Row(name, function, first, "bits", last - first + 1, "")


def _of(part: Block) -> set[Place]:
    """The registers that the rows of a request are about."""
    return set().union(*(row.places() for row in part.rows))


def _places(rows: Iterable[Row]) -> set[Place]:
    return set().union(*(row.far_places() for row in rows))


def _settings(rows: Iterable[Row]) -> set[Place]:
    return set().union(*(row.settings() for row in rows))


def _word(part: Block, data: bytes, register: int) -> int:
    at = register - part.address
    if part.function not in _REGISTERS:
        return data[at >> 3] >> (at & 7) & 1
    return int.from_bytes(data[2 * at : 2 * at + 2], "big")


def _unknown(one: Reading, why: str) -> Reading:
    return Reading(one.quantity, None, one.unit, one.reason or why)
