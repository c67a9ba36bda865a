"""A meter that took the place of another: one history, and nothing is booked across."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from meterd.daemon.memory import CounterMemory
from meterd.daemon.recount import Recounted, recount
from meterd.errors import MeterdError
from meterd.model.quantity import GUARDED
from meterd.store import replacements
from meterd.store.asked import SeriesInfo
from meterd.store.reader import Reader
from meterd.store.replacements import Replacement
from meterd.store.writer import Writer


@dataclass(frozen=True, slots=True)
class Replaced:
    """What came of it: guarded totals that are others now, and what was noticed on the way."""

    written: int
    events: tuple[str, ...]


async def replace_meter(
    writer: Writer,
    reader: Reader,
    memory: CounterMemory,
    device: str,
    one: Replacement,
    *,
    still: AbstractAsyncContextManager[None],
    undo: bool = False,
) -> Replaced:
    """From `one.at` on the device's counters are another meter's, or are not after all (`undo`).

    Its guarded totals since then are counted anew, and `memory` knows where they stand. While
    `still` is entered the device is not polled. Raises MeterdError (unknown_device,
    not_replaced), StoreError.
    """
    infos = await asyncio.to_thread(reader.names)
    mine = [info for info in infos if info.device == device]
    if not mine:
        raise MeterdError(f"the store has no device {device}", code="unknown_device")
    first = min((info.first for info in mine if _counts(info)), default=None)
    if first is None:
        raise MeterdError(f"{device} has no counter in the store", code="not_replaced")
    if one.at <= first and not undo:
        text = f"{device} has no counter from before that time: there is nothing to separate"
        raise MeterdError(text, code="not_replaced")
    await writer.flush()
    if not undo:
        await writer.do(partial(replacements.add, device=device, one=one))
    elif not await writer.do(partial(replacements.remove, device=device, at=one.at)):
        raise MeterdError(f"{device} was not replaced at that time", code="not_replaced")
    told = await count_anew(
        writer, reader, memory, device, one.at, one.made, still=still, is_next=not undo
    )
    texts = dict.fromkeys(f"{event.quantity}: {event.text}" for event in told.events)
    return Replaced(told.written, tuple(texts))


async def count_anew(
    writer: Writer,
    reader: Reader,
    memory: CounterMemory,
    device: str,
    start: int,
    now: int,
    *,
    still: AbstractAsyncContextManager[None],
    is_next: bool = False,
) -> Recounted:
    """The guarded totals since `start` (Unix ms), and where live polls go on.

    `is_next`: where nothing was read since then, the next read is another meter's. Raises
    StoreError.
    """
    told = await recount(writer, reader, device, start, now)
    async with still:
        # What was polled meanwhile: little, so that the next poll is not held up for long.
        await writer.flush()
        infos = await asyncio.to_thread(reader.names)
        counted = (info.last for info in infos if info.device == device and _counts(info))
        last, since = max(counted, default=0), max(start, now)
        again = await recount(writer, reader, device, since, max(last, since))
        ended = {**told.ended, **again.ended}
        memory.go_on(device, writer, ended, swapped=is_next and last < start)
    memory.save(writer)
    await writer.settle()
    told.written += again.written
    return told


def _counts(info: SeriesInfo) -> bool:
    return info.quantity.startswith(GUARDED)
