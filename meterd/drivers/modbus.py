"""Modbus meters: reads block by block what a register map lays out."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from meterd.drivers.blocks import Block, block, plan
from meterd.drivers.registers import RegisterMap, Row, is_file, load_map
from meterd.drivers.sunspec import SunSpecMeter
from meterd.drivers.sunspec.options import Index, PartName, SunSpecOptions
from meterd.errors import ConfigError, Unsupported
from meterd.model.sample import Driver, Reading
from meterd.wire.link import Link
from meterd.wire.modbus import ILLEGAL_FUNCTION, ModbusClient, Refused

# Requests that finding refused registers may cost beyond the plan, in one epoch of the link.
SPLIT_BUDGET = 20
_NEVER = -1
# The map of devices that say themselves what they have.
SUNSPEC = "sunspec"


class ModbusOptions(BaseModel):
    """The keys of a modbus device in meterd.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    map: str = Field(description="shipped register map, or a path to a file of your own")
    unit: int | None = Field(None, ge=0, le=255, description="unit id; else the map's default")

    part: PartName | None = Field(
        None, description="sunspec only: meter, inverter or a model's number"
    )
    index: Index = Field(1, description="sunspec only: which one of several")

    @model_validator(mode="after")
    def _parts(self) -> "ModbusOptions":
        if self.map != SUNSPEC and (self.part is not None or self.index != 1):
            raise ValueError("part and index belong to `map: sunspec`")
        return self

    @field_validator("map")
    @classmethod
    def _there(cls, name: str, info: ValidationInfo) -> str:
        """A path counts from the folder of the configuration; the map must be without mistakes."""
        if name == SUNSPEC:
            return name
        if is_file(name) and info.context and (folder := info.context.get("folder")):
            name = str(Path(folder, name))
        try:
            load_map(name)
        except ConfigError as error:
            if error.problems:
                raise
            raise ValueError(str(error)) from error
        return name


class ModbusMeter:
    """A Modbus meter, read block by block as its register map lays out."""

    Options: ClassVar[type[Any]] = ModbusOptions

    def __init__(self, link: Link, options: ModbusOptions) -> None:
        self.map = load_map(options.map)
        unit = self.map.unit if options.unit is None else options.unit
        self.client = ModbusClient(link, unit)
        self._link = link
        self._epoch = _NEVER
        self._blocks: list[Block] = []
        self._refused: dict[Row, str] = {}
        self._budget = SPLIT_BUDGET
        self._texts: list[Reading] | None = None
        self._texts_epoch = _NEVER

    @staticmethod
    def build(link: Link, options: ModbusOptions) -> Driver:
        """A SunSpec device describes itself; all others are described by their map."""
        if options.map != SUNSPEC:
            return ModbusMeter(link, options)
        return SunSpecMeter(link, SunSpecOptions(**options.model_dump(exclude={"map"})))

    @staticmethod
    def link_defaults(options: ModbusOptions) -> Mapping[str, str]:
        """The serial settings that the meter comes with."""
        return {} if options.map == SUNSPEC else load_map(options.map).serial or {}

    async def read(self) -> list[Reading]:
        """All rows; texts only once while the link stays open and the meter answers."""
        epoch = self._link.epoch
        if epoch != self._epoch:
            self._start_over()
        if epoch != self._texts_epoch:
            self._texts = None
        # What a failed poll leaves behind: the meter may be another one when it is back.
        self._epoch = self._texts_epoch = _NEVER
        readings: list[Reading] = []
        for part in self._blocks:
            readings += await self._read(part)
        if self._texts is None or (epoch and self._link.epoch != epoch):
            self._texts = await self._read_static()
        self._texts_epoch = self._link.epoch
        # The very first exchange opens the link; a link reopened later means starting over.
        self._epoch = epoch or self._link.epoch
        return readings + self._texts + [_absent(row, why) for row, why in self._refused.items()]

    @property
    def timeout(self) -> float:
        """What one of its exchanges may take at most now, in seconds."""
        return self.client.timeout

    def traffic(self) -> list[tuple[int, int]]:
        """Bytes sent and received by each request of one poll, in this link's frames."""
        blocks = plan(self.map, _tiers(self.map, "fast", "slow"))
        return [self.client.sizes(part.function, part.words) for part in blocks]

    def _start_over(self) -> None:
        self._refused = {}
        self._budget = SPLIT_BUDGET
        self._blocks = plan(self.map, _tiers(self.map, "fast", "slow"))

    async def _read_static(self) -> list[Reading]:
        readings: list[Reading] = []
        for part in plan(self.map, _tiers(self.map, "static")):
            readings += await self._read(part)
        return readings

    async def _read(self, part: Block) -> list[Reading]:
        try:
            data = await self.client.read(part.function, part.address, part.words)
        except Unsupported as refusal:
            return await self._split(part, refusal)
        return part.decode(data)

    async def _split(self, part: Block, refusal: Unsupported) -> list[Reading]:
        """Halve a refused block until the refused rows are found; they are not asked again."""
        whole = isinstance(refusal, Refused) and refusal.exception == ILLEGAL_FUNCTION
        if whole or len(part.rows) == 1 or self._budget < 2:
            reason = _reason(part, refusal)
            self._refused |= {row: reason for row in part.rows if not row.optional}
            self._replace(part, [])
            return []
        middle = len(part.rows) // 2
        rows = list(part.rows)
        halves = [block(self.map, rows[:middle]), block(self.map, rows[middle:])]
        self._replace(part, halves)
        self._budget -= len(halves)
        return [reading for half in halves for reading in await self._read(half)]

    def _replace(self, part: Block, parts: list[Block]) -> None:
        """A new list: the poll that found out still walks the old one."""
        new = [(parts if old is part else [old]) for old in self._blocks]
        self._blocks = [one for group in new for one in group]


def _tiers(register_map: RegisterMap, *tiers: str) -> Iterable[Row]:
    return (row for row in register_map.rows if row.tier in tiers)


def _reason(part: Block, refusal: Unsupported) -> str:
    if len(part.rows) == 1:
        row = part.rows[0]
        return f"the meter refuses register {row.address} (function {row.function}): {refusal}"
    last = part.address + part.words - 1
    return f"the meter refuses registers {part.address} to {last} together: {refusal}"


def _absent(row: Row, reason: str) -> Reading:
    return Reading(row.quantity, None, row.unit, reason)
