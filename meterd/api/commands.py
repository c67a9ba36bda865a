"""Commands to devices: only those that the configuration allows, and whose driver knows them."""

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from meterd.api import body, lookups
from meterd.api.answer import ApiAnswer, ApiCall, as_json
from meterd.api.body import Body
from meterd.api.problem import ApiRefusal, quote
from meterd.api.problem_code import ProblemCode
from meterd.api.query import NoQuery
from meterd.api.times import rfc3339
from meterd.errors import DeviceError, LinkError

Command = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class CommandBody(Body):
    command: Command = Field(description="One of the device's `commands`, such as test.battery")


class Done(BaseModel):
    device: str
    command: str
    time: str = Field(description="When it was sent, RFC 3339")


async def send(call: ApiCall, query: NoQuery) -> ApiAnswer:
    """Waits for the poll under way, sends, and answers once the device has taken it."""
    device = call.path["id"]
    lookups.need_devices([device], lookups.ids(call.site), call.site)
    command = body.read(CommandBody, call).command
    allowed = next(one.commands for one in call.site.devices() if one.id == device)
    if command not in allowed:
        detail = f"{device} is not allowed to be sent {quote(command)}"
        hint = f"allow it in meterd.yaml: devices: {device}: commands: [{command}]"
        raise ApiRefusal(409, ProblemCode.COMMAND_NOT_ALLOWED, detail, hint=hint, allowed=allowed)
    try:
        await call.site.command(device, command)
    except LookupError:
        detail = f"the driver of {device} has no command {quote(command)}"
        hint = "the driver only reads" if not allowed else "see docs/api.md"
        raise ApiRefusal(409, ProblemCode.NO_SUCH_COMMAND, detail, hint=hint) from None
    except (LinkError, DeviceError) as error:
        detail = f"{device} did not take it: {error}"
        raise ApiRefusal(
            503, ProblemCode.COMMAND_FAILED, detail, headers={"Retry-After": "5"}
        ) from error
    return as_json({"device": device, "command": command, "time": rfc3339(call.now)})
