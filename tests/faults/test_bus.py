"""One unit of a bus misbehaves in every way: no wrong value, and the others do not feel it."""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

import pytest

from meterd.wire.link import Times
from tests.faults.rig import INTERVAL, SLACK, TIMEOUT, VICTIM, WIRES, Line, line
from tests.virtual import virtual

NEIGHBOURS = (2, 3, 4)
# What follows a broken exchange on wires without ids: silence is waited for, then a fence is asked.
AFTERMATH = 4 * TIMEOUT
_LATE = f"late@{TIMEOUT * 1.5 * 1000:g}ms"
# Longer than the timeout, but over before the next turn: the wire itself is taken meanwhile.
_DRIBBLE = f"dribble@{TIMEOUT / 10 * 1000:g}ms"
_WIRES_OF = {"connection": ("socket", "rtu")}


@dataclass(frozen=True)
class Case:
    """A fault, what it is counted as (one of these), and whether the poll succeeds all the same."""

    fault: str
    counted: tuple[str, ...]
    masked: bool = False
    wires: tuple[str, ...] = WIRES

    @property
    def name(self) -> str:
        return self.fault.partition("@")[0].replace(":", "_")


CASES = {
    "silence": [Case("timeout", ("timeout",)), Case(_LATE, ("late_own",))],
    "cut_short": [
        Case("truncate", ("timeout",)),
        Case(_DRIBBLE, ("timeout",)),
    ],
    "someone_else": [
        Case("wrong_unit", ("wrong_unit",)),
        Case("wrong_tid", ("foreign_tid",), wires=("socket",)),
        Case("zero_tid", ("foreign_tid",), wires=("socket",)),
        Case("extra", ("wrong_unit", "foreign_tid", "late_own", "wrong_count"), masked=True),
        Case("duplicate", ("foreign_tid",), masked=True, wires=("socket",)),
        Case("duplicate", ("two_replies",), wires=("rtu", "pty")),
    ],
    "nonsense": [
        Case("wrong_function", ("wrong_function",)),
        Case("wrong_count", ("wrong_count",)),
        # Without an id a lying length is only seen as a frame that never ends.
        Case("lying_count", ("wrong_count", "noise", "timeout")),
        Case("garbage", ("bad_frame", "noise")),
    ],
    "refusals": [Case(f"exception:{code}", ()) for code in (4, 7, 8, 9, 10, 11, 66)],
    "connection": [
        Case("close", ("closed",), wires=("socket", "rtu")),
        Case("reset", ("closed",), wires=("socket", "rtu")),
    ],
}
# What costs the bus no time: neighbours do not wait for it.
_PROMPT = ("refusals", "connection")
# The simulator takes 20 ms to reset a connection in the middle of a reply.
_TIMES = {"connection": Times(timeout=0.1)}


async def strike(bus: Line, case: Case) -> float:
    """Two polls in order, three struck by the fault; then how long it takes to be well again."""
    await bus.polled(VICTIM, 2)
    bus.spoil(case.fault)
    struck = await bus.polled(VICTIM, 3)
    bus.spoil("")
    assert any(not poll.up for poll in struck) is not case.masked, (case.name, struck)
    return await bus.until(VICTIM, up=True)


@pytest.mark.parametrize(
    ("theme", "wire"),
    [pytest.param(theme, wire) for theme in CASES for wire in _WIRES_OF.get(theme, WIRES)],
)
@virtual
async def test_one_unit_misbehaves_and_is_back_within_one_interval(
    theme: str, wire: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cases = [case for case in CASES[theme] if wire in case.wires]
    async with contextlib.AsyncExitStack() as stack:
        with caplog.at_level(logging.INFO):
            lines = [
                await stack.enter_async_context(
                    line(tmp_path, wire, name=case.name, times=_TIMES.get(theme))
                )
                for case in cases
            ]
            recovered = await asyncio.gather(*map(strike, lines, cases))
            await asyncio.gather(*(bus.polled(2, 2) for bus in lines))
    found: list[str] = []
    for case, bus, seconds in zip(cases, lines, recovered, strict=True):
        told = [r.getMessage() for r in caplog.records if r.getMessage().startswith(bus.name + "-")]
        late = SLACK if theme in _PROMPT else TIMEOUT + SLACK
        # Silence is waited for here, and a reply that dribbles in takes the wire from all.
        if wire != "socket" or case.fault == _DRIBBLE:
            late = AFTERMATH + SLACK
        found += [f"{case.name}: {text}" for text in complaints(case, bus, seconds, told, late)]
    assert found == []


def complaints(case: Case, bus: Line, seconds: float, told: list[str], late: float) -> list[str]:
    """Which pass marks were missed; `late` is by how much the neighbours' turns may be."""
    counters = bus.link.counters
    checks = {
        f"wrong values: {bus.wrong[:3]}": not bus.wrong,
        f"back only after {seconds:.2f} s": seconds < INTERVAL + AFTERMATH + SLACK,
        f"not counted by its cause: {dict(counters)}": not case.counted
        or any(counters[cause] for cause in case.counted),
        f"{bus.bus.skipped} turns skipped": bus.bus.skipped == 0,
        f"said {told}": len(told) == (0 if case.masked else 2),
    }
    if case.fault in ("exception:10", "exception:11"):
        checks["a reconnect"] = counters["opened"] == 1
    return [text for text, good in checks.items() if not good] + bus.harm(NEIGHBOURS, late=late)
