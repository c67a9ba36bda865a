"""The reasons of a body's states: each text once, and numbers instead.

| bytes when inflated | deflated: sized text | sized text | … |      without reasons, nothing
"""

from collections.abc import Iterable

from meterd.store.blocks import byte_planes, varint
from meterd.store.blocks.chunk import ChunkColumn
from meterd.store.blocks.varint import Cursor, Damage

MOST_BYTES = 1 << 24  # a damaged size must not eat the memory
# Whatever a device's text had in it comes back, half characters and zeros alike.
_ENCODING, _ERRORS = "utf-8", "surrogatepass"


def numbered(columns: Iterable[ChunkColumn]) -> dict[str, int]:
    """Each reason's number; in the order of the texts, so that equal chunks give equal bytes."""
    found = {state[2] for column in columns for state in column.states}
    return {text: number for number, text in enumerate(sorted(found))}


def encode(reasons: Iterable[str]) -> bytes:
    """Encodes the texts in their order. Raises ValueError where they are too long."""
    plain = b"".join(varint.sized(text.encode(_ENCODING, _ERRORS)) for text in reasons)
    if len(plain) > MOST_BYTES:
        raise ValueError(f"{len(plain)} bytes of reasons, more than {MOST_BYTES}")
    return varint.number(len(plain)) + byte_planes.deflate(plain) if plain else b""


def decode(body: bytes) -> list[str]:
    """Raises Damage, UnicodeDecodeError or zlib.error."""
    if not body:
        return []
    outside = Cursor(body)
    size = outside.number()
    if size > MOST_BYTES:
        raise Damage(f"{size} bytes of reasons")
    cursor = Cursor(byte_planes.inflate(outside.rest(), size))
    found: list[str] = []
    while not cursor.done:
        found.append(cursor.sized().decode(_ENCODING, _ERRORS))
    return found
