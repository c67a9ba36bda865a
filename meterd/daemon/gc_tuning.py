"""Tuning of the interpreter and of malloc for a process that runs for months."""

import asyncio
import ctypes
import gc
import sys
from collections.abc import Callable

from meterd.model.clock import Clock

# Seconds after which connections, plans and the first polls are there.
SETTLED = 15.0
# Objects made and not yet freed at which the young ones are looked at. CPython's 700 are fewer than
# fifty polls in flight have, so that it would look at each slot, and find nothing.
_YOUNG = 5000
# Seconds for which another thread may keep the interpreter when the event loop wants it. The store
# encodes for a second at a time, and each poll asks for the interpreter several times.
_SWITCH = 0.0005
# Seconds between two looks for free pages. Polls in memory grow and are freed among things that
# stay; what lies free between these is not given back by itself: 30 MiB at 50 meters each second.
TRIM = 60.0


async def settle(clock: Clock) -> None:
    """After a start or a reload: waits, then freezes all objects, which are taken for long-lived.

    The collector walks it no more: at a thousand meters that is a stop of 0.2 s each few seconds.
    """
    sys.setswitchinterval(_SWITCH)
    gc.unfreeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
    await clock.sleep(SETTLED)
    gc.freeze()


async def trim(clock: Clock) -> None:
    """Each minute, give free pages of the heap back to the system; returns where none can be.

    A look takes 5 ms, and up to 0.1 s after an hour was sealed, in a thread of its own.
    """
    give_back = _malloc_trim()
    while give_back is not None:
        await clock.sleep(TRIM)
        await asyncio.to_thread(give_back, 0)


def _malloc_trim() -> Callable[[int], int] | None:
    """malloc_trim(3) of glibc. Other C libraries have none."""
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found
