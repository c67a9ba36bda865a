import asyncio
import logging
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientConnectorCertificateError, ClientSession, TCPConnector

from meterd.api.app import Rules, Running
from meterd.api.limits import Limits
from meterd.api.tls import Certificate
from meterd.errors import MeterdError
from tests.api.certificates import Pair, make
from tests.api.locked import LATEST, locked
from tests.cli.command import run

pytestmark = pytest.mark.needs("openssl")

# Certificates are looked at ten times as seldom as connections.
LIMITS = Limits(look_every=0.02, handshake=0.5)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make(tmp_path)


def rules(pair: Pair) -> Rules:
    return Rules(certificate=Certificate(pair.certificate, pair.key), limits=LIMITS)


async def status(running: Running, trust: ssl.SSLContext) -> int:
    async with (
        ClientSession(connector=TCPConnector(ssl=trust)) as session,
        session.get(f"https://localhost:{running.port}{LATEST}") as reply,
    ):
        assert reply.headers["Strict-Transport-Security"].startswith("max-age=")
        return reply.status


async def test_over_tls_answers_carry_hsts(pair: Pair) -> None:
    async with locked(rules(pair), login_always=False) as running:
        assert running.url == f"https://127.0.0.1:{running.port}"
        assert await status(running, pair.trust) == 200
    async with locked(rules(pair)) as running:
        assert await status(running, pair.trust) == 401


async def test_a_renewed_certificate_is_served_without_a_restart(
    pair: Pair, tmp_path: Path
) -> None:
    other = make(tmp_path, "other")
    async with locked(rules(pair), login_always=False) as running:
        assert await status(running, pair.trust) == 200
        with pytest.raises(ClientConnectorCertificateError):
            await status(running, other.trust)
        # An open connection stays what it is.
        reader, writer = await asyncio.open_connection(
            "localhost", running.port, ssl=pair.trust, family=socket.AF_INET
        )
        other.key.replace(pair.key)
        await asyncio.to_thread(pair.certificate.write_bytes, other.certificate.read_bytes())
        async with asyncio.timeout(60):
            while True:
                try:
                    assert await status(running, other.trust) == 200
                except ClientConnectorCertificateError:
                    await asyncio.sleep(0.05)
                else:
                    break
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


def test_a_half_written_certificate_changes_nothing(
    pair: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = Certificate(pair.certificate, pair.key)
    assert not held.renew()
    good = pair.certificate.read_bytes()
    other = make(tmp_path, "other")
    with caplog.at_level(logging.ERROR):
        for damage in (b"", good[:100], other.certificate.read_bytes()):
            pair.certificate.write_bytes(damage)
            assert not held.renew()
            assert not held.renew()
    assert len(caplog.records) == 3
    assert "the old certificate stays in use" in caplog.text
    other.key.replace(pair.key)
    assert held.renew()


@pytest.mark.parametrize("fault", ["no key", "no certificate", "swapped", "other", "password"])
def test_files_that_do_not_fit_are_told_at_the_start(
    pair: Pair, tmp_path: Path, fault: str
) -> None:
    files = {
        "no key": (pair.certificate, tmp_path / "none"),
        "no certificate": (tmp_path / "none", pair.key),
        "swapped": (pair.key, pair.certificate),
        "other": (pair.certificate, make(tmp_path, "other").key),
        "password": (pair.certificate, make(tmp_path, "locked", "secret").key),
    }[fault]
    with pytest.raises(MeterdError, match="no certificate and its key"):
        Certificate(*files)


async def test_old_protocols_and_plain_text_are_refused(pair: Pair) -> None:
    async with locked(rules(pair), login_always=False) as running:
        reader, writer = await asyncio.open_connection(running.host, running.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" not in await reader.read()
        writer.close()
        old = replace_version(pair.trust)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", running.port, ssl=old)


def replace_version(trust: ssl.SSLContext) -> ssl.SSLContext:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trust.maximum_version = ssl.TLSVersion.TLSv1_1
        trust.minimum_version = ssl.TLSVersion.TLSv1
    return trust


async def test_handshakes_that_never_end_count_and_hurt_nobody(pair: Pair) -> None:
    held = rules(pair)
    async with locked(
        replace(held, limits=replace(LIMITS, handshake=5.0)), login_always=False
    ) as running:

        def open_them() -> list[socket.socket]:
            return [socket.create_connection((running.host, running.port)) for _ in range(100)]

        sockets = await asyncio.to_thread(open_them)
        async with asyncio.timeout(60):
            while running.guests.count < 100:
                await asyncio.sleep(0.01)
        assert await status(running, pair.trust) == 200
        # Answered while they are there, not after they were given up.
        assert running.guests.count >= 100
        async with asyncio.timeout(60):
            while running.guests.count > 1:
                await asyncio.sleep(0.02)
        for each in sockets:
            each.close()


@pytest.mark.needs("curl")
async def test_curl_trusts_it_and_logs_in(pair: Pair) -> None:
    async with locked(rules(pair)) as running:
        ended = await run(
            *("curl", "-sS", "--noproxy", "*", "--cacert", str(pair.certificate)),
            *("-u", "anna:correct horse", f"https://localhost:{running.port}/healthz"),
        )
        assert ended.document == {"status": "ok"}
