"""One way to change what runs: every part prepares what it will be, then all of it is put in use.

Start, reload and stop are `prepared`, then `committed`. A part prepares without touching what is in
use; where one cannot, the others put away what they prepared, and what runs goes on as it was. A
resource that old and new need both (the lock of a store's file, a port, a link) is taken over,
never closed and opened again, so that a commit has no step that is expected to fail. Not so a
store on a server under other credentials: it waits for its lock while polls are kept in memory.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

from meterd.config.settings import Settings

log = logging.getLogger(__name__)


class PreparedChange(Protocol):
    """What one part has prepared."""

    async def commit(self) -> None:
        """Puts the new in the place of the old, which still waits for its end."""

    async def retire(self) -> None:
        """Ends what was replaced, after the new is in use."""

    async def abandon(self) -> None:
        """In place of commit and retire: discards what was prepared."""


class ReloadPart(Protocol):
    """Something that settings describe."""

    async def prepare(self, settings: Settings | None) -> PreparedChange:
        """What `settings` ask for, ready and not in use; None asks for nothing at all.

        Raises MeterdError where it cannot be, or is cancelled; it has closed what it opened then.
        """


class Unchanged:
    """Of a part that settings do not touch, or that has nothing to do at one of the steps."""

    async def commit(self) -> None: ...

    async def retire(self) -> None: ...

    async def abandon(self) -> None: ...


async def prepared(parts: Sequence[ReloadPart], settings: Settings | None) -> list[PreparedChange]:
    """The prepared changes of all parts, in order; where one raises, those before it are
    abandoned.
    """
    changes: list[PreparedChange] = []
    try:
        for part in parts:
            change = await part.prepare(settings)
            changes.append(change)
    except BaseException:
        await to_the_end(abandoned(changes))
        raise
    return changes


async def abandoned(changes: Sequence[PreparedChange]) -> None:
    for change in reversed(changes):
        await contained(change.abandon)


async def committed(changes: Sequence[PreparedChange]) -> None:
    """Commits the changes in order, then retires in the opposite order. Never raises."""
    for change in changes:
        await contained(change.commit)
    for change in reversed(changes):
        await contained(change.retire)


async def contained(step: Callable[[], Awaitable[None]]) -> None:
    """Logs a bug in one step, so that the following steps are done."""
    try:
        await step()
    except Exception:
        log.exception("a step of the change failed: a bug")


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Runs it to its end, also where the caller is cancelled; the cancellation is raised
    afterwards.
    """
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            cancelled = True
    await task
    if cancelled:
        raise asyncio.CancelledError
