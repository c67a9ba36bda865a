"""Runs work to its end, also where the client goes away."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from meterd.api.problem import ApiRefusal
from meterd.api.problem_code import ProblemCode

# The store's files are put in order first, which takes as long as what they hold; a year of a
# sample a second is marked in less.
DEADLINE_S = 300.0

_T = TypeVar("_T")

log = logging.getLogger("meterd.api")


async def unbroken(work: Coroutine[Any, Any, _T], see: str) -> _T:
    """The result of the work, which goes on where the client goes away.

    `see` says where to look for what takes too long. Raises ApiRefusal (503) for that, and what the
    work raises.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait((task,), timeout=DEADLINE_S)
    except asyncio.CancelledError:
        task.add_done_callback(_unheard)
        raise
    if not task.done():
        task.add_done_callback(_unheard)
        detail = f"it takes longer than {DEADLINE_S:g} s and goes on: see {see}"
        raise ApiRefusal(503, ProblemCode.SLOW, detail, headers={"Retry-After": "60"})
    return task.result()


def _unheard(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("a change failed after its client had gone: %s", error)
