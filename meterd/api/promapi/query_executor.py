"""Executes PromQL queries in worker threads, with deadlines."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from meterd.api.promapi.reply import Trouble
from meterd.api.promapi.self_metrics_history import OwnHistory
from meterd.model.clock import Clock
from meterd.promql.result import PromErrorType

if TYPE_CHECKING:
    from meterd.api.promapi.source import SiteSource
    from meterd.daemon.site import Site
    from meterd.store.reader import Reader

# So many are worked on at once: one long question does not hold up the quick ones,
THREADS = 2
# and so many more may wait. A dashboard sends some dozens.
MOST_WAITING = 100
# A question may take so long, waiting included, in ms; `timeout` makes it shorter only.
LONGEST = 30_000
# Beyond the deadline: the work looks at it now and then, and the answer should be its own.
_GRACE = 1.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class QueryDeadline:
    """Until when a question matters: `at` is of time.monotonic, `canceled` ends it at once."""

    at: float
    canceled: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True)
class QueryExecutor:
    """The site, its store's reader, and the threads that think about it."""

    site: "Site"
    clock: Clock
    reader: "Callable[[], Reader]"
    own: OwnHistory
    _waiting: int = 0
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(THREADS, thread_name_prefix="meterd-promql")
    )

    def close(self) -> None:
        """No question may follow; those that wait end unheard."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def source(self) -> "SiteSource":
        """The series of now, for one question. To be called on the event loop."""
        # Not everybody has a Grafana: numpy is loaded with the first query.
        from meterd.api.promapi import store_source
        from meterd.api.promapi.local_days import LocalDays
        from meterd.api.promapi.prices import PriceSource
        from meterd.api.promapi.source import SiteSource
        from meterd.api.promapi.store_source import StoreSource

        stored = StoreSource(self.reader(), store_source.devices(self.site))
        now = self.clock.now_ms()
        return SiteSource(
            stored, self.own, PriceSource.of(self.site, now), LocalDays(self.site, now)
        )

    async def work(self, question: Callable[[QueryDeadline], _T], timeout: int = LONGEST) -> _T:
        """The question's answer, out of a thread; `timeout` in ms. Raises Trouble."""
        if self._waiting >= THREADS + MOST_WAITING:
            raise Trouble(
                PromErrorType.UNAVAILABLE, "too many queries are waiting; try again later"
            )
        seconds = max(0, min(timeout, LONGEST)) / 1000
        deadline = QueryDeadline(time.monotonic() + seconds)
        try:
            future = self._pool.submit(partial(question, deadline))
        except RuntimeError as error:
            raise Trouble(PromErrorType.UNAVAILABLE, "meterd is stopping") from error
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds + _GRACE):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise Trouble(
                PromErrorType.TIMEOUT, "query timed out in expression evaluation"
            ) from error
        finally:
            deadline.canceled.set()
            self._waiting -= 1
