"""Silence: rows that a meter gives no answer for, though it answers for all others.

poll 1 | a b | c d e f |               the second request is lost, and the poll with it
poll 2 | a b | c d e f |               and again, so it is no accident
poll 3 | a |                           a witness: somebody is there
       | c d e f | c d | e | e | f |   lost again, so it is halved; e is lost alone, and once more
       | a b | c d | f |               the poll itself; e is left out (see exclusions.py)
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
"""One request: its values, or LinkError or DeviceError."""

# What searching may cost in LONGEST_PAUSE_S; a request that nobody answers costs its timeout
# and the listening after it.
BUDGET = 60
_ANSWERED, _LOST = 1, 2
# Failures after which the link is as it was.
_HARMLESS = (LinkCode.TIMEOUT, LinkCode.BAD_REPLY)


class SilentRows:
    """Of one meter. What it finds is put into `exclusions`, and `replan` called."""

    __slots__ = (
        "_before",
        "_budget",
        "_exclusions",
        "_fetch",
        "_monotonic",
        "_renewed",
        "_replan",
        "_schedule",
        "_suspect",
        "_tries",
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
        self._tries = 0
        self._budget = BUDGET
        self._renewed = 0.0
        self._suspect: Block | None = None
        # What the poll before was lost for.
        self._before: tuple[Row, ...] = ()

    def lost(self, part: Block, error: LinkError | DeviceError, *, long: bool) -> None:
        """A request of a poll had no answer, or a no that says nothing of its registers.

        Looked into when it happens twice in a row; at once if no answer came to one that may be
        too `long`.
        """
        before, self._before = self._before, part.rows
        harmless = isinstance(error, DeviceError) or error.code in _HARMLESS
        odd = (long and error.code == LinkCode.TIMEOUT) or before == part.rows
        if harmless and odd and self._may_search():
            self._suspect = part

    def _may_search(self) -> bool:
        now = self._monotonic()
        if now - self._renewed >= LONGEST_PAUSE_S:
            self._budget, self._renewed = BUDGET, now
        return self._budget > 0

    def begin(self) -> bool:
        """Before each poll: whether there is something to look into first."""
        return self._suspect is not None

    def end(self) -> None:
        """After each good poll."""
        self._before = ()

    async def look(self, *, long: Callable[[Block], bool]) -> None:
        """Was it these registers that the poll before was lost for?

        `long`: whether a request may have been too long. Raises what the witness fails by: so
        does the poll then, at the cost of one request.
        """
        part = self._suspect
        if part is None:
            return
        if (witness := self._witness(part)) is not None:
            with contextlib.suppress(Unsupported):
                await self._fetch(witness)
            self._tries = 0
            await self._examine(part, long=long(part))
        self._suspect = None

    def _witness(self, part: Block) -> Block | None:
        """Another request that anybody would answer: each time another one, as it may be mute too.

        None where the map has no other.
        """
        plan = self._schedule.blocks(0)
        others = [one.rows[:1] for one in plan if one.rows != part.rows]
        middle = len(part.rows) // 2
        mine = [part.rows[:1], part.rows[-1:], part.rows[middle : middle + 1]]
        places = [*others, *(mine if len(part.rows) > 1 else ())]
        if not places:
            return None
        self._tries += 1
        return block(self._schedule.ground, places[(self._tries - 1) % len(places)])

    async def _examine(self, part: Block, *, long: bool) -> None:
        """Somebody is there, so find out what it is that he does not answer."""
        if self._budget <= 0 or (why := await self._failure(part.rows)) is None:
            return
        if long:
            reach = RegisterLimit(self._schedule.ground, part.rows)
            await self._ask(reach)
            found = reach.findings()
            self._note(found, why)
            if found.most is not None or found.closed:
                return
            rest = [row for row in part.rows if row not in found.refused]
            await self._examine_all(
                plan(self._schedule.ground.map, rest, ground=self._schedule.ground)
            )
            return
        search = RefusedRowSearch(self._schedule.ground, part.rows)
        await self._ask(search)
        found = search.findings()
        # What was ever answered at this length is not too long.
        self._note(Findings(found.refused, found.unclear, found.closed), why)

    async def _examine_all(self, parts: Iterable[Block]) -> None:
        for part in parts:
            await self._examine(part, long=False)

    async def _ask(self, search: RegisterLimit | RefusedRowSearch) -> None:
        while self._budget > 0 and (rows := search.batch()) is not None:
            search.note(answered=await self._failure(rows) is None)

    async def _failure(self, rows: Sequence[Row]) -> str | None:
        """Why these rows are not answered in one request; a single one gets a second chance.

        Raises LinkError where the link is gone.
        """
        why = None
        for _ in range(2 if len(rows) == 1 else 1):
            self._budget -= _ANSWERED
            try:
                await self._fetch(block(self._schedule.ground, rows))
            except DeviceError as error:
                why = str(error)
            except LinkError as error:
                if error.code not in _HARMLESS:
                    raise
                self._budget -= _LOST - _ANSWERED
                why = str(error)
            else:
                return None
        return why

    def _note(self, found: Findings, why: str) -> None:
        self._exclusions.add(found, Cause.SILENT, why, self._monotonic())
        self._replan()
