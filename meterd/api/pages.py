"""Lists that can grow, a page at a time."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import BaseModel, Field

from meterd.api.problem import ApiRefusal
from meterd.api.problem_code import ProblemCode
from meterd.api.query import ApiQuery, Count

_LONGEST = 1000

_T = TypeVar("_T")


class PageQuery(ApiQuery):
    limit: Count | None = Field(None, description="The most entries to answer with; absent: all")
    cursor: str | None = Field(
        None, description="Where to go on: `next` of the answer before", max_length=_LONGEST
    )


class Page(BaseModel):
    """Base of answers with a list."""

    next: str | None = Field(description="The cursor of what follows; null at the end")


def cut(
    items: Sequence[_T], query: PageQuery, key: Callable[[_T], str]
) -> tuple[Sequence[_T], str | None]:
    """A page, and the cursor of the next; `key` identifies items. Raises ApiRefusal."""
    start = 0
    if query.cursor is not None:
        last = _opened(query.cursor)
        places = [place for place, one in enumerate(items) if key(one) == last]
        if not places:
            detail = "the list has changed, and this cursor's place is gone"
            hint = "begin anew, without a cursor"
            raise ApiRefusal(422, ProblemCode.CURSOR_GONE, detail, hint=hint, parameter="cursor")
        start = places[0] + 1
    end = len(items) if query.limit is None else start + query.limit
    more = end < len(items)
    return items[start:end], _sealed(key(items[end - 1])) if more else None


def _sealed(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _opened(cursor: str) -> str:
    try:
        return base64.b64decode(cursor, b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        hint = "take `next` of the answer before as it is"
        detail = "this is no cursor"
        raise ApiRefusal(
            400, ProblemCode.BAD_CURSOR, detail, hint=hint, parameter="cursor"
        ) from error
