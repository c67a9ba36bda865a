"""Far scales: registers with powers of ten that lie too far from their values for one request.

They are read behind the values, and a value stands if its scale is the same on both sides of it.

poll n      | values | scales |
poll n + 1  | values | scales |      counts if both are alike
"""

from collections.abc import Awaitable, Callable, Collection

from meterd.drivers.blocks import Block
from meterd.drivers.planner import plan
from meterd.drivers.registers import RegisterMap, Row
from meterd.errors import Unsupported
from meterd.model.columns import Columns
from meterd.model.sample import Reading

Fetch = Callable[[Block], Awaitable[bytes]]
Place = tuple[int, int]
"""Function and address."""


class FarScales:
    """Of one meter. `known` is what its scale registers held when they were last read; `refused`
    are the requests that it refused since it was told what to leave out."""

    __slots__ = ("_fetch", "_map", "_rows", "blocks", "known", "refused")

    def __init__(self, register_map: RegisterMap, fetch: Fetch) -> None:
        self._fetch = fetch
        self._rows = {row.quantity: place for row in register_map.rows if (place := of(row))}
        self._map = register_map
        self.blocks = requests(register_map)
        self.known: dict[Place, int] = {}
        self.refused: list[tuple[Block, Unsupported]] = []

    def forget(self) -> None:
        """It may be another meter from now on."""
        self.known = {}
        self.refused = []

    def leave_out(self, names: Collection[str]) -> None:
        """From now on leave out just these scale registers, by the names that `requests` gives."""
        self.refused = []
        self.blocks = requests(self._map, names)
        places = {(row.function, row.address) for block in self.blocks for row in block.rows}
        self.known = {place: scale for place, scale in self.known.items() if place in places}

    async def before(self) -> None:
        """What the scales are, where that is not known from the last poll."""
        if not self.known:
            self.known = await self._read()

    async def after(self, said: Columns) -> Columns:
        """Without the values whose scale has changed since."""
        before, self.known = self.known, await self._read()
        changed = {place for place in before if before[place] != self.known.get(place)}
        if not changed:
            return said
        return Columns.of(
            [_unknown(one) if self._rows.get(one.quantity) in changed else one for one in said]
        )

    async def _read(self) -> dict[Place, int]:
        """Those that the meter does not refuse."""
        found: dict[Place, int] = {}
        given_up = [part for part, _ in self.refused]
        for part in self.blocks:
            if part in given_up:
                continue
            try:
                data = await self._fetch(part)
            except Unsupported as refusal:
                self.refused.append((part, refusal))
                continue
            for row in part.rows:
                at = 2 * (row.address - part.address)
                raw = int.from_bytes(data[at : at + 2], "big", signed=True)
                found[row.function, row.address] = raw
        return found


def of(row: Row) -> Place | None:
    """Where a row's scale is, if it is read apart from it."""
    if row.scale_register is None or not row.apart:
        return None
    return row.function, row.scale_register


def requests(register_map: RegisterMap, without: Collection[str] = ()) -> list[Block]:
    """Those that fetch the far scales of a map, each a row named @ and its register."""
    places = [place for row in register_map.rows if (place := of(row))]
    rows = [
        Row(f"@{register}", function, register, "s16", 1, "")
        for function, register in sorted(set(places))
        if f"@{register}" not in without
    ]
    return plan(register_map, rows)


def _unknown(one: Reading) -> Reading:
    why = "the meter's scale was changed while it was read"
    return Reading(one.quantity, None, one.unit, one.reason or why)
