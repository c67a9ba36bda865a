"""Exclusions: what a meter is not asked for now, why, since when, and when it is tried again.

 0 s | a b c d |           refused; the bisection finds c
     | a b   d |           planned without it
 5 s | a b   d | c |       one more request at the end of a poll: refused, next in 10 s
15 s | a b   d | c |       answered
     | a b c d |           planned with it again
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol, runtime_checkable

from meterd.drivers.backoff import FIRST_PAUSE_S, LONGEST_PAUSE_S, longer
from meterd.drivers.refused_rows import Findings, Hole
from meterd.drivers.registers import Row
from meterd.model.columns import Columns
from meterd.model.event import EventKind, Notice, Scalar
from meterd.model.sample import Reading

# The pause before a row that met silence is first tried again, in seconds: it holds up the bus.
FIRST_PAUSE_SILENT_S = 30.0
# A try that failed is followed by a rest of so many times what it took: 2 % of the bus's time.
_REST = 50.0
# What was left out within so many seconds is likely to have one cause, and to come back at once.
_INCIDENT_S = 60.0
# For so long what came back is suspected first where something is refused.
_SUSPECT_S = 3600.0

Together = Callable[[Sequence[Row]], Sequence[Row]]
"""Of these rows, those that the largest single request for some of them can fetch."""


class Cause(StrEnum):
    """What the meter did when it was asked."""

    REFUSED = "refused"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A request that a meter does not answer, and when it is tried again.

    It is one of `rows`, which share a function; or one that crosses the hole `closed`; or one for
    more than `most` registers. `why` is the meter's answer. Times are monotonic seconds.
    """

    cause: Cause
    why: str
    rows: tuple[Row, ...] = ()
    closed: Hole | None = None
    most: int | None = None
    since: float = 0.0
    pause: float = FIRST_PAUSE_S
    due: float = 0.0

    @property
    def optional(self) -> bool:
        """Whether nothing is missing without it."""
        return bool(self.rows) and all(row.optional for row in self.rows)

    def reason(self, row: Row) -> str:
        """Why this one of its rows has no value."""
        where = f"register {row.address} (function {row.function})"
        if self.cause is Cause.SILENT:
            said = f"the meter answers others, but not {where}: {self.why}"
        elif len(self.rows) == 1:
            said = f"the meter refuses {where}: {self.why}"
        else:
            said = (
                f"the meter refuses a request with {where}: {self.why}; "
                f"which of its {len(self.rows)} rows it means is not known yet"
            )
        return f"{said}; it is asked again at most {LONGEST_PAUSE_S / 60:g} min apart"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An exclusion for people and programs: for how many seconds, and in how many it is tried."""

    rows: tuple[str, ...]
    function: int
    registers: tuple[int, ...]
    most: int | None
    cause: str
    reason: str
    lasts: float
    again: float


@runtime_checkable
class LeavesOut(Protocol):
    """A driver that goes on without what its device does not answer."""

    def left_out(self) -> Sequence[LeftOut]:
        """What is not asked for now, why, and when it is tried again."""


class Exclusions:
    """Of one meter. What is learned here is never for ever: each entry is tried again.

    `notices` get one notice for all rows that went missing in a poll for the same cause, and one
    for all that came back.
    """

    __slots__ = (
        "_columns",
        "_past",
        "_rests_until",
        "_settled",
        "_table",
        "_told",
        "_trial",
        "changed",
        "idle",
        "notices",
    )

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.changed = False
        """Whether the meter has to be planned anew; whoever does so says that it is done."""
        self.idle = True
        """Whether nothing is left out, and nothing is to be told."""
        self._table: list[Exclusion] = []
        # Tried together, as something that was left out with them is answered again.
        self._trial: tuple[Exclusion, ...] = ()
        # By quantity: the last pause of what came back or was forgotten, and when that was.
        self._past: dict[str, tuple[float, float]] = {}
        self._told: dict[str, Row] = {}
        self._settled = True
        self._rests_until = 0.0
        self._columns: Columns | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows that are left out, in the order of their registers."""
        found = (row for one in self._table for row in one.rows)
        return tuple(sorted(found, key=lambda row: (row.function, row.address, row.quantity)))

    @property
    def closed(self) -> tuple[Hole, ...]:
        """As in `Findings`."""
        return tuple(sorted(one.closed for one in self._table if one.closed is not None))

    @property
    def most(self) -> int | None:
        """As in `Findings`."""
        return min((one.most for one in self._table if one.most is not None), default=None)

    @property
    def columns(self) -> Columns | None:
        """What to say of the rows that are left out; None where nothing is to be said."""
        if self._columns is None:
            found = [
                Reading(row.quantity, None, row.unit, one.reason(row))
                for one in self._table
                for row in one.rows
                if not row.optional and not row.quantity.startswith("@")
            ]
            self._columns = Columns.of(found)
        return self._columns if len(self._columns) else None

    def add(self, found: Findings, cause: Cause, why: str, now: float) -> None:
        """Leave out what was found; rows of which none was asked alone are one entry."""
        for rows in _groups(found):
            self._put(Exclusion(cause, why, rows), now)
        for hole in found.closed:
            self._put(Exclusion(cause, why, closed=hole), now)
        if found.most is not None:
            self._put(Exclusion(cause, why, most=found.most), now)

    def suspects(self, rows: Iterable[Row], now: float) -> list[Row]:
        """Those of these rows that were left out not long ago."""
        if not self._past:
            return []
        return [
            row
            for row in rows
            if row.quantity in self._past and now - self._past[row.quantity][1] <= _SUSPECT_S
        ]

    def acquit(self, row: Row) -> None:
        """A suspect was answered."""
        self._past.pop(row.quantity, None)

    def due(self, now: float) -> Exclusion | None:
        """What to try again now: the same request is sent once more."""
        if not self._table or now < self._rests_until:
            return None
        if self._trial:
            first = self._trial[0]
            return replace(first, rows=tuple(row for one in self._trial for row in one.rows))
        ripe = [one for one in self._table if one.due <= now]
        # What is not settled yet goes before what was refused again and again.
        return min(ripe, key=lambda one: (one.pause, one.due), default=None)

    def answered(self, tried: Exclusion, now: float, together: Together) -> None:
        """What `due` gave was answered, or means nothing any more: back into the plan."""
        gone = self._trial or (tried,)
        self._trial = ()
        for one in gone:
            self._table.remove(one)
            self._remember(one, now)
        self._is_changed()
        self._trial = self._gathered(tried, now, together)

    def failed(
        self, tried: Exclusion, cause: Cause, why: str, now: float, *, took: float, splits: bool
    ) -> None:
        """What `due` gave was not answered. `took` in seconds; `splits`: rows are at fault.

        An entry of several rows is halved then, and its halves are tried at the next polls.
        """
        self._rests_until = now + took * _REST
        if self._trial:
            self._trial = ()
            return
        self._table.remove(tried)
        if splits and len(tried.rows) > 1:
            middle = len(tried.rows) // 2
            for rows in (tried.rows[:middle], tried.rows[middle:]):
                half = replace(tried, cause=cause, why=why, rows=rows)
                self._table.append(replace(half, pause=FIRST_PAUSE_S, due=now))
            self._is_changed()
            return
        pause = longer(tried.pause)
        if tried.optional:
            pause = LONGEST_PAUSE_S
        if (cause, why) != (tried.cause, tried.why):
            self._columns = None
        self._table.append(replace(tried, cause=cause, why=why, pause=pause, due=now + pause))

    def start_over(self, now: float) -> None:
        """The link was opened anew, perhaps to another meter: ask again for what it refused.

        Not so for what met silence, which itself has links reopened; nor is a limit of length
        searched for anew, which would cost more than it could gain.
        """
        self._forget(lambda one: one.cause is Cause.REFUSED and one.most is None, now)

    def forget(self, now: float) -> None:
        """The meter did not answer anything for a while: none of what was learned counts."""
        self._forget(lambda one: True, now)

    def settle(self, now: float) -> None:
        """After a good poll: tell what is left out since the one before, and what is back."""
        if self._settled:
            return
        self._settled = True
        self.idle = not self._table
        current = {row.quantity: (row, one) for one in self._table for row in one.rows}
        gone = [pair for name, pair in current.items() if name not in self._told]
        back = [row for name, row in self._told.items() if name not in current]
        self._told = {name: row for name, (row, _) in current.items()}
        self.notices += _left_out([(row, one) for row, one in gone if not row.optional], now)
        if back:
            text = f"back: the meter answers {_registers(back)} now"
            self.notices.append(Notice(EventKind.ROWS_BACK, _named(back, text), _facts(back)))

    def listed(self, now: float) -> list[LeftOut]:
        """All that is left out now."""
        return [
            LeftOut(
                tuple(row.quantity for row in one.rows),
                one.rows[0].function if one.rows else (one.closed or (0,))[0],
                tuple(row.address for row in one.rows) or (one.closed or (0, 0))[1:],
                one.most,
                str(one.cause),
                one.reason(one.rows[0]) if one.rows else one.why,
                now - one.since,
                max(one.due - now, 0.0),
            )
            for one in self._table
        ]

    def _put(self, one: Exclusion, now: float) -> None:
        pause = FIRST_PAUSE_SILENT_S if one.cause is Cause.SILENT else FIRST_PAUSE_S
        for name in _names(one):
            before, then = self._past.pop(name, (0.0, now))
            if before and now - then <= before:
                pause = max(pause, longer(before))
        if one.optional and len(one.rows) == 1:
            pause = LONGEST_PAUSE_S
        if one.most is not None:
            self._table = [other for other in self._table if other.most is None]
        known = {name for other in self._table for name in _names(other)}
        if known.issuperset(_names(one)):
            return
        rows = tuple(row for row in one.rows if row.quantity not in known)
        self._table.append(replace(one, rows=rows, since=now, pause=pause, due=now + pause))
        self._is_changed()

    def _gathered(self, back: Exclusion, now: float, together: Together) -> tuple[Exclusion, ...]:
        """What was left out with it, for one request: nothing that is optional goes first."""
        mates = [
            one
            for one in self._table
            if one.rows
            and back.rows
            and one.cause is back.cause is Cause.REFUSED
            and one.rows[0].function == back.rows[0].function
            and abs(one.since - back.since) <= _INCIDENT_S
        ]
        if plain := [one for one in mates if not one.optional]:
            mates = plain
        if not mates:
            return ()
        rows = {row.quantity for row in together([row for one in mates for row in one.rows])}
        return tuple(one for one in mates if all(row.quantity in rows for row in one.rows))

    def _forget(self, which: Callable[[Exclusion], bool], now: float) -> None:
        gone = [one for one in self._table if which(one)]
        self._trial = ()
        if not gone:
            return
        self._table = [one for one in self._table if not which(one)]
        for one in gone:
            self._remember(one, now)
        self._is_changed()

    def _remember(self, one: Exclusion, now: float) -> None:
        for name in _names(one):
            self._past[name] = one.pause, now

    def _is_changed(self) -> None:
        self.changed = True
        self._settled = self.idle = False
        self._columns = None


def _names(one: Exclusion) -> Iterator[str]:
    """What to remember it by."""
    yield from (row.quantity for row in one.rows)
    if one.closed is not None:
        yield f"closed {one.closed}"
    if one.most is not None:
        yield "most"


def _groups(found: Findings) -> Iterator[tuple[Row, ...]]:
    """Each refused row that was asked alone; those between two of them together."""
    unclear = {row.quantity for row in found.unclear}
    group: list[Row] = []
    for row in found.refused:
        if row.quantity in unclear:
            group.append(row)
            continue
        if group:
            yield tuple(group)
            group = []
        yield (row,)
    if group:
        yield tuple(group)


# -- for people ----------------------------------------------------------------------------------


def _left_out(gone: Sequence[tuple[Row, Exclusion]], now: float) -> Iterator[Notice]:
    """One notice for all that have the same cause."""
    causes = dict.fromkeys((one.cause, one.why) for _, one in gone)
    for cause, why in causes:
        pairs = [(row, one) for row, one in gone if (one.cause, one.why) == (cause, why)]
        rows = [row for row, _ in pairs]
        again = max(min(one.due for _, one in pairs) - now, 0.0)
        verb = "refuses" if cause is Cause.REFUSED else "answers others, but not"
        text = (
            f"left out: the meter {verb} {_registers(rows)}: {why}; "
            f"asked again in {again:.0f} s, then more and more rarely, "
            f"at most {LONGEST_PAUSE_S / 60:g} min apart"
        )
        facts: dict[str, Scalar] = {
            **_facts(rows),
            "cause": str(cause),
            "reason": why,
            "again_s": round(again, 3),
        }
        yield Notice(EventKind.ROWS_LEFT_OUT, _named(rows, text), {**_facts(rows), **facts})


def _named(rows: Sequence[Row], text: str) -> str:
    """A single row's name stands before the text anyhow."""
    return text if len(rows) == 1 else f"{len(rows)} rows {text}"


def _registers(rows: Sequence[Row]) -> str:
    function = rows[0].function
    if len(rows) == 1:
        return f"register {rows[0].address} (function {function})"
    return ", ".join(f"{row.quantity} (register {row.address})" for row in rows)


def _facts(rows: Sequence[Row]) -> Mapping[str, str]:
    facts = {
        "rows": ", ".join(row.quantity for row in rows),
        "registers": ", ".join(str(row.address) for row in rows),
    }
    return {"quantity": rows[0].quantity, **facts} if len(rows) == 1 else facts
