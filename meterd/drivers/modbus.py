"""Modbus meters: reads request by request what a register map lays out."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from meterd.drivers import values
from meterd.drivers.address_constraints import AddressConstraints
from meterd.drivers.backoff import LONGEST_PAUSE_S, loop_time
from meterd.drivers.blocks import Block
from meterd.drivers.costs import Costs, Learner, PlanReport, link_costs
from meterd.drivers.costs import describe as describe_plan
from meterd.drivers.distinct_lengths import on as lengths_on
from meterd.drivers.exclusions import Cause, Exclusion, Exclusions, LeftOut
from meterd.drivers.map_library import SUNSPEC
from meterd.drivers.options import ModbusOptions
from meterd.drivers.planner import block, plan
from meterd.drivers.refused_rows import Findings, RefusedRowSearch
from meterd.drivers.register_limit import RegisterLimit
from meterd.drivers.registers import Row
from meterd.drivers.remote_registers import RemoteRegisters
from meterd.drivers.schedule import SLOW, Schedule
from meterd.drivers.silent_rows import SilentRows
from meterd.drivers.sunspec import SunSpecMeter
from meterd.drivers.sunspec.options import SunSpecOptions
from meterd.drivers.traffic import with_traffic
from meterd.drivers.unlocking import Unlocking
from meterd.errors import DeviceCode, DeviceError, LinkCode, LinkError, Unsupported
from meterd.model.columns import Columns
from meterd.model.driver import Driver
from meterd.model.event import Notice
from meterd.model.quantity import Kind, describe
from meterd.model.sample import CounterRegister, Reading
from meterd.model.units import base_of, factor
from meterd.wire.link import Link
from meterd.wire.modbus import ILLEGAL_FUNCTION, ModbusClient, Refused

__all__ = ["SPLIT_BUDGET", "ModbusMeter", "ModbusOptions", "link_costs"]

# Requests that finding refused registers may cost beyond the plan, in one epoch of the link or
# in LONGEST_PAUSE_S.
SPLIT_BUDGET = 20
# Rows that are asked for alone before a meter is said to refuse everything.
WITNESSES = 4
# The poll after which a plan by what was measured is thought of; then twice as many, and so on,
# but so many later at most.
_RETHINK = 20
_RETHINK_MOST = 5000
# So many refused requests, and no answer, are looked into.
_DOUBTS = 3
# A link that was opened anew at so many polls in a row is one that does not stay open.
_HABIT = 3
# So many rows are named in a fault.
_NAMED = 8
_NEVER = -1
# Functions whose requests are counted in registers.
_REGISTERS = (3, 4)


class ModbusMeter:
    """A Modbus meter, read request by request as its register map lays out."""

    Options: ClassVar[type[Any]] = ModbusOptions

    def __init__(
        self,
        link: Link,
        options: ModbusOptions,
        *,
        interval: float = SLOW,
        monotonic: Callable[[], float] = loop_time,
    ) -> None:
        """`interval` in seconds. `monotonic`: seconds by which pauses are counted."""
        self.map = options.register_map
        unit = self.map.unit if options.unit is None else options.unit
        self.client = self._listener = ModbusClient(link, unit, wide=self.map.wide)
        self._unit = unit
        self._link = link
        self._interval = interval
        self._epoch = _NEVER
        self._poll = 0
        costs = link_costs(link)
        serial = link.url.startswith("serial:")
        # Behind a gateway whose baud rate is said the wire is known by arithmetic, too.
        self._learner = Learner.serial(costs) if "baud" in link.options else Learner.tcp(costs)
        # Behind a gateway a stale reply may come under a fresh id: other lengths give it away.
        lengths = None if serial else lengths_on(link)
        self._schedule = Schedule(
            self.map,
            interval,
            costs,
            slow=options.slow,
            lengths=lengths,
            meter=(unit, f"{self.map.name}{options.registers:+d}"),
        )
        self._exclusions = Exclusions()
        self.notices: list[Notice] = self._exclusions.notices
        wake = self.map.wake if options.allow_wake else ()
        self._waking = Unlocking(link, unit, wake, self.notices)
        self._monotonic = monotonic
        self._budget = SPLIT_BUDGET
        self._renewed = 0.0
        # Whether a refused request's length was looked into since the budget was renewed.
        self._measured = False
        self._rethink = _RETHINK
        # The longest request that was ever answered; what was refused below it was not too long.
        self._proven = 0
        # Answers in this poll; polls in a row with none; functions that were answered.
        self._heard = 0
        self._dark = 0
        self._refusing: tuple[str, ...] = ()
        # The row that was answered last; the one that was when nothing else was, and what it said
        # in this poll.
        self._good: Row | None = None
        self._witness: Row | None = None
        self._witness_says: Columns | None = None
        self._functions: set[int] = set()
        self._reopenings = 0
        self._far = RemoteRegisters(self.map, self._fetch)
        self._silence = SilentRows(
            functools.partial(self._fetch, kept=False),
            self._schedule,
            self._exclusions,
            self._replan,
            monotonic,
        )

    @staticmethod
    def build(link: Link, options: ModbusOptions, *, interval: float) -> Driver:
        """A SunSpec device describes itself; all others are described by their map."""
        if options.map != SUNSPEC:
            return ModbusMeter(link, options, interval=interval)
        keys = {"unit", "slow", "part", "index"}
        given = options.model_dump(include=keys, exclude_none=True)
        return SunSpecMeter(link, SunSpecOptions(**given), interval=interval)

    @staticmethod
    def link_defaults(options: ModbusOptions) -> Mapping[str, str]:
        """The serial settings that the meter comes with, and the pauses that it needs."""
        if (found := options.unmoved) is None:
            return {}
        return {**(found.serial or {}), **found.times}

    @staticmethod
    def states(options: ModbusOptions) -> Mapping[str, Mapping[int, str]]:
        """What the numbers of enumerated rows mean, by quantity."""
        if (found := options.unmoved) is None:
            return {}
        return {row.quantity: row.enum for row in found.rows if row.enum}

    @with_traffic
    async def read(self) -> Sequence[Reading]:
        """Fast rows at each poll, slow ones at each n-th, texts once while the link is open.

        Raises LinkError, or DeviceError: with the code `all_refused` where nothing is answered.
        """
        await self._waking.begin()
        if self._dark:
            await self._waking.again()
        epoch = self._link.epoch
        if self._is_other(epoch):
            self._start_over()
        # A poll that fails leaves everything owed: the meter may be another one when it is back.
        number, self._poll = self._poll, 0
        self._heard, self._witness_says = 0, None
        if self._silence.begin():
            await self._silence.look(long=self._is_long)
        said = await self._ask(number)
        # The very first exchange opens the link; a link reopened later means starting over.
        self._epoch = epoch or self._link.epoch
        self._dark = 0
        self._poll = number + 1
        self._think(number)
        self._silence.end()
        if not self._exclusions.idle:
            await self._try_again()
            self._exclusions.settle(self._monotonic())
            if (left_out := self._exclusions.columns) is not None:
                said.append(left_out)
        return Columns.joined(said)

    def left_out(self) -> list[LeftOut]:
        """What is not asked for now, why, and when it is tried again."""
        return self._exclusions.listed(self._monotonic())

    @property
    def timeout(self) -> float:
        """What one of its exchanges may take at most now, in seconds."""
        return self.client.timeout

    def counters(self) -> list[CounterRegister]:
        """How its counters count."""
        return [_counter(row) for row in self.map.rows if row.kind is Kind.COUNTER]

    def quantities(self) -> frozenset[str]:
        """What it may deliver: the rows of its map."""
        return frozenset(row.quantity for row in self.map.rows)

    def report(self, costs: Costs | None = None) -> PlanReport:
        """What its polls cost on the mean: slow rows come with every n-th only.

        By these costs of its link; None: by what it has learned of them itself.
        """
        fast, all_rows = self._requests(self._schedule.ordinary), self._requests(1)
        costs, often = costs or self._learner.costs(), self._schedule.every
        plain, full = (describe_plan(parts, costs, self._interval) for parts in (fast, all_rows))
        return replace(
            plain,
            seconds=(plain.seconds * (often - 1) + full.seconds) / often,
            load=(plain.load * (often - 1) + full.load) / often,
        )

    @property
    def learner(self) -> Learner:
        """What it has learned of the costs of its link."""
        return self._learner

    @property
    def unit(self) -> int:
        """The unit that it asks."""
        return self._unit

    def traffic(self) -> list[tuple[int, int]]:
        """Bytes sent and received by each request of an ordinary poll, in this link's frames."""
        parts = self._requests(self._schedule.ordinary)
        return [self.client.sizes(part.function, part.words) for part in parts]

    def _requests(self, number: int) -> list[Block]:
        """All that such a poll costs, registers that lie apart included."""
        parts = self._schedule.blocks(number)
        return [*parts, *self._far.cost(parts)] if any(part.apart for part in parts) else parts

    def _is_other(self, epoch: int) -> bool:
        """Whether the link was opened anew, so that it may be another meter.

        Where that happens at each poll it says nothing, and whoever exchanges a meter has polls
        fail.
        """
        if epoch == self._epoch:
            self._reopenings = 0
            return False
        self._reopenings += 1
        return self._reopenings <= _HABIT or not self._poll

    def _start_over(self) -> None:
        self._exclusions.start_over(self._monotonic())
        self._renew()

    def _renew(self) -> None:
        """Plan as at first."""
        self._replan()
        self._far.forget()
        self._functions.clear()
        self._budget, self._measured = SPLIT_BUDGET, False
        self._poll = 0
        self._rethink = _RETHINK

    def _replan(self) -> None:
        """Ask from now on for what is not left out."""
        known = self._exclusions
        if known.changed:
            known.changed = False
            rows = known.rows
            self._schedule.leave_out(rows, known.closed, known.most)
            self._far.leave_out({row.quantity for row in rows})

    def _think(self, number: int) -> None:
        """After a poll: leave out what was refused, and plan by what was measured."""
        for part, refusal in self._far.refused:
            self._leave_out(Findings(part.rows, part.rows if len(part.rows) > 1 else ()), refusal)
        self._replan()
        if number == self._rethink:
            self._schedule.learn(self._learner.costs())
            self._rethink = number + min(number, _RETHINK_MOST)

    async def _ask(self, number: int) -> list[Columns]:
        """All requests of this poll; once more where it turned out how to ask instead."""
        said: list[Columns] = []
        if not (parts := self._schedule.blocks(number)):
            # Nothing is left to ask for, and a poll that asks nothing knows nothing.
            self._exclusions.forget(self._monotonic())
            self._replan()
            parts = self._schedule.blocks(number := 0)
        apart = self._far.blocks and any(part.apart for part in parts)
        if apart:
            await self._far.before(parts)
        refused: list[tuple[Block, Unsupported]] = []
        for part in parts:
            try:
                said.append(part.columns(await self._asked(part), self._far.known))
                self._good = part.rows[0]
            except Unsupported as refusal:
                refused.append((part, refusal))
            # As long as nothing was answered, others may tell whether anybody is there.
            alone = not self._heard and len(refused) < _DOUBTS and not self._dark
            if not refused or (alone and part is not parts[-1]):
                continue
            for one, why in refused:
                if (columns := await self._search(one, why)) is None:
                    self._budget -= len(said) + len(refused)
                    self._think(_NEVER)
                    return await self._ask(number)
                said.append(columns)
            refused.clear()
        return [await self._far.after(parts, Columns.joined(said))] if apart else said

    async def _asked(self, part: Block) -> bytes:
        """The values of a request of the plan; who gives no answer to it again is looked into."""
        try:
            return await self._fetch(part)
        except Unsupported:
            if await self._waking.again():
                return await self._asked(part)
            raise
        except (LinkError, DeviceError) as error:
            if not self.client.is_late:
                self._silence.lost(part, error, long=self._is_long(part))
            raise

    async def _fetch(self, part: Block, *, kept: bool = True) -> bytes:
        """The values of one request; what it took is learned from."""
        data = await self.client.read(part.function, part.address, part.words, kept=kept)
        self._heard += 1
        self._functions.add(part.function)
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
            if error.code != LinkCode.TIMEOUT:
                raise
            return False
        return True

    async def _bisect(self, part: Block) -> Findings:
        """Whether a request is refused for its length, or for which row."""
        reach = RegisterLimit(self._schedule.ground, part.rows)
        while self._budget > 0 and (rows := reach.batch()) is not None:
            self._budget -= 1
            reach.note(answered=await self._answers(rows))
        return reach.findings()

    async def _search(self, part: Block, refusal: Unsupported) -> Columns | None:
        """Find the rows that are refused; they are left out, and tried again by and by."""
        now = self._monotonic()
        if self._budget < SPLIT_BUDGET and now - self._renewed >= LONGEST_PAUSE_S:
            self._budget, self._measured = SPLIT_BUDGET, False
        if self._budget == SPLIT_BUDGET:
            self._renewed = now
        if not self._heard:
            await self._find_witness(part, refusal)
        if self._lacks_function(part, refusal):
            self._leave_out(Findings(part.rows, part.rows if len(part.rows) > 1 else ()), refusal)
            return Columns.joined([])
        if suspects := await self._guilty(self._exclusions.suspects(part.rows, now)):
            return await self._without(part, suspects, refusal)
        if not self._measured and self._is_long(part):
            self._measured = True
            self._leave_out(await self._bisect(part), refusal)
            return None
        return await self._halve(part, refusal)

    async def _halve(self, part: Block, refusal: Unsupported) -> Columns:
        """What can be had of a refused request; the rest is left out."""
        search = RefusedRowSearch(self._schedule.ground, part.rows)
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
                said.append(one.columns(data, self._far.known))
        found = search.findings()
        if self._witness in found.unclear and self._witness_says is not None:
            found = _without_row(found, self._witness)
            said.append(self._witness_says)
        self._leave_out(found, refusal)
        return Columns.joined(said)

    def _lacks_function(self, part: Block, refusal: Unsupported) -> bool:
        """Whether the meter does not know this function at all."""
        if not isinstance(refusal, Refused) or refusal.exception != ILLEGAL_FUNCTION:
            return False
        return part.function not in self._functions

    async def _guilty(self, suspects: Sequence[Row]) -> list[Row]:
        """Those rows that are refused when they are asked for alone; all, if that is too dear."""
        if self._budget < len(suspects):
            return list(suspects)
        found = []
        for row in suspects:
            self._budget -= 1
            if await self._answers([row]):
                self._exclusions.acquit(row)
            else:
                found.append(row)
        return found

    async def _without(
        self, part: Block, guilty: Sequence[Row], refusal: Unsupported
    ) -> Columns | None:
        """The rest of a refused request, where it is known which rows were refused."""
        self._leave_out(Findings(tuple(guilty)), refusal)
        names = {row.quantity for row in guilty}
        rest = [row for row in part.rows if row.quantity not in names]
        ground = self._schedule.ground.without(guilty)
        said: list[Columns] = []
        for one in plan(self.map, rest, self._schedule.costs, ground):
            self._budget -= 1
            try:
                said.append(one.columns(await self._fetch(one), self._far.known))
            except Unsupported as other:
                if (columns := await self._search(one, other)) is None:
                    return None
                said.append(columns)
        return Columns.joined(said)

    async def _find_witness(self, part: Block, refusal: Unsupported) -> None:
        """Hear any answer at all, of a meter that has given none in this poll.

        Raises DeviceError where it refuses other rows, too, as meters do that start up. What was
        learned of it counts no more then: it is planned as at first when it is back.
        """
        asked = dict.fromkeys(row.quantity for row in part.rows)
        for row in self._witnesses(part):
            self._budget -= 1
            asked[row.quantity] = None
            with contextlib.suppress(Unsupported):
                one = block(self._schedule.ground, [row])
                data = await self._fetch(one)
                self._good = row
                self._witness, self._witness_says = row, one.columns(data, self._far.known)
                return
        if not self._dark:
            # Later ones may be others: the text should not change as long as the meter does not.
            self._refusing = tuple(asked)
        self._dark += 1
        self._exclusions.forget(self._monotonic())
        self._renew()
        raise DeviceError(_all_refused(self._refusing, refusal), code=DeviceCode.ALL_REFUSED)

    def _witnesses(self, part: Block) -> list[Row]:
        """Rows to ask for alone: of other functions, of other requests, and from all over the map.

        First the one that was answered last; of the others, other ones at each poll, and a single
        one where all were refused at the poll before.
        """
        others = [one.rows[0] for one in self._schedule.blocks(0) if one.rows != part.rows]
        others.sort(key=lambda row: row.function == part.function)
        firsts = {row.function: row for row in reversed(others)}
        ordered = [*firsts.values(), *others, *_spread(part.rows), *self.map.rows]
        by_name = {row.quantity: row for row in ordered}
        if len(part.rows) == 1:
            del by_name[part.rows[0].quantity]
        found = list(by_name.values())
        if not found:
            return []
        start = self._dark and self._dark + WITNESSES - 1
        count = 1 if self._dark else WITNESSES
        chosen = [found[(start + i) % len(found)] for i in range(min(count, len(found)))]
        if self._good is None or (len(part.rows) == 1 and self._good == part.rows[0]):
            return chosen
        return [self._good, *(row for row in chosen if row != self._good)]

    def _leave_out(self, found: Findings, refusal: Unsupported) -> None:
        self._exclusions.add(found, Cause.REFUSED, str(refusal), self._monotonic())

    # -- what is left out ------------------------------------------------------------------------

    async def _try_again(self) -> None:
        """One more request, where something that is left out is due."""
        began = self._monotonic()
        if (tried := self._exclusions.due(began)) is None:
            return
        cause = why = None
        request = self._request(tried)
        splits = True
        try:
            if request is not None:
                await self._fetch(request, kept=False)
        except DeviceError as error:
            cause, why = Cause.REFUSED, str(error)
            if isinstance(error, Unsupported) and request is not None:
                splits = not self._lacks_function(request, error)
        except LinkError as error:
            cause, why = Cause.SILENT, str(error)
        now = self._monotonic()
        if cause is not None and why is not None:
            took = now - began
            self._exclusions.failed(tried, cause, why, now, took=took, splits=splits)
        else:
            self._exclusions.answered(tried, now, self._together)
            if any(row.tier != "fast" for row in tried.rows):
                # Slow rows and texts are owed at once.
                self._poll = 0
        self._replan()

    def _request(self, tried: Exclusion) -> Block | None:
        """What would not be sent without the exclusion; None where there is no such thing."""
        ground = self._schedule.ground
        if tried.rows:
            return block(ground, tried.rows)
        if tried.closed is not None:
            return _across(ground, *tried.closed)
        whole = AddressConstraints(self.map, ground.refused, ground.closed)
        names = {row.quantity for row in ground.refused}
        rows = [row for row in self.map.rows if row.quantity not in names]
        longest = max(plan(self.map, rows, self._schedule.costs, whole), key=lambda one: one.words)
        return longest if tried.most is not None and longest.words > tried.most else None

    def _together(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Of these rows, those that the largest single request for some of them can fetch."""
        ground = self._schedule.ground
        whole = AddressConstraints(self.map, (), ground.closed, ground.most)
        parts = plan(self.map, rows, self._schedule.costs, whole)
        return max(parts, key=lambda one: len(one.rows)).rows


def _without_row(found: Findings, known: Row | None) -> Findings:
    """Without a row that is known to be answered."""
    refused, unclear = (
        tuple(r for r in rows if r != known) for rows in (found.refused, found.unclear)
    )
    return replace(found, refused=refused, unclear=unclear)


def _all_refused(names: Sequence[str], refusal: Unsupported) -> str:
    named = ", ".join(names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"the meter refuses all that it is asked for ({named}{more}): {refusal}"


def _spread(rows: Sequence[Row]) -> Iterator[Row]:
    """The first, the last, the one in the middle, and those between."""
    step = max(len(rows) - 1, 1)
    while True:
        yield from rows[::step]
        if step == 1:
            return
        step = -(-step // 2)


def _across(ground: AddressConstraints, function: int, first: int, last: int) -> Block | None:
    """The shortest request that crosses a closed hole."""
    rows = ground.rows(function)
    before = max((r for r in rows if r.last < first), key=lambda row: row.last, default=None)
    behind = min((r for r in rows if r.first > last), key=lambda row: row.first, default=None)
    if before is None or behind is None:
        return None
    found = block(ground, [before, behind])
    return found if found.words <= ground.most else None


def _counter(row: Row) -> CounterRegister:
    known = describe(row.quantity, base_of(row.unit))
    units = (factor(row.unit, known.unit) if known else None) or 1.0
    grain = values.grain(row)
    step = None if grain is None else grain * units
    rate = None if row.max_rate is None else row.max_rate * units
    return CounterRegister(row.quantity, row.type, step, values.wrap(row), rate, _source(row))


def _source(row: Row) -> str:
    """What tells a counter's registers from others, and how they become a number."""
    parts = [
        row.function,
        row.address,
        row.words,
        row.unit,
        row.word_order,
        row.byte_order,
        row.order,
        row.scale,
        row.scale_register,
        row.scale_factor,
        row.bit,
        row.bits,
    ]
    terms = [f"{term.role}{term.registers}{term.form.scale:g}" for term in row.terms]
    return " ".join([*map(str, parts), *terms])
