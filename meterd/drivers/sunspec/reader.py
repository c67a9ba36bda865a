"""Polls one model of a SunSpec device, and checks that it is still at its register.

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

# Requests that the search for refused registers may send per LONGEST_PAUSE_S.
SPLIT_BUDGET: Final = 20


Tiers = frozenset[str]

# First register, registers, and the rows among them.
_Request = tuple[int, int, Block]


@dataclass(slots=True)
class RequestBudget:
    """Requests beyond the plan that are left since `renewed` (monotonic s); a part's models share
    one."""

    left: int = SPLIT_BUDGET
    renewed: float = 0.0


class ModelReader:
    """Reader of one model, in as few requests as its device accepts."""

    def __init__(
        self,
        client: ModbusClient,
        found: FoundModel,
        rows: tuple[Row, ...],
        budget: RequestBudget,
        costs: Costs = ASSUMED,
        exclusions: Exclusions | None = None,
    ) -> None:
        """Refused rows go into `exclusions`."""
        self._client = client
        self._found = found
        self._rows = tuple(sorted(rows, key=lambda row: (row.first, row.last)))
        self._function = rows[0].function
        self._budget = budget
        self._costs = costs
        self._plans: dict[Tiers, list[_Request]] = {}
        # Smaller requests in place of the plan, once one of it was refused.
        self._small_requests: list[Block] | None = None
        self._exclusions = Exclusions() if exclusions is None else exclusions
        self._now = 0.0

    async def read(self, tiers: Tiers = ALL, now: float = 0.0) -> list[Reading]:
        """A reading per row that is due and not excluded; no request if there are none.

        `now` in monotonic seconds. Raises DeviceError with code `moved` if the model is gone.
        """
        if not self.is_due(tiers):
            return []
        self._now = now
        if self._small_requests is None:
            try:
                return await self._read_planned(tiers)
            except Unsupported as refusal:
                longest = max(self.requests(tiers)) - 1
                self._leave_out(Findings(most=longest), refusal)
                self._small_requests = self._halves(self._rows, refusal)
        return await self._read_small_requests(tiers)

    def is_due(self, tiers: Tiers) -> bool:
        """Whether some row is of these tiers."""
        return any(row.tier in tiers for row in self._rows)

    def requests(self, tiers: Tiers = ALL) -> list[int]:
        """The registers of each request of a poll with these tiers."""
        if self._small_requests is not None:
            return [2, *(piece.words for piece in self._small_requests if _holds(piece, tiers))]
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
        """The requests for these tiers. The first includes the model's number and length, or the
        length only where 125 registers are too few."""
        if (planned := self._plans.get(tiers)) is not None:
            return planned
        rows = [row for row in self._rows if row.tier in tiers]
        end = max(row.last for row in rows) + 1
        address = self._found.address
        first = address if end - address <= PROTOCOL_LIMIT else address + 1
        # In place of the first row, a pseudo row that begins at the model's header.
        words = rows[0].last - first + 1
        head = replace(rows[0], address=first, words=words, type="str", scale_register=None)
        # All registers of a model exist, so requests may span any gap.
        model_map = RegisterMap("", "", "", "", "", (head, *rows[1:]), bridge=PROTOCOL_LIMIT)
        rows_by_name = {head.quantity: rows[0], **{row.quantity: row for row in rows[1:]}}
        self._plans[tiers] = planned = [
            (request.address, request.words, self._block_of(request, rows_by_name))
            for request in plan(model_map, model_map.rows, self._costs)
        ]
        return planned

    def _block_of(self, request: Block, rows_by_name: Mapping[str, Row]) -> Block:
        rows = [rows_by_name[row.quantity] for row in request.rows]
        return Block(self._function, request.address, request.words, rows)

    async def _ask(self, block: Block) -> bytes:
        return await self._client.read(block.function, block.address, block.words)

    def _check(self, data: bytes, address: int) -> None:
        header = struct.pack(">HH", self._found.number, self._found.length)
        if not data.startswith(header[2 * (address - self._found.address) :]):
            text = f"{self._found.text} is not at register {self._found.address} any more"
            raise DeviceError(f"the SunSpec map has changed: {text}", code=DeviceCode.MOVED)

    async def _read_small_requests(self, tiers: Tiers) -> list[Reading]:
        """Read the header alone, then each smaller request; those that are refused are halved."""
        header = await self._client.read(self._function, self._found.address, 2)
        self._check(header, self._found.address)
        readings: list[Reading] = []
        waiting, self._small_requests = self._small_requests or [], []
        while waiting:
            piece = waiting.pop(0)
            if not _holds(piece, tiers):
                self._small_requests.append(piece)
                continue
            try:
                data = await self._ask(piece)
            except Unsupported as refusal:
                waiting = self._halves(piece.rows, refusal) + waiting
                continue
            except MeterdError:
                self._small_requests += [piece, *waiting]
                raise
            self._small_requests.append(piece)
            readings += piece.decode(data)
        return readings

    def _halves(self, rows: tuple[Row, ...], refusal: Unsupported) -> list[Block]:
        """Two requests in place of a refused one; none for a single row, which is excluded."""
        if len(rows) == 1 or self._budget.left < 2:
            self._leave_out(Findings(rows, rows if len(rows) > 1 else ()), refusal)
            return []
        self._budget.left -= 2
        middle = len(rows) // 2
        return [self._block(rows[:middle]), self._block(rows[middle:])]

    def _leave_out(self, findings: Findings, refusal: Unsupported) -> None:
        self._exclusions.add(findings, Cause.REFUSED, str(refusal), self._now)

    def has(self, rows: Sequence[Row]) -> bool:
        """Whether these are rows of this model."""
        return bool(rows) and rows[0] in self._rows

    @property
    def is_split(self) -> bool:
        """Whether it is read in smaller requests, as the device refused the planned ones."""
        return self._small_requests is not None

    async def retry(self, rows: tuple[Row, ...]) -> None:
        """Retry excluded rows, or the longest planned request where `rows` is empty.

        Rows that are answered are read again from the next poll on. Raises DeviceError or
        LinkError.
        """
        if not rows:
            address, words, _ = max(self._planned(ALL), key=lambda request: request[1])
            await self._client.read(self._function, address, words, values_used=False)
            self._small_requests = None
            return
        block = self._block(rows)
        await self._client.read(block.function, block.address, block.words, values_used=False)
        if self._small_requests is not None:
            self._small_requests.append(block)

    def _block(self, rows: tuple[Row, ...]) -> Block:
        first = min(row.first for row in rows)
        end = max(row.last for row in rows) + 1
        return Block(self._function, first, end - first, rows)


def _holds(piece: Block, tiers: Tiers) -> bool:
    return any(row.tier in tiers for row in piece.rows)
