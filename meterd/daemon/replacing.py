"""Meter replacement: one device goes on with another meter, without consumption between both."""

import asyncio
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from meterd.daemon.counter_recount import Recounted, TermsOf, recount, unknown_terms
from meterd.daemon.counter_state import CounterState
from meterd.errors import GeneralCode, MeterdError
from meterd.model.quantity import GUARDED
from meterd.poll.counters import is_guarded
from meterd.store.db import replacements
from meterd.store.db.replacements import Replacement
from meterd.store.query.range_query import SeriesInfo
from meterd.store.reader import Reader
from meterd.store.writer import Writer


@dataclass(frozen=True, slots=True)
class Replaced:
    """The result: the number of changed totals, and the events noticed on the way."""

    written: int
    events: tuple[str, ...]


async def replace_meter(
    writer: Writer,
    reader: Reader,
    memory: CounterState,
    device: str,
    one: Replacement,
    *,
    still: AbstractAsyncContextManager[None],
    terms: TermsOf = unknown_terms,
    undo: bool = False,
) -> Replaced:
    """From `one.at` on the device's counters are another meter's, or are not after all (`undo`).

    Its guarded totals since then are counted anew, and `memory` knows where they stand. While
    `still` is entered the device is not polled; `terms` as `recount` has them. Raises MeterdError
    (unknown_device, not_replaced), StoreError.
    """
    infos = await asyncio.to_thread(reader.names)
    mine = [info for info in infos if info.device == device]
    if not mine:
        raise MeterdError(f"the store has no device {device}", code=GeneralCode.UNKNOWN_DEVICE)
    first = min((info.first for info in mine if _counts(info)), default=None)
    if first is None:
        raise MeterdError(f"{device} has no counter in the store", code=GeneralCode.NOT_REPLACED)
    if one.at <= first and not undo:
        text = f"{device} has no counter from before that time: there is nothing to separate"
        raise MeterdError(text, code=GeneralCode.NOT_REPLACED)
    await writer.flush()
    if not undo:
        await writer.do(partial(replacements.add, device=device, replacement=one))
    elif not await writer.do(partial(replacements.remove, device=device, at=one.at)):
        raise MeterdError(f"{device} was not replaced at that time", code=GeneralCode.NOT_REPLACED)
    recounted = await count_anew(
        writer,
        reader,
        memory,
        device,
        one.at,
        one.made,
        still=still,
        terms=terms,
        is_next=not undo,
    )
    texts = dict.fromkeys(f"{event.quantity}: {event.text}" for event in recounted.events)
    return Replaced(recounted.written, tuple(texts))


async def count_anew(
    writer: Writer,
    reader: Reader,
    memory: CounterState,
    device: str,
    start: int,
    end: int,
    *,
    still: AbstractAsyncContextManager[None],
    quantities: Collection[str] | None = None,
    terms: TermsOf = unknown_terms,
    is_next: bool = False,
    is_same: bool = False,
) -> Recounted:
    """The guarded totals after reads of start <= time <= end (Unix ms) changed, and where live
    polls go on.

    `quantities` and `terms` as `recount` has them. `is_next`: where nothing was read since `start`,
    the next read is another meter's; `is_same`: it is the one that was there. Raises StoreError.
    """
    again = partial(recount, writer, reader, device, quantities=quantities, terms=terms)
    recounted = await again(start, end)
    if recounted.ended or is_next:
        async with still:
            # What was polled meanwhile: little, so that the next poll is not held up for long.
            await writer.flush()
            last = await asyncio.to_thread(_last, reader, device)
            if last > recounted.last:
                later = await again(recounted.last, last)
                recounted.written += later.written
                recounted.ended |= later.ended
            swapped = is_next and last < start
            memory.go_on(device, writer, recounted.ended, swapped=swapped, is_same=is_same)
        memory.save(writer)
    await writer.settle()
    return recounted


def _last(reader: Reader, device: str) -> int:
    """The time of the newest read of a device's counters, or 0."""
    mine = [info for info in reader.names() if info.device == device]
    return max(
        (series.last for series in mine if is_guarded(series.quantity, series.unit)), default=0
    )


def _counts(info: SeriesInfo) -> bool:
    return info.quantity.startswith(GUARDED)
