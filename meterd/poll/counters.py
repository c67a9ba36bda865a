"""Counter guards of one device: adds a `guarded.` column per counter to each poll, and notices."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from meterd.model.event import EventKind, Notice
from meterd.model.family import Kind
from meterd.model.quantity import COUNTED_UNITS, GUARDED, declare, describe, is_own
from meterd.model.sample import Layout, Poll, Quality, QualityFlag
from meterd.poll.counter_guard import (
    DEFAULT_INTERVAL_S,
    DEFAULT_POWER,
    DEFAULT_RESOLUTION,
    CounterGuard,
    largest_count,
)
from meterd.poll.counter_replay import WRAPS, CounterTerms
from meterd.poll.guard_state import GuardOutcome, GuardState, Step

# Texts whose change means that another meter answers.
IDENTITY = ("info.serial_number", "info.model")
_SERIAL = IDENTITY[:1]
# Seconds in which the same notice about the same counter is given once.
NOTICE_INTERVAL_S = 600.0

# Bits of the integer types' range from 0 on, after which they roll over.
_RANGE_BITS = {
    "u16": 16,
    "s16": 15,
    "u32": 32,
    "s32": 31,
    "u48": 48,
    "s48": 47,
    "u64": 64,
    "s64": 63,
}
_DECIMAL_TYPES = ("bcd", "m10k")
_OUTCOME_QUALITY = {
    GuardOutcome.HELD: Quality.SUSPECT,
    GuardOutcome.STUCK: Quality.SUSPECT,
    GuardOutcome.WAITS: Quality.ESTIMATED,
    GuardOutcome.ABSENT: Quality.INVALID,
}
_COUNTED = GuardOutcome.COUNTED
_HOLDS = (GuardOutcome.HELD, GuardOutcome.STUCK)
_EVENTS = {
    GuardOutcome.ROLLOVER: EventKind.ROLLOVER,
    GuardOutcome.RESET: EventKind.RESET,
    GuardOutcome.GLITCH: EventKind.GLITCH,
    GuardOutcome.STUCK: EventKind.STUCK,
}
# Cache size: a site has a few layouts per model of device; equal ones are one object.
_LAYOUTS_CACHED_MAX = 2000


# By unit: the largest rise per hour of a user's own counter, and its step where the register does
# not tell it. Ten times what the mains of a large house or a pulse output can give.
_OWN_RATES = {"J": DEFAULT_POWER * 3600, "m³": 1e3, "l": 1e6, "1": 3.6e6}
_OWN_STEPS = {"J": DEFAULT_RESOLUTION * 3600, "m³": 1.0, "l": 1e3, "1": 1.0}


class Form(NamedTuple):
    """A counter register in canonical units: rollover value (`wrap`), step, largest rise per hour.

    `rate` is None where the rise is limited by power. `resolution` is None where the register does
    not tell it, `wrap` where it is unknown.
    """

    wrap: float | None = None
    resolution: float | None = None
    rate: float | None = None

    @classmethod
    def of(
        cls,
        kind: str,
        scale: float | None,
        wrap: int | None = None,
        rate: float | None = None,
    ) -> "Form":
        """From a register's type, canonical units per raw step (`scale`), raw wrap and rate.

        `scale` is None where the device can change it: then neither wrap nor step is known.
        """
        if scale is None:
            return cls(rate=rate)
        raw = wrap if wrap is not None else 2 ** _RANGE_BITS[kind] if kind in _RANGE_BITS else None
        # Rounded as values are: 2**32 steps of 0.1 are 429496729.6.
        rollover = None if raw is None else round(raw * scale, 6)
        return cls(rollover, scale if kind in _RANGE_BITS or kind in _DECIMAL_TYPES else None, rate)


def terms_of(unit: str, form: Form, max_power: float, *, is_given: bool = False) -> CounterTerms:
    """The guard's parameters for a counter. `is_given`: `max_power` is configured, no default."""
    return CounterTerms(
        max_power=form.rate or _OWN_RATES.get(unit, max_power),
        wrap=form.wrap,
        resolution=form.resolution or _OWN_STEPS.get(unit, DEFAULT_RESOLUTION),
        unit=unit,
        is_given=is_given or form.rate is not None,
        wraps=WRAPS if form.wrap is None and unit in COUNTED_UNITS else (),
    )


@dataclass(frozen=True, slots=True)
class Origin:
    """Source of a device's counters: where it changes, another counter may be read.

    `settings` are configured values by key; `registers` describe by quantity how it is read. A
    key that is missing is unknown, and no difference.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    registers: Mapping[str, str] = field(default_factory=dict)

    def differs(self, before: "Origin") -> list[str]:
        """Settings that changed, as texts."""
        previous = before.settings
        return [
            f"{key} was {previous[key]}, is {text}"
            for key, text in self.settings.items()
            if key in previous and previous[key] != text
        ]

    def rewired(self, before: "Origin") -> list[str]:
        """Quantities that are read from other registers, or with another scale."""
        previous = before.registers
        return [name for name, text in self.registers.items() if previous.get(name, text) != text]


_UNKNOWN_ORIGIN = Origin()


@dataclass(frozen=True, slots=True)
class CountersState:
    """Saved state of a device's counters: guards by quantity, the meter's identity, and origin."""

    guards: Mapping[str, GuardState] = field(default_factory=dict)
    identity: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = _UNKNOWN_ORIGIN


_EMPTY_STATE = CountersState()


class _CounterColumn(NamedTuple):
    """A counter's column index in the poll, and its guard."""

    column: int
    quantity: str
    guard: CounterGuard


class _Change(NamedTuple):
    """A guard begins to wait, or resolves its wait."""

    kind: EventKind
    quantity: str
    text: str


class Counters:
    """Guards every energy counter of one device.

    `max_power` in W; `forms` by quantity; `interval`: how often counters are read, in seconds.
    """

    __slots__ = (
        "_ahead",
        "_columns",
        "_forms",
        "_guards",
        "_held",
        "_identity",
        "_interval",
        "_last_notices",
        "_layout",
        "_link_change",
        "_max_power",
        "_origin",
        "_origin_before",
        "_pending_notices",
        "_source_layout",
        "_states",
        "device",
    )

    def __init__(
        self,
        device: str,
        *,
        max_power: float = DEFAULT_POWER,
        forms: Mapping[str, Form] | None = None,
        interval: float = DEFAULT_INTERVAL_S,
        state: CountersState | None = None,
        origin: Origin = _UNKNOWN_ORIGIN,
    ) -> None:
        self.device = device
        self._max_power = max_power
        self._forms = forms or {}
        self._interval = interval
        state = state or _EMPTY_STATE
        self._states = state.guards
        self._identity = dict(state.identity)
        self._guards: dict[str, CounterGuard] = {}
        self._source_layout: Layout | None = None
        self._layout: Layout | None = None
        self._columns: list[_CounterColumn] = []
        self._last_notices: dict[tuple[str, str], tuple[float, int]] = {}
        # Counters whose guard waits, and whether that was reported.
        self._held: dict[str, bool] = {}
        self._ahead: dict[str, bool] = {}
        self._pending_notices: list[Notice] = []
        self._origin = origin
        # Why this may be another meter; an equal serial number proves that it is not.
        self._link_change = ""
        self._compare_origin(state.origin)

    def step(self, poll: Poll, *, now: float) -> tuple[Poll, Sequence[Notice]]:
        """The poll with a `guarded.` column for each counter, and the notices.

        `now` is monotonic seconds. The quantity of a notice is the counter's own, without prefix;
        of a swap, the text or counter that revealed it. A poll that failed, or has no counters, is
        returned unchanged.
        """
        if poll.fault is not None:
            return poll, ()
        if poll.layout is not self._source_layout:
            self._set_layout(poll.layout)
        notices = (
            self._meter_notices(poll)
            if poll.info or self._link_change or self._pending_notices
            else []
        )
        if not self._columns or self._layout is None:
            return poll, notices
        totals: list[float | None] = []
        first = len(poll.values) - 1
        doubts = poll.doubts
        changes: list[_Change] = []
        for column, quantity, guard in self._columns:
            raw = _unflagged(poll, column) if poll.doubts else poll.values[column]
            step = guard.step(raw, now=now, time_ms=poll.time)
            if step.what is not _COUNTED:
                if (doubt := _doubt(step, poll.doubts.get(column))) is not None:
                    doubts = {**doubts, first + len(totals): doubt}
                notices += self._step_notice(now, quantity, step)
                self._track_wait(now, quantity, guard, step, changes)
            totals.append(step.value)
        if self._ahead:
            self._end_waits(changes)
        if changes:
            notices += _change_notices(changes)
        return _extended(poll, self._layout, totals, doubts), notices

    def state(self) -> CountersState:
        """The state to save; it keeps counters that were not read since the start."""
        current = {quantity: guard.state() for quantity, guard in self._guards.items()}
        # While it is unknown whether another meter answers, the origin before stays saved.
        origin = self._origin_before if self._link_change else self._origin
        return CountersState({**self._states, **current}, dict(self._identity), origin)

    def go_on(
        self, ended: Mapping[str, GuardState], *, swapped: bool, is_same: bool = False
    ) -> None:
        """Continue from the states `ended`, by quantity, after stored totals were recounted.

        Another meter may answer, with another serial number, unless it `is_same`. `swapped`: the
        next read is another meter's and begins a new segment.
        """
        current = self.state().guards
        changed = {
            name: state for name, state in ended.items() if not state.agrees(current.get(name))
        }
        if is_same and not changed and not swapped:
            return
        states = {**current, **changed}
        if swapped:
            states = {name: state.swapped() for name, state in states.items()}
        self._states = states
        if not is_same:
            self._identity.clear()
        self._guards.clear()
        self._held.clear()
        self._ahead.clear()
        self._source_layout = None

    def _compare_origin(self, before: Origin) -> None:
        """Start new segments for counters with another origin than `before`."""
        self._origin_before = before
        changes = self._origin.differs(before)
        link = [text for text in changes if text.startswith("link ")]
        if len(link) < len(changes):
            self._new_segments(", ".join(changes))
            return
        self._link_change = "".join(link)
        if rewired := [name for name in self._origin.rewired(before) if name in self._states]:
            self._states = {
                name: state.swapped() if name in rewired else state
                for name, state in self._states.items()
            }
            what = rewired[0] if len(rewired) == 1 else f"{len(rewired)} counters"
            self._report_swap(f"{what} read from other registers, or by another scale", rewired[0])

    def _new_segments(self, why: str) -> None:
        """Start a new segment of every counter, for the reason `why`."""
        self._link_change = ""
        if not self._states:
            return
        self._states = {name: state.swapped() for name, state in self._states.items()}
        self._held.clear()
        self._ahead.clear()
        for guard in self._guards.values():
            guard.swap()
        self._report_swap(f"this may be another counter: {why}", next(iter(self._states)))

    def _report_swap(self, what: str, quantity: str) -> None:
        text = f"{what}; a new segment, nothing is booked across"
        self._pending_notices.append(Notice(EventKind.SWAP, text, {"quantity": quantity}))

    def _set_layout(self, layout: Layout) -> None:
        self._source_layout = layout
        for quantity, unit in zip(layout.quantities, layout.units, strict=True):
            if quantity in self._forms and is_own(quantity):
                declare(quantity, unit, Kind.COUNTER)
        counters, self._layout = _with_guarded(layout)
        self._columns = [
            _CounterColumn(column, name, self._guard(name, layout.units[column]))
            for column, name in counters
        ]

    def _guard(self, quantity: str, unit: str) -> CounterGuard:
        """The quantity's guard, which outlives layouts; made at its first use."""
        if (guard := self._guards.get(quantity)) is None:
            terms = terms_of(unit, self._forms.get(quantity, Form()), self._max_power)
            guard = self._guards[quantity] = CounterGuard(
                max_power=terms.max_power,
                wrap=terms.wrap,
                resolution=terms.resolution,
                unit=unit,
                interval=self._interval,
                state=self._state_of(quantity, unit),
            )
        return guard

    def _state_of(self, quantity: str, unit: str) -> GuardState | None:
        """The saved state; an empty one where its values are above any plausible count."""
        state, count_max = self._states.get(quantity), largest_count(self._max_power)
        count = 0.0 if state is None else max(state.raw or 0.0, (state.total or 0.0) / 2)
        if state is None or unit not in COUNTED_UNITS or count <= count_max:
            return state
        text = f"the total of {state.total:g} {unit} is no count: it begins anew, a new segment"
        self._pending_notices.append(Notice(EventKind.RESET, text, {"quantity": quantity}))
        return GuardState(segment=state.segment + 1)

    def _meter_notices(self, poll: Poll) -> list[Notice]:
        """Notices about the meter itself, of this poll and from the start."""
        notices = list(self._swaps(poll))
        if self._link_change and self._columns:
            self._new_segments(self._link_change)
        notices += self._pending_notices
        self._pending_notices = []
        return notices

    def _swaps(self, poll: Poll) -> Iterator[Notice]:
        """One notice if another meter answers; all counters begin a new segment then."""
        changed_key = ""
        for key in IDENTITY:
            if not (text := poll.info.get(key, "")):
                continue
            previous = self._identity.get(key, text)
            if key in _SERIAL and key in self._identity and previous == text:
                self._link_change = ""
            if previous != text and not changed_key:
                changed_key = key
                notice_text = (
                    f"another meter answers: {key} was {previous}, is {text}; a new segment"
                )
                yield Notice(EventKind.SWAP, notice_text, {"quantity": key})
            self._identity[key] = text
        if not changed_key:
            return
        self._link_change = ""
        self._load_saved_guards()
        self._held.clear()
        self._ahead.clear()
        for guard in self._guards.values():
            guard.swap()

    def _load_saved_guards(self) -> None:
        """Make guards of saved counters that were not read yet, so that they are swapped, too."""
        for quantity in self._states:
            if (description := describe(quantity)) is not None:
                self._guard(quantity, description.unit)

    def _step_notice(self, now: float, quantity: str, step: Step) -> Iterator[Notice]:
        """The notice of a step, unless the same was given within NOTICE_INTERVAL_S."""
        if step.what in _EVENTS and (
            text := self._rate_limited(now, quantity, step.what, step.text)
        ):
            yield Notice(_EVENTS[step.what], text, {"quantity": quantity})

    def _rate_limited(self, now: float, quantity: str, what: GuardOutcome, text: str) -> str:
        """The text of a notice; empty within NOTICE_INTERVAL_S of the same one, which it counts."""
        key = (quantity, what.value)
        since, repeats = self._last_notices.get(key, (-NOTICE_INTERVAL_S, 0))
        if now - since < NOTICE_INTERVAL_S:
            self._last_notices[key] = (since, repeats + 1)
            return ""
        self._last_notices[key] = (now, 0)
        return f"{text} (and {repeats} times more since the last word)" if repeats else text

    def _track_wait(
        self, now: float, quantity: str, guard: CounterGuard, step: Step, changes: list[_Change]
    ) -> None:
        """Add a change where a guard begins to wait (for agreeing reads, or for its counter).

        The end of a wait is a change only if suspects were confirmed; otherwise the step itself is
        an event, or the guard continues unchanged.
        """
        waits = EventKind.GUARD_WAITS
        if step.what is GuardOutcome.WAITS:
            if quantity not in self._ahead:
                text = self._rate_limited(now, quantity, step.what, step.text)
                self._ahead[quantity] = bool(text)
                changes += [_Change(waits, quantity, text)] if text else []
        elif step.what in _HOLDS:
            if guard.has_raw and quantity not in self._held:
                text = self._rate_limited(now, quantity, GuardOutcome.HELD, step.text)
                self._held[quantity] = bool(text)
                changes += [_Change(waits, quantity, text)] if text else []
        elif step.what is not GuardOutcome.ABSENT:
            reported = self._held.pop(quantity, False)
            if reported and step.what is GuardOutcome.CONFIRMED:
                changes.append(_Change(EventKind.GUARD_RESOLVED, quantity, step.text))

    def _end_waits(self, changes: list[_Change]) -> None:
        """Add a change for each counter that has reached its total again."""
        for quantity in [q for q in self._ahead if not self._guards[q].is_ahead]:
            if self._ahead.pop(quantity):
                text = "the counter has reached what was counted"
                changes.append(_Change(EventKind.GUARD_RESOLVED, quantity, text))


def _change_notices(changes: Sequence[_Change]) -> Iterator[Notice]:
    """One notice per kind: after an outage all counters of a meter wait at once."""
    for kind in (EventKind.GUARD_WAITS, EventKind.GUARD_RESOLVED):
        same_kind = [change for change in changes if change.kind is kind]
        if len(same_kind) == 1:
            yield Notice(kind, same_kind[0].text, {"quantity": same_kind[0].quantity})
        elif same_kind:
            names = [change.quantity for change in same_kind]
            text = f"{len(same_kind)} counters, {', '.join(names)}; the first: {same_kind[0].text}"
            yield Notice(kind, text, {"quantities": " ".join(names)})


def is_guarded(quantity: str, unit: str) -> bool:
    """Whether the quantity gets a guarded total: energy counters and users' own counters do."""
    if quantity.startswith(GUARDED) or not (unit in COUNTED_UNITS or is_own(quantity)):
        return False
    description = describe(quantity, unit)
    return description is not None and description.kind is Kind.COUNTER


@lru_cache(maxsize=_LAYOUTS_CACHED_MAX)
def _with_guarded(layout: Layout) -> tuple[Sequence[tuple[int, str]], Layout]:
    """Column indexes and names of the counters, and the layout with their guarded columns."""
    pairs = list(zip(layout.quantities, layout.units, strict=True))
    counters = [(i, name) for i, (name, unit) in enumerate(pairs) if is_guarded(name, unit)]
    extra = [(GUARDED + name, layout.units[column]) for column, name in counters]
    return counters, Layout.of([*pairs[:-1], *extra, pairs[-1]])


def _unflagged(poll: Poll, index: int) -> float | None:
    """The value for the guard: None if it is flagged, unless as estimated by the meter itself."""
    doubt = poll.doubts.get(index)
    if doubt is not None and doubt.quality is not Quality.ESTIMATED:
        return None
    return poll.values[index]


def _doubt(step: Step, of_raw: QualityFlag | None) -> QualityFlag | None:
    quality = _OUTCOME_QUALITY.get(step.what)
    if quality is None:
        return None
    return (
        of_raw
        if step.what is GuardOutcome.ABSENT and of_raw is not None
        else QualityFlag(quality, step.text)
    )


def _extended(
    poll: Poll, layout: Layout, totals: Sequence[float | None], doubts: Mapping[int, QualityFlag]
) -> Poll:
    # The last column stays `device.up`, which is never flagged.
    values: Sequence[float | None]
    if isinstance(poll.values, array) and None not in totals:
        values = poll.values[:-1]
        values.extend(totals)
        values.append(poll.values[-1])
    else:
        values = (*poll.values[:-1], *totals, poll.values[-1])
    return Poll(poll.device, poll.time, layout, values, doubts, poll.info, None, poll.took)
