"""Driver for Modbus meters that are described by a register map; plans and sends the requests."""

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
from meterd.drivers.sunspec.meter import SunSpecMeter
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

# Requests beyond the plan that the search for refused registers may send, per epoch of the link or
# per LONGEST_PAUSE_S.
SPLIT_BUDGET = 20
# Rows that are read alone before a meter counts as refusing everything.
WITNESSES = 4
# Number of the poll after which requests are planned anew by measured costs; the next time after
# twice as many polls, and so on, but at most so many later.
_REPLAN_AFTER_POLLS = 20
_REPLAN_INTERVAL_MAX_POLLS = 5000
# Refused requests, without any reply before, after which the search begins.
_REFUSALS_BEFORE_SEARCH = 3
# After reopening at so many polls in a row, a new connection is no longer taken for a new meter.
_REOPENINGS_MAX = 3
# Rows named in a fault's text at most.
_ROWS_NAMED_MAX = 8
_NEVER = -1
# Functions whose requests are counted in registers.
_REGISTER_FUNCTIONS = (3, 4)


class ModbusMeter:
    """A Modbus meter with a register map, polled by planned requests."""

    Options: ClassVar[type[Any]] = ModbusOptions

    def __init__(
        self,
        link: Link,
        options: ModbusOptions,
        *,
        interval: float = SLOW,
        monotonic: Callable[[], float] = loop_time,
    ) -> None:
        """`interval` is the poll interval in seconds, `monotonic` the clock of pauses (s)."""
        self.map = options.register_map
        unit = self.map.unit if options.unit is None else options.unit
        self.client = self._listener = ModbusClient(link, unit, wide=self.map.wide)
        self._unit = unit
        self._link = link
        self._interval = interval
        self._epoch = _NEVER
        self._poll = 0
        costs = link_costs(link)
        # With a baud rate the time of a register on the wire is computed, behind a gateway as well.
        self._learner = Learner.serial(costs) if "baud" in link.options else Learner.tcp(costs)
        self._schedule = _schedule(link, options, unit, interval, costs)
        self._exclusions = Exclusions()
        self.notices: list[Notice] = self._exclusions.notices
        wake = self.map.wake if options.allow_wake else ()
        self._unlocking = Unlocking(link, unit, wake, self.notices)
        self._monotonic = monotonic
        self._budget = SPLIT_BUDGET
        self._renewed = 0.0
        # Whether the register limit was searched since the budget was renewed.
        self._limit_searched = False
        self._replan_poll = _REPLAN_AFTER_POLLS
        # Registers of the longest request that was ever answered: shorter ones are not too long.
        self._longest_answered = 0
        # Replies in this poll; polls in a row without any; functions that had a reply.
        self._reply_count = 0
        self._polls_without_reply = 0
        self._refused_names: tuple[str, ...] = ()
        # The row that was answered last; the witness, which was answered when nothing else was, and
        # its values in this poll.
        self._last_answered: Row | None = None
        self._witness: Row | None = None
        self._witness_values: Columns | None = None
        self._functions: set[int] = set()
        self._reopenings = 0
        self._remote = RemoteRegisters(self.map, self._fetch)
        self._silent_rows = SilentRows(
            functools.partial(self._fetch, values_used=False),
            self._schedule,
            self._exclusions,
            self._replan,
            monotonic,
        )

    @staticmethod
    def build(link: Link, options: ModbusOptions, *, interval: float) -> Driver:
        """The driver of these options: SunSpecMeter for `map: sunspec`, else this class."""
        if options.map != SUNSPEC:
            return ModbusMeter(link, options, interval=interval)
        keys = {"unit", "slow", "part", "index"}
        sunspec_options = options.model_dump(include=keys, exclude_none=True)
        return SunSpecMeter(link, SunSpecOptions(**sunspec_options), interval=interval)

    @staticmethod
    def link_defaults(options: ModbusOptions) -> Mapping[str, str]:
        """The map's default serial settings, pauses and timeout, as link options."""
        if (register_map := options.unmoved) is None:
            return {}
        return {**(register_map.serial or {}), **register_map.times}

    @staticmethod
    def states(options: ModbusOptions) -> Mapping[str, Mapping[int, str]]:
        """Texts of the values of enumerated rows, by quantity."""
        if (register_map := options.unmoved) is None:
            return {}
        return {row.quantity: row.enum for row in register_map.rows if row.enum}

    @with_traffic
    async def read(self) -> Sequence[Reading]:
        """One poll: fast rows each time, slow rows each n-th time, texts once per epoch.

        Raises LinkError, or DeviceError, with the code `all_refused` where every row is refused.
        """
        await self._unlocking.begin()
        if self._polls_without_reply:
            await self._unlocking.again()
        epoch = self._link.epoch
        if self._is_other(epoch):
            self._start_over()
        # If this poll fails, the next one reads all tiers: the meter may be another one by then.
        number, self._poll = self._poll, 0
        self._reply_count, self._witness_values = 0, None
        if self._silent_rows.begin():
            await self._silent_rows.search(long=self._is_long)
        results = await self._send_all(number)
        # The first exchange opens the link (epoch 0 until then); a later reopening resets the plan.
        self._epoch = epoch or self._link.epoch
        self._polls_without_reply = 0
        self._poll = number + 1
        self._update_plan(number)
        self._silent_rows.end()
        if not self._exclusions.idle:
            await self._retry_excluded()
            self._exclusions.settle(self._monotonic())
            if (left_out := self._exclusions.columns) is not None:
                results.append(left_out)
        return Columns.joined(results)

    def left_out(self) -> list[LeftOut]:
        """Requests that are excluded now, with reason and time of the next trial."""
        return self._exclusions.listed(self._monotonic())

    @property
    def timeout(self) -> float:
        """The longest current time limit of its exchanges, in seconds."""
        return self.client.timeout

    def counters(self) -> list[CounterRegister]:
        """The registers of its counters."""
        return [_counter(row) for row in self.map.rows if row.kind is Kind.COUNTER]

    def quantities(self) -> frozenset[str]:
        """All quantities that it may read: the rows of its map."""
        return frozenset(row.quantity for row in self.map.rows)

    def report(self, costs: Costs | None = None) -> PlanReport:
        """Mean cost of a poll, with slow rows in each n-th only.

        `costs` are the link's; None: those learned from this meter's exchanges.
        """
        fast, all_rows = self._requests(self._schedule.ordinary), self._requests(1)
        costs, every = costs or self._learner.costs(), self._schedule.every
        ordinary, full = (describe_plan(parts, costs, self._interval) for parts in (fast, all_rows))
        return replace(
            ordinary,
            seconds=(ordinary.seconds * (every - 1) + full.seconds) / every,
            load=(ordinary.load * (every - 1) + full.load) / every,
        )

    @property
    def learner(self) -> Learner:
        """The costs learned from its exchanges."""
        return self._learner

    @property
    def unit(self) -> int:
        """The unit id."""
        return self._unit

    def traffic(self) -> list[tuple[int, int]]:
        """Bytes sent and received by each request of a poll without slow rows, framing included."""
        parts = self._requests(self._schedule.ordinary)
        return [self.client.sizes(part.function, part.words) for part in parts]

    def _requests(self, number: int) -> list[Block]:
        """All requests of a poll, those for remote registers included."""
        parts = self._schedule.blocks(number)
        return [*parts, *self._remote.cost(parts)] if any(part.apart for part in parts) else parts

    def _is_other(self, epoch: int) -> bool:
        """Whether the link was reopened, so that another meter may answer.

        A link that is reopened at every poll tells nothing; there, only a failed poll before means
        that the meter may have been exchanged.
        """
        if epoch == self._epoch:
            self._reopenings = 0
            return False
        self._reopenings += 1
        return self._reopenings <= _REOPENINGS_MAX or not self._poll

    def _start_over(self) -> None:
        self._exclusions.start_over(self._monotonic())
        self._renew()

    def _renew(self) -> None:
        """Reset the plan and all that was learned for it."""
        self._replan()
        self._remote.forget()
        self._functions.clear()
        self._budget, self._limit_searched = SPLIT_BUDGET, False
        self._poll = 0
        self._replan_poll = _REPLAN_AFTER_POLLS

    def _replan(self) -> None:
        """Plan without the excluded rows, if the exclusions changed."""
        exclusions = self._exclusions
        if exclusions.changed:
            exclusions.changed = False
            rows = exclusions.rows
            self._schedule.leave_out(rows, exclusions.closed, exclusions.most)
            self._remote.leave_out({row.quantity for row in rows})

    def _update_plan(self, number: int) -> None:
        """After a poll: exclude refused remote registers, and plan by measured costs when due."""
        for part, refusal in self._remote.refused:
            self._leave_out(Findings(part.rows, part.rows if len(part.rows) > 1 else ()), refusal)
        self._replan()
        if number == self._replan_poll:
            self._schedule.learn(self._learner.costs())
            self._replan_poll = number + min(number, _REPLAN_INTERVAL_MAX_POLLS)

    async def _send_all(self, number: int) -> list[Columns]:
        """Send all requests of this poll; starts over where the search changed the plan."""
        results: list[Columns] = []
        if not (parts := self._schedule.blocks(number)):
            # Everything is excluded: forget that, as a poll without requests proves nothing.
            self._exclusions.forget(self._monotonic())
            self._replan()
            parts = self._schedule.blocks(number := 0)
        apart = self._remote.blocks and any(part.apart for part in parts)
        if apart:
            await self._remote.before(parts)
        refused: list[tuple[Block, Unsupported]] = []
        for part in parts:
            try:
                results.append(part.columns(await self._send(part), self._remote.known))
                self._last_answered = part.rows[0]
            except Unsupported as refusal:
                refused.append((part, refusal))
            # Until the first reply, send further requests first: they show whether the meter is up.
            alone = (
                not self._reply_count
                and len(refused) < _REFUSALS_BEFORE_SEARCH
                and not self._polls_without_reply
            )
            if not refused or (alone and part is not parts[-1]):
                continue
            for request, reason in refused:
                if (columns := await self._search(request, reason)) is None:
                    self._budget -= len(results) + len(refused)
                    self._update_plan(_NEVER)
                    return await self._send_all(number)
                results.append(columns)
            refused.clear()
        return [await self._remote.after(parts, Columns.joined(results))] if apart else results

    async def _send(self, part: Block) -> bytes:
        """The data of a planned request; a failure is reported to the search for silent rows."""
        try:
            return await self._fetch(part)
        except Unsupported:
            if await self._unlocking.again():
                return await self._send(part)
            raise
        except (LinkError, DeviceError) as error:
            if not self.client.is_late:
                self._silent_rows.lost(part, error, long=self._is_long(part))
            raise

    async def _fetch(self, part: Block, *, values_used: bool = True) -> bytes:
        """The data of one request; its duration goes to the learner."""
        data = await self.client.read(
            part.function, part.address, part.words, values_used=values_used
        )
        self._reply_count += 1
        self._functions.add(part.function)
        self._learner.add(part.words, self._link.took)
        if part.words > self._longest_answered:
            self._longest_answered = part.words
        return data

    def _is_long(self, part: Block) -> bool:
        """Whether a request may have failed for its length."""
        return (
            part.words > self._longest_answered
            and len(part.rows) > 1
            and part.function in _REGISTER_FUNCTIONS
        )

    async def _answers(self, rows: Sequence[Row]) -> bool:
        """Whether these rows are answered in one request."""
        try:
            await self._fetch(block(self._schedule.constraints, rows), values_used=False)
        except Unsupported:
            return False
        except LinkError as error:
            if error.code != LinkCode.TIMEOUT:
                raise
            return False
        return True

    async def _bisect(self, part: Block) -> Findings:
        """Search the register limit: is a request refused for its length, or for some row?"""
        search = RegisterLimit(self._schedule.constraints, part.rows)
        while self._budget > 0 and (rows := search.batch()) is not None:
            self._budget -= 1
            search.note(answered=await self._answers(rows))
        return search.findings()

    async def _search(self, part: Block, refusal: Unsupported) -> Columns | None:
        """Find and exclude the refused rows of a request; returns the values of the others.

        None where the plan changed, so that the poll has to start over.
        """
        now = self._monotonic()
        if self._budget < SPLIT_BUDGET and now - self._renewed >= LONGEST_PAUSE_S:
            self._budget, self._limit_searched = SPLIT_BUDGET, False
        if self._budget == SPLIT_BUDGET:
            self._renewed = now
        if not self._reply_count:
            await self._find_witness(part, refusal)
        if self._lacks_function(part, refusal):
            self._leave_out(Findings(part.rows, part.rows if len(part.rows) > 1 else ()), refusal)
            return Columns.joined([])
        if suspects := await self._refused_suspects(self._exclusions.suspects(part.rows, now)):
            return await self._read_others(part, suspects, refusal)
        if not self._limit_searched and self._is_long(part):
            self._limit_searched = True
            self._leave_out(await self._bisect(part), refusal)
            return None
        return await self._halve(part, refusal)

    async def _halve(self, part: Block, refusal: Unsupported) -> Columns:
        """Bisect a refused request: the values that are answered; the other rows are excluded."""
        search = RefusedRowSearch(self._schedule.constraints, part.rows)
        results: list[Columns] = []
        while self._budget > 0 and (rows := search.batch()) is not None:
            self._budget -= 1
            request = block(self._schedule.constraints, rows)
            try:
                data = await self._fetch(request)
            except Unsupported:
                search.note(answered=False)
            else:
                search.note(answered=True)
                results.append(request.columns(data, self._remote.known))
        findings = search.findings()
        if self._witness in findings.unclear and self._witness_values is not None:
            findings = _without_row(findings, self._witness)
            results.append(self._witness_values)
        self._leave_out(findings, refusal)
        return Columns.joined(results)

    def _lacks_function(self, part: Block, refusal: Unsupported) -> bool:
        """Whether the meter does not support this function (exception 1, and no reply ever)."""
        if not isinstance(refusal, Refused) or refusal.exception != ILLEGAL_FUNCTION:
            return False
        return part.function not in self._functions

    async def _refused_suspects(self, suspects: Sequence[Row]) -> list[Row]:
        """The suspects that are refused when read alone; all, if the budget is too small."""
        if self._budget < len(suspects):
            return list(suspects)
        refused = []
        for row in suspects:
            self._budget -= 1
            if await self._answers([row]):
                self._exclusions.acquit(row)
            else:
                refused.append(row)
        return refused

    async def _read_others(
        self, part: Block, refused: Sequence[Row], refusal: Unsupported
    ) -> Columns | None:
        """The values of a refused request's other rows, where the refused ones are known."""
        self._leave_out(Findings(tuple(refused)), refusal)
        names = {row.quantity for row in refused}
        others = [row for row in part.rows if row.quantity not in names]
        constraints = self._schedule.constraints.without(refused)
        results: list[Columns] = []
        for request in plan(self.map, others, self._schedule.costs, constraints):
            self._budget -= 1
            try:
                results.append(request.columns(await self._fetch(request), self._remote.known))
            except Unsupported as error:
                if (columns := await self._search(request, error)) is None:
                    return None
                results.append(columns)
        return Columns.joined(results)

    async def _find_witness(self, part: Block, refusal: Unsupported) -> None:
        """Find a row that is answered, of a meter that gave no reply in this poll.

        Raises DeviceError where it refuses the witnesses, too, as meters do while they start up.
        All that was learned of it is forgotten then.
        """
        tried = dict.fromkeys(row.quantity for row in part.rows)
        for row in self._witnesses(part):
            self._budget -= 1
            tried[row.quantity] = None
            with contextlib.suppress(Unsupported):
                request = block(self._schedule.constraints, [row])
                data = await self._fetch(request)
                self._last_answered = row
                self._witness, self._witness_values = row, request.columns(data, self._remote.known)
                return
        if not self._polls_without_reply:
            # Witnesses change from poll to poll; the fault's text should stay the same.
            self._refused_names = tuple(tried)
        self._polls_without_reply += 1
        self._exclusions.forget(self._monotonic())
        self._renew()
        raise DeviceError(_all_refused(self._refused_names, refusal), code=DeviceCode.ALL_REFUSED)

    def _witnesses(self, part: Block) -> list[Row]:
        """Rows to read alone: of other functions, of other requests, and from all over the map.

        First the one that was answered last; the others change from poll to poll, and it is a
        single one if all were refused at the poll before.
        """
        others = [
            request.rows[0] for request in self._schedule.blocks(0) if request.rows != part.rows
        ]
        others.sort(key=lambda row: row.function == part.function)
        firsts = {row.function: row for row in reversed(others)}
        ordered = [*firsts.values(), *others, *_spread(part.rows), *self.map.rows]
        by_name = {row.quantity: row for row in ordered}
        if len(part.rows) == 1:
            del by_name[part.rows[0].quantity]
        rows = list(by_name.values())
        if not rows:
            return []
        start = self._polls_without_reply and self._polls_without_reply + WITNESSES - 1
        count = 1 if self._polls_without_reply else WITNESSES
        chosen = [rows[(start + i) % len(rows)] for i in range(min(count, len(rows)))]
        if self._last_answered is None or (
            len(part.rows) == 1 and self._last_answered == part.rows[0]
        ):
            return chosen
        return [self._last_answered, *(row for row in chosen if row != self._last_answered)]

    def _leave_out(self, findings: Findings, refusal: Unsupported) -> None:
        self._exclusions.add(findings, Cause.REFUSED, str(refusal), self._monotonic())

    # -- exclusions ------------------------------------------------------------------------------

    async def _retry_excluded(self) -> None:
        """Send one more request if the trial of an exclusion is due."""
        began = self._monotonic()
        if (tried := self._exclusions.due(began)) is None:
            return
        cause = why = None
        request = self._request(tried)
        splits = True
        try:
            if request is not None:
                await self._fetch(request, values_used=False)
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
            self._exclusions.answered(tried, now, self._largest_request)
            if any(row.tier != "fast" for row in tried.rows):
                # Read slow rows and texts at the next poll.
                self._poll = 0
        self._replan()

    def _request(self, tried: Exclusion) -> Block | None:
        """The request that an exclusion prevents; None where there is none any more."""
        constraints = self._schedule.constraints
        if tried.rows:
            return block(constraints, tried.rows)
        if tried.closed is not None:
            return _across(constraints, *tried.closed)
        unlimited = AddressConstraints(self.map, constraints.refused, constraints.closed)
        names = {row.quantity for row in constraints.refused}
        rows = [row for row in self.map.rows if row.quantity not in names]
        longest = max(
            plan(self.map, rows, self._schedule.costs, unlimited), key=lambda request: request.words
        )
        return longest if tried.most is not None and longest.words > tried.most else None

    def _largest_request(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows of the largest single request for some of these."""
        constraints = self._schedule.constraints
        unlimited = AddressConstraints(self.map, (), constraints.closed, constraints.most)
        parts = plan(self.map, rows, self._schedule.costs, unlimited)
        return max(parts, key=lambda part: len(part.rows)).rows


def _without_row(findings: Findings, answered: Row | None) -> Findings:
    """The findings without a row that was answered."""
    refused, unclear = (
        tuple(r for r in rows if r != answered) for rows in (findings.refused, findings.unclear)
    )
    return replace(findings, refused=refused, unclear=unclear)


def _all_refused(names: Sequence[str], refusal: Unsupported) -> str:
    named = ", ".join(names[:_ROWS_NAMED_MAX])
    more = f" and {len(names) - _ROWS_NAMED_MAX} more" if len(names) > _ROWS_NAMED_MAX else ""
    return f"the meter refuses all that it is asked for ({named}{more}): {refusal}"


def _spread(rows: Sequence[Row]) -> Iterator[Row]:
    """The rows in order of bisection: first, last, middle, and those between."""
    step = max(len(rows) - 1, 1)
    while True:
        yield from rows[::step]
        if step == 1:
            return
        step = -(-step // 2)


def _across(constraints: AddressConstraints, function: int, first: int, last: int) -> Block | None:
    """The shortest request that spans this gap between rows."""
    rows = constraints.rows(function)
    before = max((r for r in rows if r.last < first), key=lambda row: row.last, default=None)
    behind = min((r for r in rows if r.first > last), key=lambda row: row.first, default=None)
    if before is None or behind is None:
        return None
    request = block(constraints, [before, behind])
    return request if request.words <= constraints.most else None


def _schedule(
    link: Link, options: ModbusOptions, unit: int, interval: float, costs: Costs
) -> Schedule:
    """Which requests come with which poll; `interval` in seconds."""
    register_map = options.register_map
    # Behind a gateway a stale reply may come under a fresh id: other lengths give it away.
    is_gateway = not link.url.startswith("serial:")
    return Schedule(
        register_map,
        interval,
        costs,
        slow=options.slow,
        lengths=lengths_on(link) if is_gateway else None,
        meter=(unit, f"{register_map.name}{options.registers:+d}"),
    )


def _counter(row: Row) -> CounterRegister:
    quantity = describe(row.quantity, base_of(row.unit))
    units = (factor(row.unit, quantity.unit) if quantity else None) or 1.0
    grain = values.grain(row)
    step = None if grain is None else grain * units
    rate = None if row.max_rate is None else row.max_rate * units
    return CounterRegister(row.quantity, row.type, step, values.wrap(row), rate, _source(row))


def _source(row: Row) -> str:
    """Identity of a counter's registers and of their conversion to a number, as a text."""
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
