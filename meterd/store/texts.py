"""The reasons of a body's states: each text once, and numbers instead."""

from collections.abc import Iterable

from meterd.store import planes, varint
from meterd.store.columns import Column
from meterd.store.varint import Cursor, Damage

_SEPARATOR = "\0"
_MOST_BYTES = 1 << 24


def numbered(columns: Iterable[Column]) -> dict[str, int]:
    """Each reason's number; in the order of the texts, so that equal spans give equal bytes."""
    found = {state[2] for column in columns for state in column.states}
    return {text: number for number, text in enumerate(sorted(found))}


def encode(reasons: Iterable[str]) -> bytes:
    """In their order. Raises ValueError where a text holds the separator or half a character."""
    texts = list(reasons)
    if any(_SEPARATOR in text for text in texts):
        raise ValueError("a reason with a zero character cannot be kept")
    if not texts:
        return b""
    plain = _SEPARATOR.join(texts).encode()
    return varint.number(len(plain)) + planes.deflate(plain)


def decode(body: bytes) -> list[str]:
    """Raises Damage, UnicodeDecodeError or zlib.error."""
    if not body:
        return []
    cursor = Cursor(body)
    size = cursor.number()
    if size > _MOST_BYTES:
        raise Damage(f"{size} bytes of reasons")
    return planes.inflate(cursor.rest(), size).decode().split(_SEPARATOR)
