"""What a function of the API hands back: bytes with a media type, before HTTP gets hold of it."""

import json
import math
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from meterd.api.server_stats import ServerStats

if TYPE_CHECKING:
    from meterd.daemon.site import Site

JSON = "application/json"
EVENTS = "text/event-stream"

_WORD = (1 << 64) - 1


class ApiCall(NamedTuple):
    """One request as the resources see it; `now` is Unix ms, `accept` the Accept header.

    `body` is whole and at most LARGEST_BODY bytes, `media` its Content-Type; `who` is the name
    that logged in, "" where nobody had to; `base` is what stands before every path outside;
    `last_event` is the last event that a client of a stream has seen; `server_stats` is who is
    being served.
    """

    site: "Site"
    now: int
    path: Mapping[str, str]
    accept: str
    body: bytes = b""
    media: str = ""
    who: str = ""
    base: str = ""
    last_event: str = ""
    server_stats: ServerStats = ServerStats()


class ApiAnswer(NamedTuple):
    """A body and its media type. Errors are ApiRefusals."""

    body: bytes
    media: str = JSON
    headers: Mapping[str, str] = {}
    status: int = 200


class StreamedAnswer(NamedTuple):
    """An answer of any length: each part is made when the client took the one before it.

    An ApiRefusal or StoreError is still a problem while the first part is made; later it cuts the
    answer short, which the client notices. `parts` is closed whatever happens. `held` gives the
    bytes that the next parts are made of.
    """

    parts: AsyncIterator[bytes]
    media: str = JSON
    headers: Mapping[str, str] = {}
    held: Callable[[], int] = lambda: 0


class FollowingClient(NamedTuple):
    """A client that follows changes; empty names mean all."""

    devices: frozenset[str]
    quantities: frozenset[str]
    last_event: str


def encode(data: Any) -> bytes:
    """JSON without spaces; NaN and infinities become null."""
    try:
        return orjson.dumps(data)
    except TypeError:
        # A lone surrogate can come out of a device's texts: it must not break the answer.
        text = json.dumps(_finite(data), separators=(",", ":"), ensure_ascii=False)
        return text.encode(errors="replace")


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return data


def as_json(data: Any, status: int = 200) -> ApiAnswer:
    return ApiAnswer(encode(data), status=status)


def tagged(body: bytes) -> ApiAnswer:
    """JSON with an ETag of its content."""
    # Python's own hash is keyed anew at each start, and costs a third of any cryptographic one.
    digest = f"{len(body):x}-{hash(body) & _WORD:x}"
    # Weak: the same answer with gzip has other bytes.
    return ApiAnswer(body, headers={"ETag": f'W/"{digest}"', "Cache-Control": "no-cache"})
