"""Corrections: intervals that somebody marked as invalid or set, with who and why; and back."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from meterd.api import body, lookups
from meterd.api.answer import ApiAnswer, ApiCall, as_json
from meterd.api.body import Body, PlainText
from meterd.api.problem import ApiRefusal, quote
from meterd.api.problem_code import ProblemCode
from meterd.api.query import BodyMoment, Name, NoQuery
from meterd.api.times import rfc3339
from meterd.api.uninterrupted import unbroken
from meterd.store.tools.correct import (
    LONGEST_WHO,
    LONGEST_WHY,
    Ask,
    Correction,
    NothingThereError,
    UnfitError,
)

_SOMEBODY = "somebody on this machine"

_T = TypeVar("_T")


class CorrectionRow(BaseModel):
    id: int
    device: str
    quantity: str
    start: str = Field(description="RFC 3339 UTC")
    end: str = Field(description="RFC 3339 UTC, the first moment after it")
    samples: int = Field(description="How many were marked or set")
    value: float | None = Field(None, description="What was entered; null where they were marked")
    why: str
    who: str
    made: str
    state: str = Field(description="marked, set, undone, or unfinished: broken off on the way")
    undone: str | None = None
    undone_by: str | None = None
    lost: int | None = Field(
        None, description="Samples that were deleted (store.keep.raw) before they could come back"
    )


class CorrectionList(BaseModel):
    corrections: list[CorrectionRow] = Field(description="The newest first")


class Marking(Body):
    """The body of a POST. With a `value` the samples get it, `estimated`; else they become
    `invalid`.
    """

    device: Name
    quantity: Name
    start: BodyMoment
    end: BodyMoment
    why: PlainText = Field(min_length=1, max_length=LONGEST_WHY)
    who: PlainText = Field("", max_length=LONGEST_WHO)
    value: float | None = Field(None, allow_inf_nan=False, description="The right one")
    unit: PlainText = Field("", max_length=32, description="Of the value; else the series' own")

    @field_validator("why")
    @classmethod
    def _check_why(cls, why: str, info: ValidationInfo) -> str:
        if not why.strip():
            raise ValueError("is empty: say what was wrong with these values")
        return why.strip()


class Undoing(Body):
    """The optional body of an undoing."""

    who: PlainText = Field("", max_length=LONGEST_WHO)


async def list_all(call: ApiCall, query: NoQuery) -> ApiAnswer:
    return as_json(
        {"corrections": [row_of(correction) for correction in await call.site.corrections.all()]}
    )


async def mark(call: ApiCall, query: NoQuery) -> ApiAnswer:
    """Every valid sample of the interval becomes invalid, or all get a value; the old are kept."""
    marking = body.read(Marking, call)
    if marking.start >= marking.end or marking.end > call.now:
        detail = "start has to lie before end, and end may not lie in the future"
        raise ApiRefusal(422, ProblemCode.BAD_RANGE, detail, parameter="end")
    stored = await call.site.reader.series()
    lookups.need_devices([marking.device], {info.device for info in stored}, call.site)
    mine = {info.quantity for info in stored if info.device == marking.device}
    lookups.need_quantities([marking.quantity], mine)
    who = call.who or marking.who or _SOMEBODY
    if marking.unit and marking.value is None:
        detail = "a unit is that of a value, and there is none"
        raise ApiRefusal(422, ProblemCode.BAD_BODY, detail, parameter="unit")
    ask = Ask(
        marking.device,
        marking.quantity,
        marking.start,
        marking.end,
        marking.why,
        who[:LONGEST_WHO],
        marking.value,
        marking.unit,
    )
    return as_json(row_of(await _done(call.site.corrections.mark(ask, call.now))))


async def undo(call: ApiCall, query: NoQuery) -> ApiAnswer:
    number = call.path["id"]
    if not number.isdecimal() or len(number) > 9:
        raise ApiRefusal(
            404, ProblemCode.UNKNOWN_CORRECTION, f"there is no correction {quote(number)}"
        )
    undoing = body.read(Undoing, call)
    who = call.who or undoing.who or _SOMEBODY
    return as_json(row_of(await _done(call.site.corrections.undo(int(number), who, call.now))))


def row_of(correction: Correction) -> dict[str, Any]:
    """The row that is served."""
    return {
        "id": correction.id,
        "device": correction.device,
        "quantity": correction.quantity,
        "start": rfc3339(correction.start),
        "end": rfc3339(correction.end),
        "samples": correction.n,
        "value": correction.value,
        "why": correction.why,
        "who": correction.who,
        "made": rfc3339(correction.made),
        "state": correction.state,
        "undone": None if correction.undone is None else rfc3339(correction.undone),
        "undone_by": correction.undone_by,
        "lost": correction.lost,
    }


async def _done(work: Coroutine[Any, Any, _T]) -> _T:
    try:
        return await unbroken(work, "GET corrections")
    except NothingThereError as error:
        hint = "see GET corrections, and GET range with step=raw"
        raise ApiRefusal(404, ProblemCode.UNKNOWN_CORRECTION, str(error), hint=hint) from error
    except UnfitError as error:
        raise ApiRefusal(422, ProblemCode.BAD_CORRECTION, str(error)) from error
