"""What a function of the API hands back: bytes with a media type, before HTTP gets hold of it."""

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from meterd.api.site import Site

JSON = "application/json"

# Made once: json.dumps would make an encoder for each answer.
_encode = json.JSONEncoder(
    separators=(",", ":"), allow_nan=False, ensure_ascii=False, check_circular=False
).encode


class Call(NamedTuple):
    """One request as the resources see it; `now` is Unix ms, `accept` the Accept header.

    `body` is whole and at most LARGEST_BODY bytes, `media` its Content-Type; `who` is the name
    that logged in, "" where nobody had to; `base` is what stands before every path outside.
    """

    site: Site
    now: int
    path: Mapping[str, str]
    accept: str
    body: bytes = b""
    media: str = ""
    who: str = ""
    base: str = ""


class Answer(NamedTuple):
    """A body and its media type; every answer has status 200, all else is a Refusal."""

    body: bytes
    media: str = JSON
    headers: Mapping[str, str] = {}


def encode(data: Any) -> bytes:
    """JSON without spaces; what is no number (NaN, infinities) becomes null."""
    try:
        text = _encode(data)
    except ValueError:
        text = _encode(_finite(data))
    # A lone surrogate can come out of a device's texts: it must not break the answer.
    return text.encode(errors="replace")


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return data


def as_json(data: Any) -> Answer:
    return Answer(encode(data))
