"""Validity of the certificates of a PEM file, parsed from DER.

Certificate    SEQUENCE | TBSCertificate | …
TBSCertificate SEQUENCE | [0] version | serial | algorithm | issuer | Validity | …   RFC 5280, 4.1
Validity       SEQUENCE | notBefore | notAfter |     each UTCTime or GeneralizedTime
"""

import binascii
import re
from base64 import b64decode
from dataclasses import dataclass
from datetime import UTC, datetime

# What a certificate file holds at most: a chain takes some KiB.
SIZE_LIMIT = 1 << 20
DAY = 86_400.0
# A certificate that is renewed by itself is renewed at a third of its life, so this is late.
_SOON_DAYS = 21
_SOON_SHARE = 1 / 4

_PEM = re.compile(
    rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+)-----END ", re.ASCII
)
_SEQUENCE, _VERSION, _UTC, _GENERALIZED = 0x30, 0xA0, 0x17, 0x18


@dataclass(frozen=True, slots=True)
class Validity:
    """Unix seconds: of a file, the latest beginning and the earliest end."""

    start: float
    end: float

    def days(self, now: float) -> float:
        """How many are left; negative where it has expired."""
        return (self.end - now) / DAY

    def flaw(self, now: float) -> str:
        """The warning about the certificate, "" where there is none. `now` is Unix seconds."""
        end = datetime.fromtimestamp(self.end, UTC).strftime("%Y-%m-%d %H:%M UTC")
        if now >= self.end:
            return f"has expired, at {end}: clients refuse it"
        if now < self.start:
            start = datetime.fromtimestamp(self.start, UTC).strftime("%Y-%m-%d %H:%M UTC")
            return f"is not valid before {start}: clients refuse it (or this clock is wrong)"
        if self.end - now <= min(_SOON_DAYS * DAY, (self.end - self.start) * _SOON_SHARE):
            left = round(self.days(now))
            return f"expires in {left} day{'s' if left != 1 else ''}, at {end}"
        return ""


def validity(pem: bytes) -> Validity | None:
    """Of all certificates of a PEM file together; None where no certificate can be read."""
    certificates = [_of_one(body) for body in _PEM.findall(pem)]
    readable = [certificate for certificate in certificates if certificate is not None]
    if not readable:
        return None
    return Validity(
        max(certificate.start for certificate in readable),
        min(certificate.end for certificate in readable),
    )


def _of_one(body: bytes) -> Validity | None:
    try:
        der = b64decode(body)
        certificate = _parts(_content(der, _SEQUENCE))
        fields = _parts(certificate[0][1])
        if fields[0][0] == _VERSION:
            del fields[0]
        start, end = _parts(fields[3][1])[:2]
        return Validity(_time(*start), _time(*end))
    except (ValueError, IndexError, binascii.Error):
        return None


def _content(der: bytes, tag: int) -> bytes:
    (kind, content), *_ = _parts(der)
    if kind != tag:
        raise ValueError(f"tag {kind:#x} where {tag:#x} is expected")
    return content


def _parts(der: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each element."""
    parts, at = [], 0
    while at < len(der):
        tag, size, at = der[at], der[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            size, at = int.from_bytes(der[at : at + count], "big"), at + count
        if at + size > len(der):
            raise ValueError("an element is cut off")
        parts.append((tag, der[at : at + size]))
        at += size
    return parts


def _time(tag: int, content: bytes) -> float:
    text = content.decode("ascii")
    if tag == _UTC:
        # RFC 5280: 50 and later are of the last century.
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif tag != _GENERALIZED:
        raise ValueError(f"tag {tag:#x} is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
