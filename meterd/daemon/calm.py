"""The interpreter, told that this process keeps its objects for weeks and must not wait."""

import gc
import sys

from meterd.model.clock import Clock

# Seconds after which connections, plans and the first polls are there.
SETTLED = 15.0
# Objects made and not yet freed at which the young ones are looked at. CPython's 700 are fewer than
# fifty polls in flight have, so that it would look at each slot, and find nothing.
_YOUNG = 5000
# Seconds for which another thread may keep the interpreter when the event loop wants it. The store
# encodes for a second at a time, and each poll asks for the interpreter several times.
_SWITCH = 0.0005


async def settle(clock: Clock) -> None:
    """After a start or a reload: wait, then take what is there for something that stays.

    The collector walks it no more: at a thousand meters that is a stop of 0.2 s each few seconds.
    """
    sys.setswitchinterval(_SWITCH)
    gc.unfreeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
    await clock.sleep(SETTLED)
    gc.freeze()
