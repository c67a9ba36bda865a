"""Reads one model of a SunSpec device again and again, and notices when it is not there.

request   | ID | length | value | scale | value ... |      ID is left out where 125 are not enough
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from meterd.drivers.blocks import Block
from meterd.drivers.costs import ASSUMED, Costs
from meterd.drivers.exclusions import Cause, Exclusions
from meterd.drivers.planner import plan
from meterd.drivers.refused_rows import Findings
from meterd.drivers.registers import PROTOCOL_LIMIT, RegisterMap, Row
from meterd.drivers.schedule import ALL
from meterd.drivers.sunspec.discovery import FoundModel
from meterd.errors import DeviceCode, DeviceError, MeterdError, Unsupported
from meterd.model.sample import Reading
from meterd.wire.modbus import ModbusClient

# Requests that finding refused registers may cost in LONGEST_PAUSE_S.
SPLIT_BUDGET: Final = 20


Tiers = frozenset[str]

# First register, registers, and the rows among them.
_Request = tuple[int, int, Block]


@dataclass(slots=True)
class RequestBudget:
    """Requests beyond the plan that may still be spent since `renewed`, in monotonic seconds; all
    models of a part share one."""

    left: int = SPLIT_BUDGET
    renewed: float = 0.0


class ModelReader:
    """One model, in as few requests as its device takes."""

    def __init__(
        self,
        client: ModbusClient,
        found: FoundModel,
        rows: tuple[Row, ...],
        budget: RequestBudget,
        costs: Costs = ASSUMED,
        exclusions: Exclusions | None = None,
    ) -> None:
        """What is refused is put into `exclusions`."""
        self._client = client
        self._found = found
        self._rows = tuple(sorted(rows, key=lambda row: (row.first, row.last)))
        self._function = rows[0].function
        self._budget = budget
        self._costs = costs
        self._plans: dict[Tiers, list[_Request]] = {}
        # What is asked instead, once a request was refused.
        self._pieces: list[Block] | None = None
        self._exclusions = Exclusions() if exclusions is None else exclusions
        self._now = 0.0

    async def read(self, tiers: Tiers = ALL, now: float = 0.0) -> list[Reading]:
        """One reading a row that is due and not left out; none, and no request, where none is.

        `now` in monotonic seconds. Raises DeviceError with code `moved` if the model is gone.
        """
        if not self.is_due(tiers):
            return []
        self._now = now
        if self._pieces is None:
            try:
                return await self._read_planned(tiers)
            except Unsupported as refusal:
                longest = max(self.requests(tiers)) - 1
                self._leave_out(Findings(most=longest), refusal)
                self._pieces = self._halves(self._rows, refusal)
        return await self._read_pieces(tiers)

    def is_due(self, tiers: Tiers) -> bool:
        """Whether there is something to read."""
        return any(row.tier in tiers for row in self._rows)

    def requests(self, tiers: Tiers = ALL) -> list[int]:
        """The registers of each request of a poll with these tiers."""
        if self._pieces is not None:
            return [2, *(piece.words for piece in self._pieces if _holds(piece, tiers))]
        return [words for _, words, _ in self._planned(tiers)] if self.is_due(tiers) else []

    async def _read_planned(self, tiers: Tiers) -> list[Reading]:
        readings: list[Reading] = []
        for i, (address, words, block) in enumerate(self._planned(tiers)):
            data = await self._client.read(self._function, address, words)
            if i == 0:
                self._check(data, address)
            readings += block.decode(data)
        return readings

    def _planned(self, tiers: Tiers) -> list[_Request]:
        """The first request has the model's ID and length, or its length where 125 are too few."""
        if (known := self._plans.get(tiers)) is not None:
            return known
        rows = [row for row in self._rows if row.tier in tiers]
        end = max(row.last for row in rows) + 1
        address = self._found.address
        first = address if end - address <= PROTOCOL_LIMIT else address + 1
        # A stand-in for the first row, which begins where the model does.
        words = rows[0].last - first + 1
        head = replace(rows[0], address=first, words=words, type="str", scale_register=None)
        # All registers of a model are there, whether they are wanted or not.
        ground = RegisterMap("", "", "", "", "", (head, *rows[1:]), bridge=PROTOCOL_LIMIT)
        wanted = {head.quantity: rows[0], **{row.quantity: row for row in rows[1:]}}
        self._plans[tiers] = found = [
            (one.address, one.words, self._block_of(one, wanted))
            for one in plan(ground, ground.rows, self._costs)
        ]
        return found

    def _block_of(self, one: Block, wanted: Mapping[str, Row]) -> Block:
        rows = [wanted[row.quantity] for row in one.rows]
        return Block(self._function, one.address, one.words, rows)

    async def _ask(self, block: Block) -> bytes:
        return await self._client.read(block.function, block.address, block.words)

    def _check(self, data: bytes, address: int) -> None:
        header = struct.pack(">HH", self._found.number, self._found.length)
        if not data.startswith(header[2 * (address - self._found.address) :]):
            text = f"{self._found.text} is not at register {self._found.address} any more"
            raise DeviceError(f"the SunSpec map has changed: {text}", code=DeviceCode.MOVED)

    async def _read_pieces(self, tiers: Tiers) -> list[Reading]:
        """The header by itself, then one piece after the other; pieces may be split on the way."""
        header = await self._client.read(self._function, self._found.address, 2)
        self._check(header, self._found.address)
        readings: list[Reading] = []
        waiting, self._pieces = self._pieces or [], []
        while waiting:
            piece = waiting.pop(0)
            if not _holds(piece, tiers):
                self._pieces.append(piece)
                continue
            try:
                data = await self._ask(piece)
            except Unsupported as refusal:
                waiting = self._halves(piece.rows, refusal) + waiting
                continue
            except MeterdError:
                self._pieces += [piece, *waiting]
                raise
            self._pieces.append(piece)
            readings += piece.decode(data)
        return readings

    def _halves(self, rows: tuple[Row, ...], refusal: Unsupported) -> list[Block]:
        """Two requests in place of a refused one; none for a row that is refused by itself."""
        if len(rows) == 1 or self._budget.left < 2:
            self._leave_out(Findings(rows, rows if len(rows) > 1 else ()), refusal)
            return []
        self._budget.left -= 2
        middle = len(rows) // 2
        return [self._block(rows[:middle]), self._block(rows[middle:])]

    def _leave_out(self, found: Findings, refusal: Unsupported) -> None:
        self._exclusions.add(found, Cause.REFUSED, str(refusal), self._now)

    def has(self, rows: Sequence[Row]) -> bool:
        """Whether these are rows of this model."""
        return bool(rows) and rows[0] in self._rows

    @property
    def in_pieces(self) -> bool:
        """Whether it is read otherwise than planned, as the device refused that."""
        return self._pieces is not None

    async def try_again(self, rows: tuple[Row, ...]) -> None:
        """Ask once more for rows that are left out, or for the whole model where there are none.

        What is answered is read again from the next poll on. Raises DeviceError or LinkError.
        """
        if not rows:
            address, words, _ = max(self._planned(ALL), key=lambda one: one[1])
            await self._client.read(self._function, address, words, kept=False)
            self._pieces = None
            return
        block = self._block(rows)
        await self._client.read(block.function, block.address, block.words, kept=False)
        if self._pieces is not None:
            self._pieces.append(block)

    def _block(self, rows: tuple[Row, ...]) -> Block:
        first = min(row.first for row in rows)
        end = max(row.last for row in rows) + 1
        return Block(self._function, first, end - first, rows)


def _holds(piece: Block, tiers: Tiers) -> bool:
    return any(row.tier in tiers for row in piece.rows)
