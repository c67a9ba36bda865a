"""The guarded counters of one device: which columns they add to a poll, and what they noticed."""

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
    DEFAULT_POWER,
    DEFAULT_RESOLUTION,
    INTERVAL,
    CounterGuard,
    largest_count,
)
from meterd.poll.counter_replay import WRAPS, CounterTerms
from meterd.poll.counter_segments import GuardState, Step, What

# What tells one meter from another. A constant that is set to another value would belong here.
IDENTITY = ("info.serial_number", "info.model")
_SERIAL = IDENTITY[:1]
# Seconds in which the same thing about the same counter is said once.
QUIET = 600.0

# Values of the integer types, from 0 on, before they start again.
_WRAPS = {"u16": 16, "s16": 15, "u32": 32, "s32": 31, "u48": 48, "s48": 47, "u64": 64, "s64": 63}
_DECIMAL = ("bcd", "m10k")
_DOUBTS = {
    What.HELD: Quality.SUSPECT,
    What.STUCK: Quality.SUSPECT,
    What.WAITS: Quality.ESTIMATED,
    What.ABSENT: Quality.INVALID,
}
_COUNTED = What.COUNTED
_HOLDS = (What.HELD, What.STUCK)
_EVENTS = {
    What.ROLLOVER: EventKind.ROLLOVER,
    What.RESET: EventKind.RESET,
    What.GLITCH: EventKind.GLITCH,
    What.STUCK: EventKind.STUCK,
}
# A site has a few layouts for each model of device that it polls; equal ones become one.
_MOST_LAYOUTS = 2000


# The most that a user's own counter rises by in an hour, and the step of one whose register does
# not tell it, by unit: ten times what the mains of a large house or a pulse output can give.
_OWN_RATES = {"J": DEFAULT_POWER * 3600, "m³": 1e3, "l": 1e6, "1": 3.6e6}
_OWN_STEPS = {"J": DEFAULT_RESOLUTION * 3600, "m³": 1.0, "l": 1e3, "1": 1.0}


class Form(NamedTuple):
    """How a register counts, in canonical units: where it starts again, and by which steps.

    `rate` is the most that it rises by in an hour, where that is not a matter of power.
    `resolution` is None where the register does not tell it.
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
        """From a register's type, canonical units per raw step, raw wrap and rate if given.

        `scale` is None where the device can change it: then neither wrap nor step is known.
        """
        if scale is None:
            return cls(rate=rate)
        raw = wrap if wrap is not None else 2 ** _WRAPS[kind] if kind in _WRAPS else None
        # Six digits, as values have: 2**32 steps of 0.1 are 429496729.6.
        around = None if raw is None else round(raw * scale, 6)
        return cls(around, scale if kind in _WRAPS or kind in _DECIMAL else None, rate)


def terms_of(unit: str, form: Form, max_power: float, *, is_told: bool = False) -> CounterTerms:
    """How a counter counts. `is_told`: somebody said `max_power`."""
    return CounterTerms(
        max_power=form.rate or _OWN_RATES.get(unit, max_power),
        wrap=form.wrap,
        resolution=form.resolution or _OWN_STEPS.get(unit, DEFAULT_RESOLUTION),
        unit=unit,
        is_told=is_told or form.rate is not None,
        wraps=WRAPS if form.wrap is None and unit in COUNTED_UNITS else (),
    )


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the counters of a device come from: what is another there counts something else.

    `settings` are the words of the configuration, by key; `registers` tell how each quantity is
    read. What is empty is not known, and differs from nothing.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    registers: Mapping[str, str] = field(default_factory=dict)

    def differs(self, before: "Origin") -> list[str]:
        """What of the settings is another than before, as sentences."""
        was = before.settings
        return [
            f"{key} was {was[key]}, is {text}"
            for key, text in self.settings.items()
            if key in was and was[key] != text
        ]

    def rewired(self, before: "Origin") -> list[str]:
        """The quantities that come from other registers, or by another scale."""
        was = before.registers
        return [name for name, text in self.registers.items() if was.get(name, text) != text]


_NOWHERE = Origin()


@dataclass(frozen=True, slots=True)
class CountersState:
    """What a restart needs to know of one device: by quantity, what identifies it, and where its
    counters came from."""

    guards: Mapping[str, GuardState] = field(default_factory=dict)
    identity: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = _NOWHERE


_UNKNOWN = CountersState()


class _CounterColumn(NamedTuple):
    """Where a counter is in the poll, and who guards it."""

    place: int
    quantity: str
    guard: CounterGuard


class _Change(NamedTuple):
    """A guard begins to wait, or goes on."""

    kind: EventKind
    quantity: str
    text: str


class Counters:
    """Guards every energy counter of one device.

    `max_power` in W; `forms` by quantity; `interval`: how often counters are read, in seconds.
    """

    __slots__ = (
        "_ahead",
        "_before",
        "_columns",
        "_forms",
        "_guards",
        "_held",
        "_identity",
        "_interval",
        "_known",
        "_layout",
        "_max_power",
        "_moved",
        "_origin",
        "_said",
        "_states",
        "_unread",
        "device",
    )

    def __init__(
        self,
        device: str,
        *,
        max_power: float = DEFAULT_POWER,
        forms: Mapping[str, Form] | None = None,
        interval: float = INTERVAL,
        state: CountersState | None = None,
        origin: Origin = _NOWHERE,
    ) -> None:
        self.device = device
        self._max_power = max_power
        self._forms = forms or {}
        self._interval = interval
        state = state or _UNKNOWN
        self._states = state.guards
        self._identity = dict(state.identity)
        self._guards: dict[str, CounterGuard] = {}
        self._known: Layout | None = None
        self._layout: Layout | None = None
        self._columns: list[_CounterColumn] = []
        self._said: dict[tuple[str, str], tuple[float, int]] = {}
        # Counters whose guard waits, and whether that was told.
        self._held: dict[str, bool] = {}
        self._ahead: dict[str, bool] = {}
        self._unread: list[Notice] = []
        self._origin = origin
        # Why this may be another meter: a serial number can still say that it is not.
        self._moved = ""
        self._compare(state.origin)

    def step(self, poll: Poll, *, now: float) -> tuple[Poll, Sequence[Notice]]:
        """The poll with a `guarded.` column for each counter, and what was noticed.

        `now` is monotonic seconds. The quantity of a notice is the counter's own, without prefix;
        of a swap, what gave it away. A poll that failed, or has no counters, comes back as it is.
        """
        if poll.fault is not None:
            return poll, ()
        if poll.layout is not self._known:
            self._learn(poll.layout)
        notices = self._news(poll) if poll.info or self._moved or self._unread else []
        if not self._columns or self._layout is None:
            return poll, notices
        totals: list[float | None] = []
        first = len(poll.values) - 1
        doubts = poll.doubts
        changes: list[_Change] = []
        for place, quantity, guard in self._columns:
            raw = _trusted(poll, place) if poll.doubts else poll.values[place]
            step = guard.step(raw, now=now, time_ms=poll.time)
            if step.what is not _COUNTED:
                if (doubt := _doubt(step, poll.doubts.get(place))) is not None:
                    doubts = {**doubts, first + len(totals): doubt}
                notices += self._noticed(now, quantity, step)
                self._await(now, quantity, guard, step, changes)
            totals.append(step.value)
        if self._ahead:
            self._caught_up(changes)
        if changes:
            notices += _told_of(changes)
        return _extended(poll, self._layout, totals, doubts), notices

    def state(self) -> CountersState:
        """For the next start; counters that were not seen since the last one are kept."""
        fresh = {quantity: guard.state() for quantity, guard in self._guards.items()}
        # A link that may lead to another meter counts as it was until that is known.
        origin = self._before if self._moved else self._origin
        return CountersState({**self._states, **fresh}, dict(self._identity), origin)

    def go_on(
        self, ended: Mapping[str, GuardState], *, swapped: bool, is_same: bool = False
    ) -> None:
        """Counters stand elsewhere now, by quantity: what was stored of them was counted anew.

        Another meter may answer, with another serial number, unless it `is_same`. `swapped`: it is
        read next, and begins a new segment then.
        """
        known = self.state().guards
        moved = {name: state for name, state in ended.items() if not state.agrees(known.get(name))}
        if is_same and not moved and not swapped:
            return
        states = {**known, **moved}
        if swapped:
            states = {name: state.swapped() for name, state in states.items()}
        self._states = states
        if not is_same:
            self._identity.clear()
        self._guards.clear()
        self._held.clear()
        self._ahead.clear()
        self._known = None

    def _compare(self, before: Origin) -> None:
        """Begins a new segment of what is read from elsewhere, or in another way, than before."""
        self._before = before
        changes = self._origin.differs(before)
        link = [text for text in changes if text.startswith("link ")]
        if len(link) < len(changes):
            self._renew(", ".join(changes))
            return
        self._moved = "".join(link)
        if rewired := [name for name in self._origin.rewired(before) if name in self._states]:
            self._states = {
                name: state.swapped() if name in rewired else state
                for name, state in self._states.items()
            }
            what = rewired[0] if len(rewired) == 1 else f"{len(rewired)} counters"
            self._tell_swap(f"{what} read from other registers, or by another scale", rewired[0])

    def _renew(self, why: str) -> None:
        """Another meter, or another view of it: every counter begins a new segment."""
        self._moved = ""
        if not self._states:
            return
        self._states = {name: state.swapped() for name, state in self._states.items()}
        self._held.clear()
        self._ahead.clear()
        for guard in self._guards.values():
            guard.swap()
        self._tell_swap(f"this may be another counter: {why}", next(iter(self._states)))

    def _tell_swap(self, what: str, quantity: str) -> None:
        text = f"{what}; a new segment, nothing is booked across"
        self._unread.append(Notice(EventKind.SWAP, text, {"quantity": quantity}))

    def _learn(self, layout: Layout) -> None:
        self._known = layout
        for quantity, unit in zip(layout.quantities, layout.units, strict=True):
            if quantity in self._forms and is_own(quantity):
                declare(quantity, unit, Kind.COUNTER)
        counted, self._layout = _counted(layout)
        self._columns = [
            _CounterColumn(place, name, self._guard(name, layout.units[place]))
            for place, name in counted
        ]

    def _guard(self, quantity: str, unit: str) -> CounterGuard:
        """The quantity's guard: layouts may come and go, it stays."""
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
        """What was remembered; nothing where a wrong value got into it before there was a limit."""
        state, most = self._states.get(quantity), largest_count(self._max_power)
        largest = 0.0 if state is None else max(state.raw or 0.0, (state.total or 0.0) / 2)
        if state is None or unit not in COUNTED_UNITS or largest <= most:
            return state
        text = f"the total of {state.total:g} {unit} is no count: it begins anew, a new segment"
        self._unread.append(Notice(EventKind.RESET, text, {"quantity": quantity}))
        return GuardState(segment=state.segment + 1)

    def _news(self, poll: Poll) -> list[Notice]:
        """What became known of the meter itself, now or at the start."""
        notices = list(self._swaps(poll))
        if self._moved and self._columns:
            self._renew(self._moved)
        notices += self._unread
        self._unread = []
        return notices

    def _swaps(self, poll: Poll) -> Iterator[Notice]:
        """One notice where another meter answers; all counters begin a new segment then."""
        changed = ""
        for key in IDENTITY:
            if not (text := poll.info.get(key, "")):
                continue
            known = self._identity.get(key, text)
            if key in _SERIAL and key in self._identity and known == text:
                self._moved = ""
            if known != text and not changed:
                changed = key
                what = f"another meter answers: {key} was {known}, is {text}; a new segment"
                yield Notice(EventKind.SWAP, what, {"quantity": key})
            self._identity[key] = text
        if not changed:
            return
        self._moved = ""
        self._revive()
        self._held.clear()
        self._ahead.clear()
        for guard in self._guards.values():
            guard.swap()

    def _revive(self) -> None:
        """Counters that were saved but have not been read yet: they are swapped as well."""
        for quantity in self._states:
            if (known := describe(quantity)) is not None:
                self._guard(quantity, known.unit)

    def _noticed(self, now: float, quantity: str, step: Step) -> Iterator[Notice]:
        """A notice, unless the same was said a moment ago: then it is counted."""
        if step.what in _EVENTS and (text := self._word(now, quantity, step.what, step.text)):
            yield Notice(_EVENTS[step.what], text, {"quantity": quantity})

    def _word(self, now: float, quantity: str, what: What, text: str) -> str:
        """The text; empty where the same was said a moment ago, and is only counted."""
        key = (quantity, what.value)
        since, more = self._said.get(key, (-QUIET, 0))
        if now - since < QUIET:
            self._said[key] = (since, more + 1)
            return ""
        self._said[key] = (now, 0)
        return f"{text} (and {more} times more since the last word)" if more else text

    def _await(
        self, now: float, quantity: str, guard: CounterGuard, step: Step, changes: list[_Change]
    ) -> None:
        """Note where a guard begins to wait: for reads that agree, or for its counter.

        What ends a wait is an event of its own, unless the guard just goes on.
        """
        waits = EventKind.GUARD_WAITS
        if step.what is What.WAITS:
            if quantity not in self._ahead:
                text = self._word(now, quantity, step.what, step.text)
                self._ahead[quantity] = bool(text)
                changes += [_Change(waits, quantity, text)] if text else []
        elif step.what in _HOLDS:
            if guard.begun and quantity not in self._held:
                text = self._word(now, quantity, What.HELD, step.text)
                self._held[quantity] = bool(text)
                changes += [_Change(waits, quantity, text)] if text else []
        elif step.what is not What.ABSENT:
            told = self._held.pop(quantity, False)
            if told and step.what is What.CONFIRMED:
                changes.append(_Change(EventKind.GUARD_RESOLVED, quantity, step.text))

    def _caught_up(self, changes: list[_Change]) -> None:
        """Counters that have reached their totals again."""
        for quantity in [q for q in self._ahead if not self._guards[q].is_ahead]:
            if self._ahead.pop(quantity):
                text = "the counter has reached what was counted"
                changes.append(_Change(EventKind.GUARD_RESOLVED, quantity, text))


def _told_of(changes: Sequence[_Change]) -> Iterator[Notice]:
    """One notice of each kind: after an outage all counters of a meter wait at once."""
    for kind in (EventKind.GUARD_WAITS, EventKind.GUARD_RESOLVED):
        mine = [change for change in changes if change.kind is kind]
        if len(mine) == 1:
            yield Notice(kind, mine[0].text, {"quantity": mine[0].quantity})
        elif mine:
            names = [change.quantity for change in mine]
            text = f"{len(mine)} counters, {', '.join(names)}; the first: {mine[0].text}"
            yield Notice(kind, text, {"quantities": " ".join(names)})


def is_guarded(quantity: str, unit: str) -> bool:
    """Whether it is an energy or a user's own counter: then a guarded total stands beside it."""
    if quantity.startswith(GUARDED) or not (unit in COUNTED_UNITS or is_own(quantity)):
        return False
    known = describe(quantity, unit)
    return known is not None and known.kind is Kind.COUNTER


@lru_cache(maxsize=_MOST_LAYOUTS)
def _counted(layout: Layout) -> tuple[Sequence[tuple[int, str]], Layout]:
    """The counters' places and names, and the layout with their guarded columns."""
    pairs = list(zip(layout.quantities, layout.units, strict=True))
    counted = [(i, name) for i, (name, unit) in enumerate(pairs) if is_guarded(name, unit)]
    extra = [(GUARDED + name, layout.units[place]) for place, name in counted]
    return counted, Layout.of([*pairs[:-1], *extra, pairs[-1]])


def _trusted(poll: Poll, index: int) -> float | None:
    """A value that is doubted already is none to count by; an estimated one is the meter's own."""
    doubt = poll.doubts.get(index)
    if doubt is not None and doubt.quality is not Quality.ESTIMATED:
        return None
    return poll.values[index]


def _doubt(step: Step, of_raw: QualityFlag | None) -> QualityFlag | None:
    quality = _DOUBTS.get(step.what)
    if quality is None:
        return None
    return (
        of_raw
        if step.what is What.ABSENT and of_raw is not None
        else QualityFlag(quality, step.text)
    )


def _extended(
    poll: Poll, layout: Layout, totals: Sequence[float | None], doubts: Mapping[int, QualityFlag]
) -> Poll:
    # The last column stays `device.up`, which is never in doubt.
    values: Sequence[float | None]
    if isinstance(poll.values, array) and None not in totals:
        values = poll.values[:-1]
        values.extend(totals)
        values.append(poll.values[-1])
    else:
        values = (*poll.values[:-1], *totals, poll.values[-1])
    return Poll(poll.device, poll.time, layout, values, doubts, poll.info, None, poll.took)
