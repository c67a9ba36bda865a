"""Recounts guarded totals after reads were corrected, or a correction was undone."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from meterd.daemon.counter_recount import Recounted, TermsOf, unknown_terms
from meterd.daemon.counter_state import CounterState
from meterd.daemon.replacing import count_anew
from meterd.store.reader import Reader
from meterd.store.tools.correct import Recount
from meterd.store.writer import Writer


def following(
    writer: Writer,
    reader: Reader,
    memory: CounterState | None = None,
    *,
    terms: Callable[[str], TermsOf] = lambda _: unknown_terms,
    still: Callable[[str], AbstractAsyncContextManager[None]] = lambda _: nullcontext(),
    heard: Callable[[str, Recounted], None] = lambda *_: None,
) -> Recount:
    """For the corrections of a store. `memory` has the counters that are polled meanwhile.

    `terms` tells how a device's counters count; while `still` is entered it is not polled. `heard`
    is told what came of each device's counting anew.
    """
    known = CounterState() if memory is None else memory

    async def recount(device: str, quantity: str, first: int, last: int) -> None:
        told = await count_anew(
            writer,
            reader,
            known,
            device,
            first,
            last,
            still=still(device),
            quantities=[quantity],
            terms=terms(device),
            is_same=True,
        )
        heard(device, told)

    return recount
