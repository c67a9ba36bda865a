"""What a route is: a path, what may be asked there, and who answers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from meterd.api.answer import JSON, ApiAnswer, ApiCall, FollowingClient, StreamedAnswer
from meterd.api.query import ApiQuery, NoQuery

Scope = Literal["read", "admin", "command", "open"]
"""What a login has to allow; `open` asks for none."""


@dataclass(frozen=True, slots=True)
class Route:
    """One request that meterd answers.

    `answer` is the model of a JSON body, None for any other body. `refusals` are the statuses
    of the problems it may answer with besides those that every route may. `body` is the model
    of what a POST sends. `tagged` answers have an ETag. Routes that are not
    `listed` stay out of OpenAPI: the files of the page, which are no interface.
    Whatever changes something is no `read`.
    """

    path: str
    summary: str
    function: Callable[[ApiCall, Any], Awaitable[ApiAnswer | StreamedAnswer | FollowingClient]]
    answer: type[BaseModel] | None = None
    query: type[ApiQuery] = NoQuery
    method: str = "GET"
    media: tuple[str, ...] = (JSON,)
    body: type[BaseModel] | None = None
    status: int = 200
    tagged: bool = False
    refusals: tuple[int, ...] = (400,)
    listed: bool = True
    scope: Scope = "read"
