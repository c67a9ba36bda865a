"""Posts alerts to a URL as JSON, in order and at least once.

    {"id": "8c9f…", "rule": "on-battery", "device": "rack-ups", "quantity": "ups.status.ob",
     "state": "firing", "severity": "critical", "value": 1.0, "unit": "1",
     "since": "2026-11-21T10:00:00.000Z", "time": "2026-11-21T10:00:05.000Z",
     "site": "Home", "text": "ups.status.ob is 1", "labels": {"building": "A"}}

`state` is firing or resolved, with the same `id`; the header X-Meterd-Delivery is the same for
each try to deliver one of them, so that a receiver can drop what it has already.
"""

import asyncio
import contextlib
import email.utils
import json
import logging
import math
import os
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from meterd.alerts.hooks.notification import Notification
from meterd.errors import HookCode, HookError

if TYPE_CHECKING:
    from aiohttp import ClientSession

log = logging.getLogger(__name__)

# Notices that wait; when there are more, the oldest is dropped and counted.
QUEUE_LIMIT = 1000

_TOO_MANY_REQUESTS = 429
_SERVER_ERRORS = range(500, 600)
_SUCCESS = range(200, 300)
# Of a Retry-After in seconds; more is longer than any wait.
_DIGITS = 6
_LONGEST_WAIT = 1e6


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between tries: doubled from `first` up to `longest`, less up to half at random."""

    first: float = 1.0
    longest: float = 300.0

    def pause(self, failures: int, asked: float | None) -> float:
        """After so many failures in a row; `asked` is what the receiver asks for, in seconds."""
        if asked is not None:
            return min(max(asked, self.first), self.longest)
        # 2**30 is beyond every limit and within every float.
        doubled = math.ldexp(self.first, min(failures - 1, 30))
        return min(doubled, self.longest) * random.uniform(0.5, 1.0)


class _DeliveryError(HookError):
    """A delivery that failed; `wait` is what Retry-After asks for, in seconds."""

    def __init__(self, text: str, *, retry: bool, wait: float | None = None) -> None:
        super().__init__(text, code=HookCode.UNDELIVERED, retry=retry)
        self.wait = wait


class Webhook:
    """One receiver. `timeout` in seconds bounds one try; `headers` are added to each.

    `delivered`, `dropped` and `refused` count notices: dropped ones found the queue full,
    refused ones the receiver did not want (any answer but 2xx, 429 and 5xx).
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        timeout: float = 10.0,
        headers: Mapping[str, str] | None = None,
        limit: int = QUEUE_LIMIT,
        backoff: Backoff | None = None,
    ) -> None:
        self.name = name
        self.delivered = 0
        self.dropped = 0
        self.refused = 0
        self._url = url
        self._timeout = timeout
        self._headers = dict(headers or {})
        self._limit = limit
        self._backoff = backoff or Backoff()
        self._queue: deque[Notification] = deque()
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._closing = False
        self._failures = 0
        self._session: ClientSession | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Notices not yet delivered."""
        return len(self._queue)

    async def start(self) -> None:
        import aiohttp  # 0.3 s, and only sites with hooks need it

        self._session = aiohttp.ClientSession(
            # Alerts are hours apart: a kept connection would be dead when it is needed.
            connector=aiohttp.TCPConnector(limit=1, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout),
        )
        self._task = asyncio.create_task(self._run(), name=f"hook {self.name}")

    def post(self, notice: Notification) -> None:
        if len(self._queue) >= self._limit:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(notice)
        self._wake.set()

    def undelivered(self) -> Sequence[Notification]:
        return tuple(self._queue)

    def forget(self) -> None:
        self._queue.clear()

    async def close(self, grace: float) -> None:
        self._closing = True
        self._wake.set()
        self._hurry.set()
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=grace)
            self._task.cancel()
            (end,) = await asyncio.gather(self._task, return_exceptions=True)
            if isinstance(end, Exception):
                log.error("hook %s ended by a bug", self.name, exc_info=end)
        if self._queue:
            log.warning("hook %s: undelivered when it closed: %d", self.name, len(self._queue))
        if self._session is not None:
            await self._session.close()

    async def _run(self) -> None:
        while self._queue or not self._closing:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            # Looked at anew for each try: while it waited, the oldest may have been dropped.
            notice = self._queue[0]
            try:
                await self._deliver(notice)
            except _DeliveryError as failure:
                await self._failed(notice, failure)
            else:
                self.delivered += 1
                self._reached()
                self._done(notice)

    def _done(self, notice: Notification) -> None:
        if self._queue and self._queue[0] is notice:
            self._queue.popleft()

    def _reached(self) -> None:
        if self._failures:
            text = "hook %s is back after %d failed tries; %d notices dropped so far"
            log.warning(text, self.name, self._failures, self.dropped)
        self._failures = 0

    async def _failed(self, notice: Notification, failure: _DeliveryError) -> None:
        if not failure.retry:
            self._reached()
            self.refused += 1
            log.warning("hook %s refused %s, dropped: %s", self.name, notice.key, failure)
            self._done(notice)
            return
        self._failures += 1
        if self._failures == 1:
            log.warning("hook %s is down: %s", self.name, failure)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.pause(self._failures, failure.wait)):
                await self._hurry.wait()
        # Closing cuts one pause short, not the rhythm.
        self._hurry.clear()

    async def _deliver(self, notice: Notification) -> None:
        """One try. Raises _DeliveryError."""
        import aiohttp

        assert self._session is not None  # noqa: S101 (the task begins after it)
        headers = self._headers | {
            "Content-Type": "application/json",
            "X-Meterd-Delivery": notice.key,
        }
        try:
            async with self._session.post(
                self._url, data=body(notice), headers=headers, allow_redirects=False
            ) as response:
                status, wait = response.status, response.headers.get("Retry-After")
        except TimeoutError as error:
            raise _DeliveryError(f"no answer within {self._timeout:g} s", retry=True) from error
        # The text of some errors holds the URL, and URLs of hooks hold secrets.
        except ValueError as error:
            text = f"it cannot be sent, see url and headers: {type(error).__name__}"
            raise _DeliveryError(text, retry=False) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _DeliveryError(_why(error), retry=True) from error
        if status in _SUCCESS:
            return
        retry = status == _TOO_MANY_REQUESTS or status in _SERVER_ERRORS
        raise _DeliveryError(f"it answered {status}", retry=retry, wait=_seconds(wait))


def _why(error: Exception) -> str:
    """In words of the system's own, and never the error's text."""
    import aiohttp

    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name is not known"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted here"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection instead of answering"
    cause = getattr(error, "os_error", error)
    number = cause.errno if isinstance(cause, OSError) else None
    return os.strerror(number) if number else type(error).__name__


def body(notice: Notification) -> bytes:
    """The JSON of a notice."""
    alert = notice.alert
    fields = {
        "id": alert.id,
        "rule": alert.rule,
        "device": alert.device,
        "quantity": alert.quantity,
        "state": alert.state.value,
        "severity": alert.severity,
        "value": alert.value,
        "unit": alert.unit,
        "since": _rfc3339(alert.since),
        "time": _rfc3339(alert.updated),
        "site": notice.site,
        "text": notice.text,
        "labels": dict(notice.labels),
    }
    return json.dumps(fields).encode("ascii")


def _rfc3339(ms: int) -> str:
    stamp = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{stamp:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After, a number of seconds or a date, as seconds from now."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isdecimal():
        return float(text) if len(text) <= _DIGITS else _LONGEST_WAIT
    try:
        until = email.utils.parsedate_to_datetime(text)
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        return max(0.0, (until - datetime.now(UTC)).total_seconds())
    # Years and zones beyond what a C int holds.
    except (ValueError, OverflowError, TypeError):
        return None
