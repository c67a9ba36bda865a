"""Framing of every body in the store: a format byte before it, a CRC after it.

| format | … payload … | CRC-32 of all before it, lowest byte first |
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from meterd.errors import StoreCode, StoreError
from meterd.store.blocks.varint import Cursor, Damage

_CHECK = 4  # bytes
# What decoding may meet in bytes that have the right checksum and were not written by us.
_SIGNS = (Damage, ValueError, LookupError, OverflowError, zlib.error)


def seal(form: int, payload: bytes) -> bytes:
    body = bytes((form,)) + payload
    return body + zlib.crc32(body).to_bytes(_CHECK, "little")


@contextmanager
def verified(what: str, form: int, body: bytes) -> Iterator[Cursor]:
    """The payload, for decoding within. Raises StoreError (corrupt) for whatever is wrong."""
    with decoding(f"{what} of {len(body)} bytes"):
        yield Cursor(payload(form, bytes(body)))


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """For decoding within. Raises StoreError (corrupt) for whatever is wrong."""
    try:
        yield
    except _SIGNS as error:
        text = f"{what} is damaged: {error}; restore it from a backup"
        raise StoreError(text, code=StoreCode.CORRUPT) from error


def payload(form: int, body: bytes) -> bytes:
    """The body without format byte and checksum. Raises Damage."""
    return unsealed(body, (form,))[1]


def unsealed(body: bytes, forms: Sequence[int]) -> tuple[int, bytes]:
    """The format, one of those that are known, and what is sealed. Raises Damage."""
    if len(body) <= _CHECK:
        raise Damage("it is cut off")
    inside, check = body[:-_CHECK], body[-_CHECK:]
    if zlib.crc32(inside).to_bytes(_CHECK, "little") != check:
        raise Damage("its checksum is wrong")
    if inside[0] not in forms:
        known = " and ".join(map(str, forms))
        raise Damage(f"its format {inside[0]} is not known, only {known}")
    return inside[0], inside[1:]
