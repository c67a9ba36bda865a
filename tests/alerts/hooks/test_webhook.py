"""Webhooks against a real server on loopback: what is retried, what is dropped, who waits."""

import asyncio
import errno
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aiohttp
import pytest
from aiohttp import web
from aiohttp.client_reqrep import ConnectionKey

from meterd.alerts.hooks import Notification, Webhook
from meterd.alerts.hooks.webhook import Backoff, _error_text
from meterd.model.alert import Alert, AlertState
from tests.ports import free_port

QUICK = Backoff(0.01, 0.04)
KEY = ConnectionKey(
    "secret.example",
    443,
    is_ssl=True,
    ssl=True,
    proxy=None,
    proxy_auth=None,
    proxy_headers_hash=None,
)
DNS = aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "secret"))
FIRING, RESOLVED = AlertState.FIRING, AlertState.RESOLVED

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def notice(name: str = "a1", state: AlertState = FIRING) -> Notification:
    since = 1_800_000_000_123
    alert = Alert(
        name, "high", "main", "voltage.l1", state, "critical", 254.5, "V", since, since + 5000
    )
    return Notification(alert, "Home", "mains is too high", {"building": "A"})


class Receiver:
    """Answers with each of `answers` in turn (a status, or a coroutine), then with 200."""

    def __init__(self, *answers: int | Answer) -> None:
        self._answers = list(answers)
        self.bodies: list[dict[str, object]] = []
        self.deliveries: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.times.append(asyncio.get_running_loop().time())
        self.bodies.append(json.loads(await request.read()))
        self.headers.append(dict(request.headers))
        self.deliveries.append(request.headers["X-Meterd-Delivery"])
        answer = self._answers.pop(0) if self._answers else 200
        return web.Response(status=answer) if isinstance(answer, int) else await answer(request)

    async def count(self, number: int) -> None:
        """Until so many requests have come."""
        await until(lambda: len(self.deliveries) >= number)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def served(receiver: Receiver, port: int = 0) -> AsyncIterator[Receiver]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/alert?token=secret"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@asynccontextmanager
async def started(
    url: str,
    *,
    timeout: float = 2.0,
    limit: int = 1000,
    backoff: Backoff = QUICK,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Webhook]:
    hook = Webhook("ops", url, timeout=timeout, limit=limit, backoff=backoff, headers=headers)
    await hook.start()
    try:
        yield hook
    finally:
        await hook.close(0)


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def test_a_notice_arrives_as_the_documented_json() -> None:
    async with served(Receiver()) as receiver:
        async with started(receiver.url, headers={"Authorization": "Bearer x"}) as hook:
            hook.post(notice())
            await until(lambda: hook.delivered == 1)
        assert receiver.bodies == [
            {
                "id": "a1",
                "rule": "high",
                "device": "main",
                "quantity": "voltage.l1",
                "state": "firing",
                "severity": "critical",
                "value": 254.5,
                "unit": "V",
                "since": "2027-01-15T08:00:00.123Z",
                "time": "2027-01-15T08:00:05.123Z",
                "site": "Home",
                "text": "mains is too high",
                "labels": {"building": "A"},
            }
        ]
        (headers,) = receiver.headers
        assert headers["Content-Type"] == "application/json"
        assert headers["Authorization"] == "Bearer x"
        assert headers["X-Meterd-Delivery"] == "a1.firing"


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_what_may_pass_is_tried_again_with_the_same_id(status: int) -> None:
    async with (
        served(Receiver(status, status)) as receiver,
        started(receiver.url) as hook,
    ):
        hook.post(notice("a1", FIRING))
        hook.post(notice("a1", RESOLVED))
        await until(lambda: hook.delivered == 2)
        assert receiver.deliveries == ["a1.firing"] * 3 + ["a1.resolved"]
        assert hook.waiting == hook.dropped == hook.refused == 0


@pytest.mark.parametrize("status", [400, 401, 404, 410, 302, 307])
async def test_what_the_receiver_refuses_is_dropped_with_one_line(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async with served(Receiver(refuse)) as receiver, started(receiver.url) as hook:
        hook.post(notice("a1"))
        hook.post(notice("a2"))
        await until(lambda: hook.delivered == 1)
        assert receiver.deliveries == ["a1.firing", "a2.firing"]
        assert hook.refused == 1
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("meterd")]
    assert lines == [f"hook ops refused a1.firing, dropped: it answered {status}"]


def retry_after(value: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": value})

    return answer


async def test_retry_after_is_waited_for() -> None:
    async with (
        served(Receiver(retry_after("1"))) as receiver,
        started(receiver.url, backoff=Backoff(0.01, 30)) as hook,
    ):
        hook.post(notice())
        await until(lambda: hook.delivered == 1)
        first, second = receiver.times
        assert 0.95 <= second - first < 3


@pytest.mark.parametrize(
    "value",
    [
        "999999999999",
        format_datetime(datetime.now(UTC) + timedelta(days=9), usegmt=True),
        "0",
        format_datetime(datetime.now(UTC) - timedelta(days=9), usegmt=True),
        "soon",
        "Mon, 01 Jan 0001 00:00:00 +2300",
        "Mon, 01 Jan 2024 00:00:00 -0000",
    ],
    ids=["far", "in nine days", "now", "nine days ago", "no time", "before all", "zone unknown"],
)
async def test_retry_after_stays_within_the_bounds_of_the_backoff(value: str) -> None:
    async with served(Receiver(retry_after(value))) as receiver, started(receiver.url) as hook:
        hook.post(notice())
        await until(lambda: hook.delivered == 1)
        first, second = receiver.times
        assert second - first >= 0.004


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff()
    for failures, whole in ((1, 1), (2, 2), (5, 16), (9, 256), (10, 300), (10_000, 300)):
        for _ in range(20):
            assert whole / 2 <= backoff.pause(failures, None) <= whole
    assert backoff.pause(1, 0) == 1
    assert backoff.pause(1, -5) == 1
    assert backoff.pause(1, 17) == 17
    assert backoff.pause(1, 1e9) == 300


def test_a_receiver_that_is_down_for_an_hour_is_tried_at_most_60_times() -> None:
    backoff, elapsed, tries = Backoff(), 0.0, 0
    while elapsed < 3600:
        tries += 1
        elapsed += backoff.pause(tries, None)
    assert tries <= 60


async def test_a_receiver_that_hangs_is_given_up_and_tried_again() -> None:
    async with served(Receiver(hang)) as receiver, started(receiver.url, timeout=0.1) as hook:
        hook.post(notice())
        await until(lambda: hook.delivered == 1)
        assert receiver.deliveries == ["a1.firing"] * 2


async def test_an_answer_whose_body_never_ends_is_an_answer() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(60)
        return response

    async with served(Receiver(endless)) as receiver, started(receiver.url) as hook:
        hook.post(notice("a1"))
        hook.post(notice("a2"))
        await until(lambda: hook.delivered == 2)
        assert receiver.deliveries == ["a1.firing", "a2.firing"]


async def test_a_connection_that_breaks_is_tried_again() -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with served(Receiver(broken)) as receiver, started(receiver.url) as hook:
        hook.post(notice())
        await until(lambda: hook.delivered == 1)
        assert len(receiver.deliveries) == 2


async def test_a_closed_port_that_opens_gets_everything_in_order(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "meterd")
    port = free_port()
    receiver = Receiver()
    async with started(f"http://127.0.0.1:{port}/?token=secret") as hook:
        for number in range(5):
            hook.post(notice(f"a{number}"))
        await until(lambda: any("is down" in r.getMessage() for r in caplog.records))
        await asyncio.sleep(0.1)
        assert hook.waiting == 5
        async with served(receiver, port):
            await until(lambda: hook.delivered == 5)
    assert receiver.deliveries == [f"a{number}.firing" for number in range(5)]
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("meterd")]
    assert len(lines) == 2
    assert lines[0] == f"hook ops is down: {os.strerror(errno.ECONNREFUSED)}"
    assert lines[1].startswith("hook ops is back after ")
    assert "secret" not in "".join(lines)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DNS, "its host name is not known"),
        (aiohttp.ServerDisconnectedError("secret"), "it closed the connection"),
        (aiohttp.ClientOSError(errno.EHOSTUNREACH, "secret"), os.strerror(errno.EHOSTUNREACH)),
        (aiohttp.ClientPayloadError("secret"), "ClientPayloadError"),
        (OSError("secret"), "OSError"),
    ],
)
def test_why_it_is_down_is_said_without_its_address(error: Exception, said: str) -> None:
    assert _error_text(error).startswith(said)
    assert "secret" not in _error_text(error)


async def test_one_that_hangs_does_not_delay_another() -> None:
    async with (
        served(Receiver(hang)) as slow,
        served(Receiver()) as good,
        started(slow.url, timeout=30) as stuck,
        started(good.url) as free,
    ):
        stuck.post(notice())
        await slow.count(1)
        for number in range(10):
            stuck.post(notice(f"a{number}"))
            free.post(notice(f"a{number}"))
        await until(lambda: free.delivered == 10)
        assert stuck.delivered == 0
        assert stuck.waiting == 11


async def test_a_full_queue_drops_and_counts_the_oldest() -> None:
    async with (
        served(Receiver(hang)) as receiver,
        started(receiver.url, timeout=0.3, limit=3) as hook,
    ):
        hook.post(notice("a0"))
        await receiver.count(1)
        for number in range(1, 8):
            hook.post(notice(f"a{number}"))
        assert (hook.waiting, hook.dropped) == (3, 5)
        await until(lambda: hook.delivered == 3)
        assert receiver.deliveries == ["a0.firing", "a5.firing", "a6.firing", "a7.firing"]


async def test_a_delivery_under_way_that_overflows_is_not_taken_for_the_next() -> None:
    gate = asyncio.Event()

    async def wait(_: web.Request) -> web.StreamResponse:
        await gate.wait()
        return web.Response()

    async with served(Receiver(wait)) as receiver, started(receiver.url, limit=2) as hook:
        hook.post(notice("a0"))
        await receiver.count(1)
        hook.post(notice("a1"))
        hook.post(notice("a2"))
        gate.set()
        await until(lambda: hook.delivered == 3)
        assert receiver.deliveries == ["a0.firing", "a1.firing", "a2.firing"]


async def test_closing_delivers_what_waits() -> None:
    async with served(Receiver()) as receiver:
        hook = Webhook("ops", receiver.url)
        await hook.start()
        for number in range(20):
            hook.post(notice(f"a{number}"))
        await hook.close(5)
        assert (hook.delivered, len(receiver.deliveries)) == (20, 20)


async def test_closing_cuts_a_pause_short_for_a_last_try() -> None:
    async with served(Receiver(500)) as receiver:
        hook = Webhook("ops", receiver.url, backoff=Backoff(60, 60))
        await hook.start()
        hook.post(notice())
        await receiver.count(1)
        await asyncio.sleep(0.05)
        await hook.close(5)
        assert hook.delivered == 1


async def test_closing_gives_up_after_its_grace_and_says_what_was_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served(Receiver(hang)) as receiver:
        hook = Webhook("ops", receiver.url, timeout=600)
        await hook.start()
        hook.post(notice())
        await receiver.count(1)
        # Else it would wait for the answer.
        async with asyncio.timeout(60):
            await hook.close(0.1)
    assert "hook ops: undelivered when it closed: 1" in caplog.text


async def test_closing_what_was_never_started_is_no_error() -> None:
    await Webhook("ops", "http://127.0.0.1:9/").close(0)


async def test_what_cannot_be_sent_is_dropped_and_the_next_goes_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with started("http://[bad/", headers={"X-A": "b"}) as hook:
        hook.post(notice("a1"))
        hook.post(notice("a2"))
        await until(lambda: hook.refused == 2)
    assert "cannot be sent" in caplog.text
    assert "[bad" not in caplog.text


async def test_labels_with_any_characters_arrive() -> None:
    base = notice()
    odd = Notification(base.alert, 'Ho"me\n', "µ° \U0001f50c", {"x": "\udcff"})
    async with served(Receiver()) as receiver, started(receiver.url) as hook:
        hook.post(odd)
        await until(lambda: hook.delivered == 1)
        assert receiver.bodies[0]["site"] == 'Ho"me\n'
        assert receiver.bodies[0]["text"] == "µ° \U0001f50c"


@pytest.mark.parametrize(
    "value",
    [
        "Thu, 01 Jan 2026 00:00:00 +99999999999999999999",
        "Thu, 01 Jan 99999999999 00:00:00 GMT",
        "Thu, 99999999999999999999 Jan 2026 00:00:00 GMT",
        "Thu, 01 Jan 2026 99999999999:00:00 GMT",
        "Thu, 01 Jan 0001 00:00:00 +2359",
        "9" * 5000,
        "²",
        "",
        "Mon,,,",
    ],
)
def test_a_retry_after_of_nonsense_is_no_error_and_no_endless_wait(value: str) -> None:
    from meterd.alerts.hooks.webhook import _retry_after_s

    found = _retry_after_s(value)
    assert found is None or 0 <= found <= 1e6
