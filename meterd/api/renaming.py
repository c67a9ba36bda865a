"""A device's other name: its history goes with it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, cast

from pydantic import BaseModel, Field

from meterd.api import body
from meterd.api.answer import Answer, Call, as_json
from meterd.api.body import Body, PlainText
from meterd.api.problem import Refusal
from meterd.api.query import NoQuery
from meterd.api.times import rfc3339
from meterd.config.names import DeviceId
from meterd.errors import MeterdError, StoreError
from meterd.store.tools.correct import LONGEST_WHO

# The store's files are put in order first, which takes as long as what they hold.
_DEADLINE = 300.0
_STATUS = {"unknown_device": 404, "device_exists": 409}
_HINTS = {
    "unknown_device": "see GET devices and GET series",
    "device_exists": "choose a name that no device has, nor any in the store",
}


class RenamingSite(Protocol):
    """What can rename."""

    async def rename(self, old: str, new: str, who: str = "") -> None:
        """Raises MeterdError: unknown_device, device_exists; StoreError."""


class Renaming(Body):
    name: DeviceId = Field(description="What the device is called from now on")
    who: PlainText = Field("", max_length=LONGEST_WHO)


class Renamed(BaseModel):
    device: str = Field(description="Its name now")
    was: str = Field(description="Its name before, which means it until another device has it")
    time: str = Field(description="When it was renamed, RFC 3339")


def row(old: str, new: str, now: int) -> dict[str, Any]:
    """As it is served; `now` is Unix ms."""
    return {"device": new, "was": old, "time": rfc3339(now)}


async def rename(call: Call, query: NoQuery) -> Answer:
    """Also a device that only the store knows."""
    said = body.read(Renaming, call)
    site, old = cast("RenamingSite", call.site), call.path["id"]
    await done(site.rename(old, said.name, call.who or said.who))
    return as_json(row(old, said.name, call.now))


async def done(work: Coroutine[Any, Any, None]) -> None:
    """Shielded: a client that goes away leaves nothing half done. Raises Refusal, StoreError."""
    task = asyncio.create_task(work)
    try:
        async with asyncio.timeout(_DEADLINE):
            await asyncio.shield(task)
    except TimeoutError as error:
        detail = f"it takes longer than {_DEADLINE:g} s and goes on: see GET devices"
        raise Refusal(503, "slow", detail, headers={"Retry-After": "60"}) from error
    except StoreError:
        raise
    except MeterdError as error:
        if error.code not in _STATUS:
            raise
        hint = _HINTS[error.code]
        raise Refusal(_STATUS[error.code], error.code, str(error), hint=hint) from error
