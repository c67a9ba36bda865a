import asyncio
import binascii
import logging
import os
import socket
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientConnectorCertificateError, ClientSession, TCPConnector
from hypothesis import given
from hypothesis import strategies as st

from meterd.api.app import Running, ServingRules
from meterd.api.limits import ServerLimits
from meterd.api.tls import Certificate, validity_of
from meterd.api.validity import validity
from meterd.errors import MeterdError
from tests.api.certificates import EC, RSA, Pair, make
from tests.api.locked import LATEST, locked
from tests.cli.command import run

pytestmark = pytest.mark.needs("openssl")

# Certificates are looked at ten times as seldom as connections.
LIMITS = ServerLimits(look_every=0.02, handshake=0.5)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make(tmp_path)


def rules(pair: Pair) -> ServingRules:
    return ServingRules(certificate=Certificate(pair.certificate, pair.key), limits=LIMITS)


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


@pytest.mark.parametrize(("before", "after"), [(EC, RSA), (RSA, EC), (RSA, RSA)])
async def test_another_kind_of_key_is_served_to_who_could_take_both(
    tmp_path: Path, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    pair = make(tmp_path, kind=before)
    other = make(tmp_path, "other", kind=after)
    trust = ssl.create_default_context()
    for one in (pair, other):
        trust.load_verify_locations(one.certificate)
    async with locked(rules(pair), login_always=False) as running:
        other.key.replace(pair.key)
        other.certificate.replace(pair.certificate)
        wanted = ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())
        async with asyncio.timeout(10):
            while await served(running, trust) != wanted:
                await asyncio.sleep(0.02)


async def served(running: Running, trust: ssl.SSLContext) -> bytes | None:
    """The certificate that a new connection gets."""
    _, writer = await asyncio.open_connection(
        "localhost", running.port, ssl=trust, family=socket.AF_INET
    )
    found: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return found


def test_what_is_half_written_is_told_once_and_taken_when_it_is_whole(tmp_path: Path) -> None:
    """Certificate before key, key before certificate, and permissions that come last."""
    pair, other = make(tmp_path), make(tmp_path, "other", kind=RSA)
    told: list[tuple[str, object]] = []
    held = Certificate(pair.certificate, pair.key, lambda text, data: told.append((text, data)))
    before = held.context
    other.certificate.replace(pair.certificate)
    assert [held.renew() for _ in range(3)] == [False] * 3
    assert held.context is before
    assert len(told) == 1
    assert "the old certificate stays in use" in told[0][0]
    other.key.replace(pair.key)
    assert [held.renew() for _ in range(3)] == [True, False, False]
    assert held.context is not before
    assert [text for text, _ in told[1:]] == [f"the certificate {pair.certificate} was renewed"]


# Any certificate; it need not be valid.
CERTIFICATE = b"""\
-----BEGIN CERTIFICATE-----
MIIBfTCCASOgAwIBAgIUD+o1tDlWz5LTHhSjCnb3q1T/E04wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MB4XDTI2MTEzMDE0NTcyMloXDTI2MTIwMjE0
NTcyMlowFDESMBAGA1UEAwwJbG9jYWxob3N0MFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAE6VMEESKs99gYpmU3+NN9vJQmZ9P8UcuvLL0KdqP6XJ9yDJ27JPFzdaAA
DCzmnTk0hRHu++duv2xV7xZTe7w25qNTMFEwHQYDVR0OBBYEFEza2+auMsupWv4M
5t+bBEFo5GajMB8GA1UdIwQYMBaAFEza2+auMsupWv4M5t+bBEFo5GajMA8GA1Ud
EwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgcky4m8BeiG3MvWGt6/HmqhVy
jYUriHGjdgy1cVlSbSgCIQC/D5oUST+U2QfjXMut8lWAe6skDagaTuPLcATolp1B
Wg==
-----END CERTIFICATE-----
"""
DAY = 86_400.0


@pytest.mark.parametrize(
    ("days", "left", "flaw"),
    [
        (200, 22.0, ""),
        (200, 20.9, "expires in 21 days, at 20"),
        (90, 21.5, ""),
        (90, 20.9, "expires in 21 days"),
        (6, 2.0, ""),
        (6, 1.4, "expires in 1 day, at"),
        (200, 0.0, "has expired, at 20"),
        (200, -400.0, "has expired"),
        (200, 201.0, "is not valid before 20"),
    ],
)
def test_a_certificate_that_ends_soon_is_told(
    tmp_path: Path, days: int, left: float, flaw: str
) -> None:
    pair = make(tmp_path, days=days)
    found = validity_of(pair.certificate)
    assert found is not None
    (line,) = openssl(pair, "-enddate")
    assert found.end == ssl.cert_time_to_seconds(line.partition("=")[2])
    said = found.flaw(found.end - left * DAY)
    assert flaw in said
    assert bool(said) is bool(flaw)


def test_it_is_told_once_a_day_and_again_when_it_has_expired(tmp_path: Path) -> None:
    pair = make(tmp_path, days=200)
    told: list[str] = []
    held = Certificate(pair.certificate, pair.key, lambda text, _: told.append(text))
    assert held.expires is not None
    for hours in range(-30 * 24, 0):
        held.watch(held.expires + hours * 3600)
    assert len(told) == 21
    for seconds in range(0, 7200, 10):
        held.watch(held.expires + seconds)
    assert len(told) == 22
    assert "has expired" in told[-1]


def test_of_a_chain_the_one_that_ends_first_counts(tmp_path: Path) -> None:
    long, short = make(tmp_path, days=300), make(tmp_path, "short", days=30)
    alone = validity_of(short.certificate)
    both = tmp_path / "both.pem"
    both.write_bytes(long.certificate.read_bytes() + short.certificate.read_bytes())
    found = validity_of(both)
    assert found is not None
    assert alone is not None
    assert found.end == alone.end


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_damage_is_no_traceback(noise: bytes, at: int) -> None:
    body = b"".join(CERTIFICATE.splitlines()[1:-1])
    der = bytearray(binascii.a2b_base64(body))
    der[at : at + len(noise)] = noise
    text = b"-----BEGIN CERTIFICATE-----\n" + binascii.b2a_base64(bytes(der)) + b"-----END "
    found = validity(text)
    assert found is None or found.start is not None
    assert validity(noise) is None


async def test_when_it_expires_is_a_metric(pair: Pair) -> None:
    async with (
        locked(rules(pair), login_always=False) as running,
        ClientSession(connector=TCPConnector(ssl=pair.trust)) as session,
        session.get(f"https://localhost:{running.port}/metrics") as reply,
    ):
        text = await reply.text()
    found = validity_of(pair.certificate)
    assert found is not None
    line = next(x for x in text.splitlines() if x.startswith("meterd_certificate_expiry_time"))
    assert float(line.split()[1]) == found.end


@pytest.mark.parametrize("bad", ["/dev/zero", "pipe", "folder", "large"])
def test_what_is_no_file_is_refused_and_not_read(pair: Pair, tmp_path: Path, bad: str) -> None:
    odd = Path(bad) if bad.startswith("/") else tmp_path / bad
    if bad == "pipe":
        os.mkfifo(odd)
    elif bad == "folder":
        odd.mkdir()
    elif bad == "large":
        odd.write_bytes(bytes(2 << 20))
    for files in ((odd, pair.key), (pair.certificate, odd)):
        with pytest.raises(MeterdError, match="no certificate and its key"):
            Certificate(*files)


def openssl(pair: Pair, *words: str) -> list[str]:
    done = subprocess.run(
        ["openssl", "x509", "-in", str(pair.certificate), "-noout", *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout.splitlines()


def test_a_half_written_certificate_changes_nothing(
    pair: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = Certificate(pair.certificate, pair.key)
    assert not held.renew()
    good = pair.certificate.read_bytes()
    other = make(tmp_path, "other")
    with caplog.at_level(logging.WARNING):
        for damage in (b"", good[:100], other.certificate.read_bytes()):
            pair.certificate.write_bytes(damage)
            assert not held.renew()
            assert not held.renew()
    # Looked at again each time, and each kind of damage is told once.
    assert 2 <= len(caplog.records) <= 3
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
