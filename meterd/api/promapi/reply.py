"""The shapes of Prometheus' answers: success around bytes of JSON, and errors with their codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from meterd.errors import MeterdError, StoreError
from meterd.promql.result import QueryError

MEDIA = "application/json"
TRUNCATED = "results truncated due to limit"

_STATUS = {
    "bad_data": 400,
    "not_found": 404,
    "execution": 422,
    "canceled": 499,
    "internal": 500,
    "timeout": 503,
    "unavailable": 503,
}


class Trouble(MeterdError):  # noqa: N818 (it is what the client reads)
    """A request that gets an error in Prometheus' shape; `kind` is its errorType."""

    def __init__(self, kind: str, text: str, *, status: int = 0) -> None:
        super().__init__(text, code=kind)
        self.status = status or _STATUS.get(kind, 500)


@dataclass(frozen=True, slots=True)
class PromReply:
    """A success: `data` is JSON already."""

    data: bytes
    warnings: Sequence[str] = ()
    infos: Sequence[str] = ()

    def body(self) -> bytes:
        parts = [b'{"status":"success","data":', self.data]
        for name, texts in ((b"warnings", self.warnings), (b"infos", self.infos)):
            if texts:
                parts += [b',"', name, b'":', orjson.dumps(list(texts))]
        return b"".join((*parts, b"}"))


def reply(data: Any, *, truncated: bool = False) -> PromReply:
    """Plain data as a success."""
    return PromReply(_json(data), (TRUNCATED,) if truncated else ())


def _json(data: Any) -> bytes:
    try:
        return orjson.dumps(data)
    except TypeError:
        # A lone surrogate can come out of a device's texts: it must not break the answer.
        from meterd.api.answer import encode

        return encode(data)


def error_body(trouble: Trouble) -> bytes:
    return _json({"status": "error", "errorType": trouble.code, "error": str(trouble)})


def of_query(error: QueryError) -> Trouble:
    """The engine's refusal. Parse errors name the parameter, as Prometheus does."""
    prefixed = error.kind == "bad_data" and "parse error" in str(error)
    return Trouble(error.kind, f'invalid parameter "query": {error}' if prefixed else str(error))


def of_store(error: StoreError) -> Trouble:
    """A store that cannot answer: too much was asked, or it is not there now."""
    return Trouble("execution" if error.code == "too_much" else "unavailable", str(error))
