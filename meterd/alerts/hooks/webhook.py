"""Webhooks: posts notifications to a URL as JSON, in order and at least once.

    {"id": "8c9f…", "rule": "on-battery", "device": "rack-ups", "quantity": "ups.status.ob",
     "state": "firing", "severity": "critical", "value": 1.0, "unit": "1",
     "since": "2026-11-21T10:00:00.000Z", "time": "2026-11-21T10:00:05.000Z",
     "site": "Home", "text": "ups.status.ob is 1", "labels": {"building": "A"}}

`state` is firing or resolved, with the same `id`; the header X-Meterd-Delivery is the same for
each attempt to deliver a notification, so that a receiver can drop duplicates.
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

# Notifications in the queue; beyond it the oldest is dropped and counted.
QUEUE_LIMIT = 1000

_TOO_MANY_REQUESTS = 429
_SERVER_ERRORS = range(500, 600)
_SUCCESS = range(200, 300)
# A Retry-After with more digits than this counts as _RETRY_AFTER_MAX_S (11 days).
_RETRY_AFTER_MAX_DIGITS = 6
_RETRY_AFTER_MAX_S = 1e6


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff in seconds from `first` to `longest`, with a jitter of up to -50 %."""

    first: float = 1.0
    longest: float = 300.0

    def pause(self, failures: int, retry_after: float | None) -> float:
        """The pause after consecutive failures; `retry_after` (s) is what the receiver asks for."""
        if retry_after is not None:
            return min(max(retry_after, self.first), self.longest)
        # 2**30 is beyond every limit and within every float.
        doubled = math.ldexp(self.first, min(failures - 1, 30))
        return min(doubled, self.longest) * random.uniform(0.5, 1.0)


class _DeliveryError(HookError):
    """A failed attempt; `retry`: another may succeed; `retry_after` in seconds."""

    def __init__(self, text: str, *, retry: bool, retry_after: float | None = None) -> None:
        super().__init__(text, code=HookCode.UNDELIVERED, retry=retry)
        self.retry_after = retry_after


class Webhook:
    """One receiver. `timeout` in seconds bounds an attempt; `headers` are added to each request.

    `delivered`, `dropped` and `refused` count notifications: dropped when the queue was full,
    refused by any status but 2xx, 429 and 5xx.
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
        self._skip_pause = asyncio.Event()
        self._closing = False
        self._failures = 0
        self._session: ClientSession | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """The number of undelivered notifications."""
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
        self._skip_pause.set()
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
            # Read anew for each attempt: during the pause the head may have been dropped.
            notice = self._queue[0]
            try:
                await self._deliver(notice)
            except _DeliveryError as failure:
                await self._handle_failure(notice, failure)
            else:
                self.delivered += 1
                self._note_recovery()
                self._drop_head(notice)

    def _drop_head(self, notice: Notification) -> None:
        if self._queue and self._queue[0] is notice:
            self._queue.popleft()

    def _note_recovery(self) -> None:
        if self._failures:
            text = "hook %s is back after %d failed tries; %d notices dropped so far"
            log.warning(text, self.name, self._failures, self.dropped)
        self._failures = 0

    async def _handle_failure(self, notice: Notification, failure: _DeliveryError) -> None:
        if not failure.retry:
            self._note_recovery()
            self.refused += 1
            log.warning("hook %s refused %s, dropped: %s", self.name, notice.key, failure)
            self._drop_head(notice)
            return
        self._failures += 1
        if self._failures == 1:
            log.warning("hook %s is down: %s", self.name, failure)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.pause(self._failures, failure.retry_after)):
                await self._skip_pause.wait()
        # `close` ends only the current pause; later failures pause as usual.
        self._skip_pause.clear()

    async def _deliver(self, notice: Notification) -> None:
        """One attempt. Raises _DeliveryError."""
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
                status, retry_after = response.status, response.headers.get("Retry-After")
        except TimeoutError as error:
            raise _DeliveryError(f"no answer within {self._timeout:g} s", retry=True) from error
        # The text of some errors holds the URL, and URLs of hooks hold secrets.
        except ValueError as error:
            text = f"it cannot be sent, see url and headers: {type(error).__name__}"
            raise _DeliveryError(text, retry=False) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _DeliveryError(_error_text(error), retry=True) from error
        if status in _SUCCESS:
            return
        retry = status == _TOO_MANY_REQUESTS or status in _SERVER_ERRORS
        raise _DeliveryError(
            f"it answered {status}", retry=retry, retry_after=_retry_after_s(retry_after)
        )


def _error_text(error: Exception) -> str:
    """A text for the error's class or errno, never str(error), which may hold the URL."""
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
    """A notification as JSON."""
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


def _retry_after_s(retry_after: str | None) -> float | None:
    """The header Retry-After (RFC 9110: seconds or a date) in seconds from now; None if invalid."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isdecimal():
        return float(text) if len(text) <= _RETRY_AFTER_MAX_DIGITS else _RETRY_AFTER_MAX_S
    try:
        until = email.utils.parsedate_to_datetime(text)
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        return max(0.0, (until - datetime.now(UTC)).total_seconds())
    # Years and zones beyond what a C int holds.
    except (ValueError, OverflowError, TypeError):
        return None
