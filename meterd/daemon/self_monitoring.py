"""Self-monitoring: quantities of the device `meterd`, and alert rules about it."""

from collections.abc import Iterable

from meterd.alerts.rule import Rule
from meterd.model.sample import Layout, Poll
from meterd.store.writer import WriterStatus

DEVICE = "meterd"
WRITABLE = "x.store.writable"
RULE = "store-not-writable"
# A moment's lock is no reason to wake anybody; two failed commits are.
_HOLD = 60.0

_LAYOUT = Layout.of(
    [
        (WRITABLE, "1"),
        ("x.store.queued", "1"),
        ("x.store.spooled", "1"),
        ("x.store.dropped", "1"),
        ("x.store.set_aside", "1"),
    ]
)

QUANTITIES = frozenset(_LAYOUT.quantities)


def health(status: WriterStatus, time: int) -> Poll:
    """How the store fares at `time` (Unix ms), for the alerts alone; own rules may watch it."""
    counts = status.queued, status.spooled, status.dropped, status.set_aside
    return Poll(DEVICE, time, _LAYOUT, (float(status.writable), *map(float, counts)))


def rules(hooks: Iterable[str]) -> list[Rule]:
    """The built-in rules on meterd itself, which notify every hook."""
    told = tuple(hooks)
    return [
        Rule(
            name=RULE,
            quantity=WRITABLE,
            device=(DEVICE,),
            equals=0.0,
            hold=_HOLD,
            severity="critical",
            notify=told,
            text="the store cannot be written: polls wait in memory, then in the spool",
        ),
        Rule(
            name="store-set-aside",
            quantity="x.store.set_aside",
            device=(DEVICE,),
            above=0.0,
            severity="critical",
            notify=told,
            text="the store's file was damaged: it was put aside, and a new one begun",
        ),
    ]
