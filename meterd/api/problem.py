"""What a client is told when it does not get what it asked for: application/problem+json."""

import difflib
import json
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel, Field

from meterd.api.problem_code import ProblemCode
from meterd.errors import MeterdError, StoreCode, StoreError

MEDIA = "application/problem+json"

# What a client sent is quoted up to here, so that an answer stays small.
_QUOTE = 80
# Longer lists of what is allowed are cut down to the near names.
_MOST_ALLOWED = 60


# What a client is told of a store that cannot answer; all else is STORE_UNAVAILABLE to it.
_STORE = {
    StoreCode.FULL: ProblemCode.STORE_FULL,
    StoreCode.CORRUPT: ProblemCode.STORE_CORRUPT,
    StoreCode.NEWER_SCHEMA: ProblemCode.STORE_NEWER_SCHEMA,
    StoreCode.ALREADY_RUNNING: ProblemCode.STORE_ALREADY_RUNNING,
    StoreCode.BUSY: ProblemCode.STORE_BUSY,
    StoreCode.CONFLICT: ProblemCode.STORE_CONFLICT,
    StoreCode.UNREACHABLE: ProblemCode.STORE_UNREACHABLE,
}

Named = Literal["device", "quantity", "rule", "tariff"]
"""What `unknown` may be about; each has its code UNKNOWN_…"""


class ProblemDetails(BaseModel):
    """RFC 9457, with a stable `code` for programs and a `hint` for people."""

    type: str = Field("about:blank", description="Always about:blank: `code` tells kinds apart")
    title: str = Field(description="The name of the HTTP status")
    status: int = Field(description="The HTTP status")
    detail: str = Field(description="What is wrong with this request")
    code: str = Field(description="A stable word for programs")
    hint: str | None = Field(None, description="What to do about it")
    allowed: list[str] | None = Field(None, description="What would have been accepted")
    parameter: str | None = Field(None, description="The query parameter at fault")


class ApiRefusal(MeterdError):  # noqa: N818 (it is a verdict, not a mishap)
    """The client has to change its request, or come back later where status is 503."""

    code: ProblemCode

    def __init__(
        self,
        status: int,
        code: ProblemCode,
        detail: str,
        *,
        hint: str = "",
        allowed: Iterable[str] = (),
        parameter: str = "",
        headers: dict[str, str] | None = None,
        challenges: Sequence[str] = (),
    ) -> None:
        super().__init__(detail, code=code)
        self.status = status
        self.hint = hint
        self.allowed = list(allowed)
        self.parameter = parameter
        self.headers = headers or {}
        # One WWW-Authenticate header each: clients err where several share one.
        self.challenges = tuple(challenges)

    def sentence(self) -> str:
        """The problem and its hint, for clients that show one text."""
        return f"{self}; {self.hint}" if self.hint else str(self)

    def body(self) -> bytes:
        """The problem as JSON."""
        problem: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": str(self),
            "code": self.code,
        }
        if self.hint:
            problem["hint"] = self.hint
        if self.allowed:
            problem["allowed"] = self.allowed
        if self.parameter:
            problem["parameter"] = self.parameter
        return json.dumps(problem).encode()


class ParameterError(ValueError):
    """Raised by validators of a parameter; becomes an ApiRefusal with the parameter's name."""

    def __init__(
        self, code: ProblemCode, why: str, *, hint: str = "", allowed: Sequence[str] = ()
    ) -> None:
        super().__init__(why)
        self.code = code
        self.hint = hint
        self.allowed = allowed


def quote(text: str) -> str:
    """What a client sent, safe and short enough to send back."""
    shown = repr(text)
    return shown if len(shown) <= _QUOTE else f"{shown[:_QUOTE]}…"


def unknown(
    what: Named, name: str, names: Iterable[str], *, near: Iterable[str] = (), parameter: str = ""
) -> ApiRefusal:
    """404 for a name that is not there, with those that are and those that look alike."""
    names = sorted(names)
    alike = difflib.get_close_matches(name[:_QUOTE], {*names, *near}, n=3)
    hint = f"did you mean {' or '.join(alike)}?" if alike else ""
    return ApiRefusal(
        404,
        ProblemCode(f"unknown_{what}"),
        f"there is no {what} {quote(name)}",
        hint=hint or (f"this site has no {what} yet" if not names else ""),
        allowed=names if len(names) <= _MOST_ALLOWED else alike,
        parameter=parameter,
    )


def of_store(error: StoreError) -> ApiRefusal:
    """A store that cannot answer: too much was asked, or it is not there now."""
    if error.code == StoreCode.TOO_MUCH:
        hint = "ask for a shorter range, a longer step or fewer series"
        return ApiRefusal(422, ProblemCode.TOO_MUCH, str(error), hint=hint)
    hint = "polling goes on; see /readyz and try again"
    code = _STORE.get(error.code, ProblemCode.STORE_UNAVAILABLE)
    return ApiRefusal(503, code, str(error), hint=hint, headers={"Retry-After": "5"})
