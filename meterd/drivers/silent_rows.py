"""Bisection of requests without reply: finds rows that a meter is silent on, and excludes them.

poll 1 | a b | c d e f |               the second request has no reply, so the poll fails
poll 2 | a b | c d e f |               the same again: no accident
poll 3 | a |                           a witness is answered: the meter is there
       | c d e f | c d | e | e | f |   no reply again, so it is halved; e has none alone, and twice
       | a b | c d | f |               the poll itself, without e (see exclusions.py)
"""

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence

from meterd.drivers.backoff import LONGEST_PAUSE_S
from meterd.drivers.blocks import Block
from meterd.drivers.exclusions import Cause, Exclusions
from meterd.drivers.planner import block, plan
from meterd.drivers.refused_rows import Findings, RefusedRowSearch
from meterd.drivers.register_limit import RegisterLimit
from meterd.drivers.registers import Row
from meterd.drivers.schedule import Schedule
from meterd.errors import DeviceError, LinkCode, LinkError, Unsupported

Fetch = Callable[[Block], Awaitable[bytes]]
"""Sends one request; returns its data, or raises LinkError or DeviceError."""

# Cost of searches per LONGEST_PAUSE_S: an answered request costs 1, a lost one 2, as its timeout is
# followed by a drain of the line.
BUDGET = 60
_ANSWERED_COST, _LOST_COST = 1, 2
# Codes of failures that leave the link open.
_LINK_OPEN_CODES = (LinkCode.TIMEOUT, LinkCode.BAD_REPLY)


class SilentRows:
    """The search of one meter. Findings go into `exclusions`; `replan` is called after each."""

    __slots__ = (
        "_budget",
        "_budget_renewed",
        "_exclusions",
        "_fetch",
        "_last_failed",
        "_monotonic",
        "_replan",
        "_schedule",
        "_suspect",
        "_witness_count",
    )

    def __init__(
        self,
        fetch: Fetch,
        schedule: Schedule,
        exclusions: Exclusions,
        replan: Callable[[], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._fetch = fetch
        self._schedule = schedule
        self._exclusions = exclusions
        self._replan = replan
        self._monotonic = monotonic
        self._witness_count = 0
        self._budget = BUDGET
        self._budget_renewed = 0.0
        self._suspect: Block | None = None
        # Rows of the request that failed in the poll before.
        self._last_failed: tuple[Row, ...] = ()

    def lost(self, part: Block, error: LinkError | DeviceError, *, long: bool) -> None:
        """A request of a poll had no reply, or an error that does not concern its registers.

        The search begins when that happens twice in a row; at once after a timeout of a request
        that may be too `long`.
        """
        last_failed, self._last_failed = self._last_failed, part.rows
        harmless = isinstance(error, DeviceError) or error.code in _LINK_OPEN_CODES
        is_suspect = (long and error.code == LinkCode.TIMEOUT) or last_failed == part.rows
        if harmless and is_suspect and self._may_search():
            self._suspect = part

    def _may_search(self) -> bool:
        now = self._monotonic()
        if now - self._budget_renewed >= LONGEST_PAUSE_S:
            self._budget, self._budget_renewed = BUDGET, now
        return self._budget > 0

    def begin(self) -> bool:
        """Before each poll: whether a search is due."""
        return self._suspect is not None

    def end(self) -> None:
        """Called after each good poll."""
        self._last_failed = ()

    async def search(self, *, long: Callable[[Block], bool]) -> None:
        """Search the request that the poll before failed at.

        `long`: whether a request may have been too long. Raises the error of the witness; the poll
        fails with it then, at the cost of one request.
        """
        part = self._suspect
        if part is None:
            return
        if (witness := self._witness(part)) is not None:
            with contextlib.suppress(Unsupported):
                await self._fetch(witness)
            self._witness_count = 0
            await self._bisect(part, long=long(part))
        self._suspect = None

    def _witness(self, part: Block) -> Block | None:
        """A request for one other row; it changes each time, as the row may be silent, too.

        None where the map has no other row.
        """
        plan = self._schedule.blocks(0)
        others = [request.rows[:1] for request in plan if request.rows != part.rows]
        middle = len(part.rows) // 2
        own_rows = [part.rows[:1], part.rows[-1:], part.rows[middle : middle + 1]]
        candidates = [*others, *(own_rows if len(part.rows) > 1 else ())]
        if not candidates:
            return None
        self._witness_count += 1
        return block(
            self._schedule.constraints, candidates[(self._witness_count - 1) % len(candidates)]
        )

    async def _bisect(self, part: Block, *, long: bool) -> None:
        """The meter is there: find the rows that it does not answer."""
        if self._budget <= 0 or (reason := await self._failure(part.rows)) is None:
            return
        if long:
            limit_search = RegisterLimit(self._schedule.constraints, part.rows)
            await self._run(limit_search)
            findings = limit_search.findings()
            self._exclude(findings, reason)
            if findings.most is not None or findings.closed:
                return
            rows = [row for row in part.rows if row not in findings.refused]
            await self._bisect_all(
                plan(self._schedule.constraints.map, rows, constraints=self._schedule.constraints)
            )
            return
        search = RefusedRowSearch(self._schedule.constraints, part.rows)
        await self._run(search)
        findings = search.findings()
        # A request of this length was answered before: no register limit follows from this one.
        self._exclude(Findings(findings.refused, findings.unclear, findings.closed), reason)

    async def _bisect_all(self, parts: Iterable[Block]) -> None:
        for part in parts:
            await self._bisect(part, long=False)

    async def _run(self, search: RegisterLimit | RefusedRowSearch) -> None:
        while self._budget > 0 and (rows := search.batch()) is not None:
            search.note(answered=await self._failure(rows) is None)

    async def _failure(self, rows: Sequence[Row]) -> str | None:
        """Error text of one request for these rows, None if it is answered; a single row is read
        twice.

        Raises LinkError where the link is closed.
        """
        reason = None
        for _ in range(2 if len(rows) == 1 else 1):
            self._budget -= _ANSWERED_COST
            try:
                await self._fetch(block(self._schedule.constraints, rows))
            except DeviceError as error:
                reason = str(error)
            except LinkError as error:
                if error.code not in _LINK_OPEN_CODES:
                    raise
                self._budget -= _LOST_COST - _ANSWERED_COST
                reason = str(error)
            else:
                return None
        return reason

    def _exclude(self, findings: Findings, reason: str) -> None:
        self._exclusions.add(findings, Cause.SILENT, reason, self._monotonic())
        self._replan()
