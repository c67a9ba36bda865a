"""Reads one model of a SunSpec device again and again, and notices when it is not there.

request   | ID | length | value | scale | value ... |      ID is left out where 125 are not enough
"""

import struct
from dataclasses import dataclass
from typing import Final

from meterd.drivers.blocks import Block
from meterd.drivers.registers import PROTOCOL_LIMIT, Row
from meterd.drivers.sunspec.discovery import Found
from meterd.errors import DeviceError, Unsupported
from meterd.model.sample import Reading
from meterd.wire.modbus import ModbusClient

# Requests that finding refused registers may cost, in one epoch of the link.
SPLIT_BUDGET: Final = 20


@dataclass(slots=True)
class Budget:
    """Requests beyond the plan that may still be spent; all models of a part share one."""

    left: int = SPLIT_BUDGET


class ModelReader:
    """One model, in one request, or in more for a device that refuses so many registers."""

    def __init__(
        self,
        client: ModbusClient,
        found: Found,
        rows: tuple[Row, ...],
        budget: Budget,
    ) -> None:
        self._client = client
        self._found = found
        self._function = rows[0].function
        self._budget = budget
        end = max(row.last for row in rows) + 1
        fits = end - found.address <= PROTOCOL_LIMIT
        first = found.address if fits else found.address + 1
        self._header = struct.pack(">HH", found.number, found.length)[0 if fits else 2 :]
        self._whole: Block | None = Block(self._function, first, end - first, rows)
        self._pieces: list[Block] = []
        self._refused: dict[Row, str] = {}

    async def read(self) -> list[Reading]:
        """One reading a row. Raises DeviceError with code `moved` if the model is gone."""
        if self._whole is None:
            return await self._read_pieces()
        try:
            data = await self._ask(self._whole)
        except Unsupported as refusal:
            self._pieces, self._whole = self._halves(self._whole.rows, refusal), None
            return await self._read_pieces()
        self._check(data)
        return self._whole.decode(data)

    def requests(self) -> list[int]:
        """The registers of each request of one poll."""
        if self._whole is not None:
            return [self._whole.words]
        return [2, *(piece.words for piece in self._pieces)]

    async def _ask(self, block: Block) -> bytes:
        return await self._client.read(block.function, block.address, block.words)

    def _check(self, data: bytes) -> None:
        if not data.startswith(self._header):
            text = f"{self._found.text} is not at register {self._found.address} any more"
            raise DeviceError(f"the SunSpec map has changed: {text}", code="moved")

    async def _read_pieces(self) -> list[Reading]:
        """The header by itself, then one piece after the other; pieces may be split on the way."""
        header = await self._client.read(self._function, self._found.address, 2)
        self._check(header[4 - len(self._header) :])
        readings: list[Reading] = []
        waiting, self._pieces = self._pieces, []
        while waiting:
            piece = waiting.pop(0)
            try:
                data = await self._ask(piece)
            except Unsupported as refusal:
                waiting = self._halves(piece.rows, refusal) + waiting
                continue
            self._pieces.append(piece)
            readings += piece.decode(data)
        return readings + [_absent(row, reason) for row, reason in self._refused.items()]

    def _halves(self, rows: tuple[Row, ...], refusal: Unsupported) -> list[Block]:
        """Two requests in place of a refused one; none for a row that is refused by itself."""
        if len(rows) == 1 or self._budget.left < 2:
            reason = _reason(rows, refusal)
            self._refused |= {row: reason for row in rows if not row.optional}
            return []
        self._budget.left -= 2
        ordered = sorted(rows, key=lambda row: (row.first, row.last))
        middle = len(ordered) // 2
        return [self._block(ordered[:middle]), self._block(ordered[middle:])]

    def _block(self, rows: list[Row]) -> Block:
        first = min(row.first for row in rows)
        end = max(row.last for row in rows) + 1
        return Block(self._function, first, end - first, rows)


def _reason(rows: tuple[Row, ...], refusal: Unsupported) -> str:
    first = min(row.first for row in rows)
    last = max(row.last for row in rows)
    together = " together" if len(rows) > 1 else ""
    return f"the device refuses registers {first} to {last}{together}: {refusal}"


def _absent(row: Row, reason: str) -> Reading:
    return Reading(row.quantity, None, row.unit, reason)
