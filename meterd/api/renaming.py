"""A device's other name, and a meter in the place of another: the history goes on."""

from collections.abc import Coroutine
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, Field

from meterd.api import body
from meterd.api.answer import ApiAnswer, ApiCall, as_json
from meterd.api.body import Body, PlainText
from meterd.api.problem import ApiRefusal
from meterd.api.problem_code import ProblemCode
from meterd.api.query import BodyMoment, NoQuery
from meterd.api.times import rfc3339
from meterd.api.uninterrupted import unbroken
from meterd.config.names import DeviceId
from meterd.errors import GeneralCode, MeterdError, StoreError
from meterd.store.tools.correct import LONGEST_WHO

if TYPE_CHECKING:
    from meterd.daemon.replacing import Replaced

# How an error of the site is answered: status, code, hint.
_ANSWERS: dict[StrEnum, tuple[int, ProblemCode, str]] = {
    GeneralCode.UNKNOWN_DEVICE: (
        404,
        ProblemCode.UNKNOWN_DEVICE,
        "see GET devices and GET series",
    ),
    GeneralCode.DEVICE_EXISTS: (
        409,
        ProblemCode.DEVICE_EXISTS,
        "choose a name that no device has, nor any in the store",
    ),
    GeneralCode.NOT_REPLACED: (
        409,
        ProblemCode.NOT_REPLACED,
        "see when its counters were first read: GET series",
    ),
}

_T = TypeVar("_T")


class Renaming(Body):
    name: DeviceId = Field(description="What the device is called from now on")
    merge: bool = Field(
        False,
        description="Another device of the store may have that name, if it was polled only before "
        "or only after this one: the two become one, for good",
    )
    who: PlainText = Field("", max_length=LONGEST_WHO)


class Renamed(BaseModel):
    device: str = Field(description="Its name now")
    was: str = Field(description="Its name before, which means it until another device has it")
    time: str = Field(description="When it was renamed, RFC 3339")


class Replacing(Body):
    at: BodyMoment = Field(description="Since when another meter is read: RFC 3339, Unix s, now-2h")
    undo: bool = Field(False, description="It was no other meter at that time after all")
    who: PlainText = Field("", max_length=LONGEST_WHO)


class ReplacedMeter(BaseModel):
    device: str
    at: str = Field(description="RFC 3339")
    replaced: bool = Field(description="False where it was undone")
    totals: int = Field(description="Guarded totals that changed")
    events: list[str] = Field(description="What else was noticed in the counters since then")


def row(old: str, new: str, now: int) -> dict[str, Any]:
    """The row that is served; `now` is Unix ms."""
    return {"device": new, "was": old, "time": rfc3339(now)}


async def rename(call: ApiCall, query: NoQuery) -> ApiAnswer:
    """Also a device that only the store knows."""
    said = body.read(Renaming, call)
    site, old = call.site, call.path["id"]
    who = call.who or said.who
    await _done(site.rename(old, said.name, who, merge=said.merge))
    return as_json(row(old, said.name, call.now))


async def replace(call: ApiCall, query: NoQuery) -> ApiAnswer:
    """Nothing is booked across; guarded totals since then are counted anew."""
    said = body.read(Replacing, call)
    if said.at > call.now:
        detail = "at may not lie in the future"
        raise ApiRefusal(422, ProblemCode.BAD_RANGE, detail, parameter="at")
    site, device = call.site, call.path["id"]
    who = call.who or said.who
    found = await _done(site.replace(device, said.at, who, undo=said.undo))
    return as_json(replaced_row(device, said.at, found, undo=said.undo))


def replaced_row(device: str, at: int, found: "Replaced", *, undo: bool) -> dict[str, Any]:
    """The row that is served; `at` is Unix ms."""
    head = {"device": device, "at": rfc3339(at), "replaced": not undo}
    return {**head, "totals": found.written, "events": list(found.events)}


async def _done(work: Coroutine[Any, Any, _T]) -> _T:
    """Runs the work. Raises ApiRefusal, StoreError."""
    try:
        return await unbroken(work, "GET devices")
    except StoreError:
        raise
    except MeterdError as error:
        if error.code not in _ANSWERS:
            raise
        status, code, hint = _ANSWERS[error.code]
        raise ApiRefusal(status, code, str(error), hint=hint) from error
