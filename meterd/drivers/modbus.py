"""Modbus meters: reads request by request what a register map lays out."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from meterd.drivers.blocks import Block
from meterd.drivers.costs import Learner, PlanReport, link_costs
from meterd.drivers.costs import describe as describe_plan
from meterd.drivers.farscales import FarScales
from meterd.drivers.lengths import on as lengths_on
from meterd.drivers.library import SUNSPEC, load_map
from meterd.drivers.options import ModbusOptions
from meterd.drivers.planner import block
from meterd.drivers.reach import Reach
from meterd.drivers.refusals import Findings, Search
from meterd.drivers.registers import Row
from meterd.drivers.schedule import SLOW, Schedule
from meterd.drivers.silence import Silence
from meterd.drivers.sunspec import SunSpecMeter
from meterd.drivers.sunspec.options import SunSpecOptions
from meterd.errors import DeviceError, LinkError, Unsupported
from meterd.model.columns import Columns
from meterd.model.quantity import Kind, describe
from meterd.model.sample import CounterRegister, Driver, Reading
from meterd.model.units import base_of, factor
from meterd.wire.link import Link
from meterd.wire.modbus import ILLEGAL_FUNCTION, ModbusClient, Refused

__all__ = ["SPLIT_BUDGET", "ModbusMeter", "ModbusOptions", "link_costs"]

# Requests that finding refused registers may cost beyond the plan, in one epoch of the link.
SPLIT_BUDGET = 20
# The poll after which a plan by what was measured is thought of; then twice as many, and so on.
_RETHINK = 20
_NEVER = -1
# Functions whose requests are counted in registers.
_REGISTERS = (3, 4)


class ModbusMeter:
    """A Modbus meter, read request by request as its register map lays out."""

    Options: ClassVar[type[Any]] = ModbusOptions

    def __init__(self, link: Link, options: ModbusOptions, *, interval: float = SLOW) -> None:
        self.map = load_map(options.map)
        unit = self.map.unit if options.unit is None else options.unit
        self.client = ModbusClient(link, unit)
        self._link = link
        self._interval = interval
        self._epoch = _NEVER
        self._poll = 0
        costs = link_costs(link)
        serial = link.url.startswith("serial:")
        self._learner = Learner.serial(costs) if serial else Learner.tcp(costs)
        # Behind a gateway a stale reply may come under a fresh id: other lengths give it away.
        lengths = None if serial else lengths_on(link)
        self._schedule = Schedule(
            self.map,
            interval,
            costs,
            slow=options.slow,
            lengths=lengths,
            meter=(unit, self.map.name),
        )
        self._refused: dict[str, Reading] = {}
        self._budget = SPLIT_BUDGET
        self._found: list[Findings] = []
        self._rethink = _RETHINK
        # The longest request that was ever answered; what was refused below it was not too long.
        self._proven = 0
        self._scales = FarScales(self.map, self._fetch)
        self._silence = Silence(
            functools.partial(self._fetch, kept=False), self._schedule, interval
        )

    @staticmethod
    def build(link: Link, options: ModbusOptions, *, interval: float) -> Driver:
        """A SunSpec device describes itself; all others are described by their map."""
        if options.map != SUNSPEC:
            return ModbusMeter(link, options, interval=interval)
        given = options.model_dump(include={"unit", "slow", "part", "index"})
        return SunSpecMeter(link, SunSpecOptions(**given), interval=interval)

    @staticmethod
    def link_defaults(options: ModbusOptions) -> Mapping[str, str]:
        """The serial settings that the meter comes with, and the pauses that it needs."""
        if options.map == SUNSPEC:
            return {}
        found = load_map(options.map)
        return {**(found.serial or {}), **found.times}

    @staticmethod
    def states(options: ModbusOptions) -> Mapping[str, Mapping[int, str]]:
        """What the numbers of enumerated rows mean, by quantity."""
        if options.map == SUNSPEC:
            return {}
        return {row.quantity: row.enum for row in load_map(options.map).rows if row.enum}

    async def read(self) -> Sequence[Reading]:
        """Fast rows at each poll, slow ones at each n-th, texts once while the link is open."""
        epoch = self._link.epoch
        if epoch != self._epoch:
            self._start_over()
        # A poll that fails leaves everything owed: the meter may be another one when it is back.
        number, self._poll = self._poll, 0
        if self._silence.begin():
            await self._silence.look(long=self._is_long)
        said = await self._ask(number)
        # The very first exchange opens the link; a link reopened later means starting over.
        self._epoch = epoch or self._link.epoch
        self._poll = number + 1
        self._think(number)
        if self._silence.end():
            await self._silence.again()
        if left_out := [*self._refused.values(), *self._silence.readings()]:
            said.append(Columns.of(left_out))
        return Columns.joined(said)

    @property
    def timeout(self) -> float:
        """What one of its exchanges may take at most now, in seconds."""
        return self.client.timeout

    def counters(self) -> list[CounterRegister]:
        """How its counters count."""
        return [_counter(row) for row in self.map.rows if row.kind is Kind.COUNTER]

    def report(self) -> PlanReport:
        """What its polls cost on the mean: slow rows come with every n-th only."""
        fast, all_rows = self._requests(self._schedule.ordinary), self._requests(1)
        costs, often = self._learner.costs(), self._schedule.every
        plain, full = (describe_plan(parts, costs, self._interval) for parts in (fast, all_rows))
        return replace(
            plain,
            seconds=(plain.seconds * (often - 1) + full.seconds) / often,
            load=(plain.load * (often - 1) + full.load) / often,
        )

    def traffic(self) -> list[tuple[int, int]]:
        """Bytes sent and received by each request of an ordinary poll, in this link's frames."""
        parts = self._requests(self._schedule.ordinary)
        return [self.client.sizes(part.function, part.words) for part in parts]

    def _requests(self, number: int) -> list[Block]:
        """All that such a poll costs, scales that lie apart included."""
        parts = self._schedule.blocks(number)
        return [*parts, *self._scales.blocks] if any(part.apart for part in parts) else parts

    def _start_over(self) -> None:
        self._schedule.start_over()
        self._refused = {}
        self._scales.forget()
        self._budget = SPLIT_BUDGET
        self._poll = 0
        self._rethink = _RETHINK

    def _think(self, number: int) -> None:
        """After a poll: leave out what was refused, and plan by what was measured."""
        for findings in self._found:
            self._schedule.avoid(findings)
        self._found.clear()
        if number == self._rethink:
            self._schedule.learn(self._learner.costs())
            self._rethink = number * 2

    async def _ask(self, number: int) -> list[Columns]:
        """All requests of this poll; once more where it turned out how to ask instead."""
        said: list[Columns] = []
        parts = self._schedule.blocks(number)
        apart = self._scales.blocks and any(part.apart for part in parts)
        if apart:
            await self._scales.before()
        for part in parts:
            columns = await self._read(part)
            if columns is None:
                self._budget -= len(said) + 1
                self._think(_NEVER)
                return await self._ask(number)
            said.append(columns)
        return [await self._scales.after(Columns.joined(said))] if apart else said

    async def _read(self, part: Block) -> Columns | None:
        """What one request says; None where the plan it belongs to is no good."""
        try:
            return part.columns(await self._fetch(part), self._scales.known)
        except Unsupported as refusal:
            return await self._search(part, refusal)
        except (LinkError, DeviceError) as error:
            if not self.client.is_late:
                self._silence.lost(part, error, long=self._is_long(part))
            raise

    async def _fetch(self, part: Block, *, kept: bool = True) -> bytes:
        """The values of one request; what it took is learned from."""
        data = await self.client.read(part.function, part.address, part.words, kept=kept)
        self._learner.saw(part.words, self._link.took)
        if part.words > self._proven:
            self._proven = part.words
        return data

    def _is_long(self, part: Block) -> bool:
        """Whether its length may be what is wrong with a request."""
        return part.words > self._proven and len(part.rows) > 1 and part.function in _REGISTERS

    async def _answers(self, rows: Sequence[Row]) -> bool:
        """Whether these rows can be had in one request."""
        try:
            await self._fetch(block(self._schedule.ground, rows), kept=False)
        except Unsupported:
            return False
        except LinkError as error:
            if error.code != "timeout":
                raise
            return False
        return True

    async def _bisect(self, part: Block) -> Findings:
        """Whether a request is refused for its length, or for which row."""
        reach = Reach(self._schedule.ground, part.rows)
        while self._budget > 0 and (rows := reach.batch()) is not None:
            self._budget -= 1
            reach.note(answered=await self._answers(rows))
        return reach.findings()

    async def _search(self, part: Block, refusal: Unsupported) -> Columns | None:
        """Find the rows that are refused; they are not asked again while the link is open."""
        if isinstance(refusal, Refused) and refusal.exception == ILLEGAL_FUNCTION:
            self._leave_out(Findings(part.rows), refusal)
            return Columns.joined([])
        if self._budget == SPLIT_BUDGET and self._is_long(part):
            findings = await self._bisect(part)
            self._schedule.limit(findings.most)
            self._leave_out(findings, refusal)
            return None
        search = Search(self._schedule.ground, part.rows)
        said: list[Columns] = []
        while self._budget > 0 and (rows := search.batch()) is not None:
            self._budget -= 1
            one = block(self._schedule.ground, rows)
            try:
                data = await self._fetch(one)
            except Unsupported:
                search.note(answered=False)
            else:
                search.note(answered=True)
                said.append(one.columns(data, self._scales.known))
        self._leave_out(search.findings(), refusal)
        return Columns.joined(said)

    def _leave_out(self, findings: Findings, refusal: Unsupported) -> None:
        self._found.append(findings)
        unclear = {row.quantity for row in findings.unclear}
        for row in findings.refused:
            if not row.optional:
                why = (_unclear if row.quantity in unclear else _refused)(row, refusal)
                self._refused[row.quantity] = Reading(row.quantity, None, row.unit, why)


def _refused(row: Row, refusal: Unsupported) -> str:
    return f"the meter refuses register {row.address} (function {row.function}): {refusal}"


def _unclear(row: Row, refusal: Unsupported) -> str:
    return (
        f"the meter refuses a request with register {row.address} (function {row.function}): "
        f"{refusal}; which of them it means was not found in {SPLIT_BUDGET} requests"
    )


def _counter(row: Row) -> CounterRegister:
    known = describe(row.quantity, base_of(row.unit))
    units = (factor(row.unit, known.unit) if known else None) or 1.0
    fixed = row.scale_register is None and not row.offset
    step = row.scale * units if fixed else None
    rate = None if row.max_rate is None else row.max_rate * units
    return CounterRegister(row.quantity, row.type, step, row.wrap, rate)
