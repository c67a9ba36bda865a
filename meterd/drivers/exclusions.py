"""Exclusions: requests that a meter does not answer, left out of the plan and retried with backoff.

 0 s | a b c d |           refused; the bisection finds c
     | a b   d |           planned without c
 5 s | a b   d | c |       trial at the end of a poll: refused, the next in 10 s
15 s | a b   d | c |       answered
     | a b c d |           planned with c again
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol, runtime_checkable

from meterd.drivers.backoff import FIRST_PAUSE_S, LONGEST_PAUSE_S, longer
from meterd.drivers.refused_rows import Findings, Gap
from meterd.drivers.registers import Row
from meterd.model.columns import Columns
from meterd.model.event import EventKind, Notice, Scalar
from meterd.model.sample import Reading

# Pause before the first trial of a row without reply, in seconds: its timeout holds up the bus.
FIRST_PAUSE_SILENT_S = 30.0
# After a failed trial there is none for so many times its duration: 2 % of the bus's time.
_REST_FACTOR = 50.0
# Rows excluded within this time probably have one cause, and are retried together.
_INCIDENT_S = 60.0
# For this time after its return a row is the first suspect where a request is refused.
_SUSPECT_S = 3600.0

Together = Callable[[Sequence[Row]], Sequence[Row]]
"""Returns the rows of the largest single request for some of these."""


class Cause(StrEnum):
    """Reaction of the meter to the request."""

    REFUSED = "refused"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A request that a meter does not answer, and the time of its next trial.

    It is a request for `rows`, which share a function; or one that spans the gap `closed`; or one
    for more than `most` registers. `error` is the error's text. Times are monotonic seconds.
    """

    cause: Cause
    error: str
    rows: tuple[Row, ...] = ()
    closed: Gap | None = None
    most: int | None = None
    since: float = 0.0
    pause: float = FIRST_PAUSE_S
    due: float = 0.0

    @property
    def optional(self) -> bool:
        """Whether all its rows are optional."""
        return bool(self.rows) and all(row.optional for row in self.rows)

    def reason(self, row: Row) -> str:
        """The reason, for people, why this one of its rows has no value."""
        where = f"register {row.address} (function {row.function})"
        if self.cause is Cause.SILENT:
            text = f"the meter answers others, but not {where}: {self.error}"
        elif len(self.rows) == 1:
            text = f"the meter refuses {where}: {self.error}"
        else:
            text = (
                f"the meter refuses a request with {where}: {self.error}; "
                f"which of its {len(self.rows)} rows it means is not known yet"
            )
        return f"{text}; it is asked again at most {LONGEST_PAUSE_S / 60:g} min apart"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An exclusion for people and programs: `lasts` is its age, `again` the next trial, both s."""

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
    """The exclusions of one meter. None is permanent: each one is retried.

    `notices` get one notice for all rows that were excluded in a poll for the same cause, and one
    for all that came back.
    """

    __slots__ = (
        "_columns",
        "_history",
        "_next_trial_at",
        "_reported",
        "_settled",
        "_table",
        "_trial",
        "changed",
        "idle",
        "notices",
    )

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.changed = False
        """Whether the meter has to be planned again; the planner sets it back."""
        self.idle = True
        """Whether nothing is excluded and no notice is due."""
        self._table: list[Exclusion] = []
        # Exclusions to retry in one request, as one of the same incident was answered.
        self._trial: tuple[Exclusion, ...] = ()
        # By quantity: last pause of an exclusion that ended or was forgotten, and when it ended.
        self._history: dict[str, tuple[float, float]] = {}
        self._reported: dict[str, Row] = {}
        self._settled = True
        self._next_trial_at = 0.0
        self._columns: Columns | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """All excluded rows, in the order of their registers."""
        rows = (row for exclusion in self._table for row in exclusion.rows)
        return tuple(sorted(rows, key=lambda row: (row.function, row.address, row.quantity)))

    @property
    def closed(self) -> tuple[Gap, ...]:
        """Gaps that no request may span, sorted."""
        return tuple(
            sorted(exclusion.closed for exclusion in self._table if exclusion.closed is not None)
        )

    @property
    def most(self) -> int | None:
        """The lowest register limit that was found; None for the map's."""
        return min(
            (exclusion.most for exclusion in self._table if exclusion.most is not None),
            default=None,
        )

    @property
    def columns(self) -> Columns | None:
        """Readings without value, with the reason, of the excluded rows; None if there are none."""
        if self._columns is None:
            readings = [
                Reading(row.quantity, None, row.unit, exclusion.reason(row))
                for exclusion in self._table
                for row in exclusion.rows
                if not row.optional and not row.quantity.startswith("@")
            ]
            self._columns = Columns.of(readings)
        return self._columns if len(self._columns) else None

    def add(self, findings: Findings, cause: Cause, error: str, now: float) -> None:
        """Exclude what a search found; adjacent rows that were not read alone are one exclusion."""
        for rows in _groups(findings):
            self._put(Exclusion(cause, error, rows), now)
        for gap in findings.closed:
            self._put(Exclusion(cause, error, closed=gap), now)
        if findings.most is not None:
            self._put(Exclusion(cause, error, most=findings.most), now)

    def suspects(self, rows: Iterable[Row], now: float) -> list[Row]:
        """Those of these rows that were excluded not long ago."""
        if not self._history:
            return []
        return [
            row
            for row in rows
            if row.quantity in self._history and now - self._history[row.quantity][1] <= _SUSPECT_S
        ]

    def acquit(self, row: Row) -> None:
        """A suspect was answered: it is none any more."""
        self._history.pop(row.quantity, None)

    def due(self, now: float) -> Exclusion | None:
        """The exclusion to retry now, if any."""
        if not self._table or now < self._next_trial_at:
            return None
        if self._trial:
            first = self._trial[0]
            return replace(
                first, rows=tuple(row for exclusion in self._trial for row in exclusion.rows)
            )
        candidates = [exclusion for exclusion in self._table if exclusion.due <= now]
        # Short pauses first: recent exclusions before those that were refused repeatedly.
        return min(candidates, key=lambda exclusion: (exclusion.pause, exclusion.due), default=None)

    def answered(self, tried: Exclusion, now: float, together: Together) -> None:
        """The trial from `due` was answered, or its request does not exist any more: end it."""
        gone = self._trial or (tried,)
        self._trial = ()
        for exclusion in gone:
            self._table.remove(exclusion)
            self._add_history(exclusion, now)
        self._set_changed()
        self._trial = self._incident(tried, now, together)

    def failed(
        self, tried: Exclusion, cause: Cause, error: str, now: float, *, took: float, splits: bool
    ) -> None:
        """The trial from `due` failed. `took` in seconds; `splits`: some row is the cause.

        An exclusion of several rows is halved then, and its halves are tried at the next polls.
        """
        self._next_trial_at = now + took * _REST_FACTOR
        if self._trial:
            self._trial = ()
            return
        self._table.remove(tried)
        if splits and len(tried.rows) > 1:
            middle = len(tried.rows) // 2
            for rows in (tried.rows[:middle], tried.rows[middle:]):
                half = replace(tried, cause=cause, error=error, rows=rows)
                self._table.append(replace(half, pause=FIRST_PAUSE_S, due=now))
            self._set_changed()
            return
        pause = longer(tried.pause)
        if tried.optional:
            pause = LONGEST_PAUSE_S
        if (cause, error) != (tried.cause, tried.error):
            self._columns = None
        self._table.append(replace(tried, cause=cause, error=error, pause=pause, due=now + pause))

    def start_over(self, now: float) -> None:
        """The link was reopened, perhaps to another meter: end exclusions of refused rows.

        Silent rows stay excluded, as their timeouts cause reconnects; so does the register limit,
        whose search would cost more than it could gain.
        """
        self._forget(
            lambda exclusion: exclusion.cause is Cause.REFUSED and exclusion.most is None, now
        )

    def forget(self, now: float) -> None:
        """The meter did not answer at all for a while: end all exclusions."""
        self._forget(lambda exclusion: True, now)

    def settle(self, now: float) -> None:
        """After a good poll: notices of rows excluded since the one before, and of those back."""
        if self._settled:
            return
        self._settled = True
        self.idle = not self._table
        current = {
            row.quantity: (row, exclusion) for exclusion in self._table for row in exclusion.rows
        }
        gone = [pair for name, pair in current.items() if name not in self._reported]
        back = [row for name, row in self._reported.items() if name not in current]
        self._reported = {name: row for name, (row, _) in current.items()}
        self.notices += _left_out(
            [(row, exclusion) for row, exclusion in gone if not row.optional], now
        )
        if back:
            text = f"back: the meter answers {_registers(back)} now"
            self.notices.append(Notice(EventKind.ROWS_BACK, _named(back, text), _facts(back)))

    def listed(self, now: float) -> list[LeftOut]:
        """All exclusions, for people and programs."""
        return [
            LeftOut(
                tuple(row.quantity for row in exclusion.rows),
                exclusion.rows[0].function if exclusion.rows else (exclusion.closed or (0,))[0],
                tuple(row.address for row in exclusion.rows) or (exclusion.closed or (0, 0))[1:],
                exclusion.most,
                str(exclusion.cause),
                exclusion.reason(exclusion.rows[0]) if exclusion.rows else exclusion.error,
                now - exclusion.since,
                max(exclusion.due - now, 0.0),
            )
            for exclusion in self._table
        ]

    def _put(self, exclusion: Exclusion, now: float) -> None:
        pause = FIRST_PAUSE_SILENT_S if exclusion.cause is Cause.SILENT else FIRST_PAUSE_S
        for name in _names(exclusion):
            last_pause, ended = self._history.pop(name, (0.0, now))
            if last_pause and now - ended <= last_pause:
                pause = max(pause, longer(last_pause))
        if exclusion.optional and len(exclusion.rows) == 1:
            pause = LONGEST_PAUSE_S
        if exclusion.most is not None:
            self._table = [other for other in self._table if other.most is None]
        excluded = {name for other in self._table for name in _names(other)}
        if excluded.issuperset(_names(exclusion)):
            return
        rows = tuple(row for row in exclusion.rows if row.quantity not in excluded)
        self._table.append(replace(exclusion, rows=rows, since=now, pause=pause, due=now + pause))
        self._set_changed()

    def _incident(self, ended: Exclusion, now: float, together: Together) -> tuple[Exclusion, ...]:
        """Exclusions of the same incident to retry in one request; those not optional first."""
        same_incident = [
            exclusion
            for exclusion in self._table
            if exclusion.rows
            and ended.rows
            and exclusion.cause is ended.cause is Cause.REFUSED
            and exclusion.rows[0].function == ended.rows[0].function
            and abs(exclusion.since - ended.since) <= _INCIDENT_S
        ]
        if required := [exclusion for exclusion in same_incident if not exclusion.optional]:
            same_incident = required
        if not same_incident:
            return ()
        rows = {
            row.quantity
            for row in together([row for exclusion in same_incident for row in exclusion.rows])
        }
        return tuple(
            exclusion
            for exclusion in same_incident
            if all(row.quantity in rows for row in exclusion.rows)
        )

    def _forget(self, which: Callable[[Exclusion], bool], now: float) -> None:
        gone = [exclusion for exclusion in self._table if which(exclusion)]
        self._trial = ()
        if not gone:
            return
        self._table = [exclusion for exclusion in self._table if not which(exclusion)]
        for exclusion in gone:
            self._add_history(exclusion, now)
        self._set_changed()

    def _add_history(self, exclusion: Exclusion, now: float) -> None:
        for name in _names(exclusion):
            self._history[name] = exclusion.pause, now

    def _set_changed(self) -> None:
        self.changed = True
        self._settled = self.idle = False
        self._columns = None


def _names(exclusion: Exclusion) -> Iterator[str]:
    """Keys of an exclusion in the history of pauses."""
    yield from (row.quantity for row in exclusion.rows)
    if exclusion.closed is not None:
        yield f"closed {exclusion.closed}"
    if exclusion.most is not None:
        yield "most"


def _groups(findings: Findings) -> Iterator[tuple[Row, ...]]:
    """Each refused row that was read alone; unclear rows between two of them together."""
    unclear = {row.quantity for row in findings.unclear}
    group: list[Row] = []
    for row in findings.refused:
        if row.quantity in unclear:
            group.append(row)
            continue
        if group:
            yield tuple(group)
            group = []
        yield (row,)
    if group:
        yield tuple(group)


# -- notices -------------------------------------------------------------------------------------


def _left_out(gone: Sequence[tuple[Row, Exclusion]], now: float) -> Iterator[Notice]:
    """One notice for all exclusions with the same cause."""
    causes = dict.fromkeys((exclusion.cause, exclusion.error) for _, exclusion in gone)
    for cause, error in causes:
        pairs = [
            (row, exclusion)
            for row, exclusion in gone
            if (exclusion.cause, exclusion.error) == (cause, error)
        ]
        rows = [row for row, _ in pairs]
        again = max(min(exclusion.due for _, exclusion in pairs) - now, 0.0)
        verb = "refuses" if cause is Cause.REFUSED else "answers others, but not"
        text = (
            f"left out: the meter {verb} {_registers(rows)}: {error}; "
            f"asked again in {again:.0f} s, then more and more rarely, "
            f"at most {LONGEST_PAUSE_S / 60:g} min apart"
        )
        facts: dict[str, Scalar] = {
            **_facts(rows),
            "cause": str(cause),
            "reason": error,
            "again_s": round(again, 3),
        }
        yield Notice(EventKind.ROWS_LEFT_OUT, _named(rows, text), {**_facts(rows), **facts})


def _named(rows: Sequence[Row], text: str) -> str:
    """The text with the number of rows; a single row's name precedes it in the event anyway."""
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
