"""The shapes of Prometheus' answers: success around bytes of JSON, and errors with their codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from meterd.errors import MeterdError, StoreCode, StoreError
from meterd.promql.result import PromErrorType, QueryError

MEDIA = "application/json"
TRUNCATED = "results truncated due to limit"

_STATUS = {
    PromErrorType.BAD_DATA: 400,
    PromErrorType.NOT_FOUND: 404,
    PromErrorType.EXECUTION: 422,
    PromErrorType.CANCELED: 499,
    PromErrorType.INTERNAL: 500,
    PromErrorType.TIMEOUT: 503,
    PromErrorType.UNAVAILABLE: 503,
}


class Trouble(MeterdError):  # noqa: N818 (it is what the client reads)
    """A request that gets an error in Prometheus' shape; the code is its errorType."""

    code: PromErrorType

    def __init__(self, code: PromErrorType, text: str, *, status: int = 0) -> None:
        super().__init__(text, code=code)
        self.status = status or _STATUS.get(code, 500)


@dataclass(frozen=True, slots=True)
class PromReply:
    """A success as JSON."""

    body: bytes

    @classmethod
    def of(
        cls, data: Sequence[bytes], warnings: Sequence[str] = (), infos: Sequence[str] = ()
    ) -> "PromReply":
        """`data` is JSON already, in parts."""
        parts = [b'{"status":"success","data":', *data]
        for name, texts in ((b"warnings", warnings), (b"infos", infos)):
            if texts:
                parts += [b',"', name, b'":', orjson.dumps(list(texts))]
        return cls(b"".join((*parts, b"}")))


def reply(data: Any, *, truncated: bool = False) -> PromReply:
    """Plain data as a success."""
    return PromReply.of((_json(data),), (TRUNCATED,) if truncated else ())


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
    prefixed = error.code == PromErrorType.BAD_DATA and "parse error" in str(error)
    return Trouble(error.code, f'invalid parameter "query": {error}' if prefixed else str(error))


def of_store(error: StoreError) -> Trouble:
    """A store that cannot answer: too much was asked, or it is not there now."""
    too_much = error.code == StoreCode.TOO_MUCH
    code = PromErrorType.EXECUTION if too_much else PromErrorType.UNAVAILABLE
    return Trouble(code, str(error))
