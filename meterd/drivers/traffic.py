"""What a Modbus meter says of its link beside its values: whether somebody else asks there."""

import functools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from meterd.model.columns import Columns
from meterd.model.event import Notice
from meterd.model.sample import Reading
from meterd.wire.modbus import ModbusClient


class _Meter(Protocol):
    """A driver over one Modbus client."""

    _listener: ModbusClient
    notices: list[Notice]
    _poll: int


M = TypeVar("M", bound=_Meter)


def with_traffic(
    read: Callable[[M], Coroutine[Any, Any, Sequence[Reading]]],
) -> Callable[[M], Coroutine[Any, Any, Sequence[Reading]]]:
    """A driver's `read` that notices other traffic on its link.

    Where it turns out during a poll that answers before may have been somebody else's, all is
    asked once more, with the care that the link now takes.
    """

    @functools.wraps(read)
    async def careful(meter: M) -> Sequence[Reading]:
        client = meter._listener
        try:
            suspect_count = client.suspect_count
            said = await read(meter)
            if client.suspect_count != suspect_count:
                meter._poll = 0
                said = await read(meter)
        finally:
            if noticed := client.notices():
                meter.notices += noticed
        if beside := client.readings():
            if not isinstance(said, Columns):
                return [*said, *beside]
            said = Columns.joined([said, Columns.of(beside)])
        return said

    return careful
