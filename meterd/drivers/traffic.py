"""Foreign traffic as Modbus drivers report it: notices, a reading, and the repetition of a poll."""

import functools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from meterd.model.columns import Columns
from meterd.model.event import Notice
from meterd.model.sample import Reading
from meterd.wire.modbus import ModbusClient


class _Meter(Protocol):
    """A driver with one Modbus client."""

    _listener: ModbusClient
    notices: list[Notice]
    _poll: int


M = TypeVar("M", bound=_Meter)


def with_traffic(
    read: Callable[[M], Coroutine[Any, Any, Sequence[Reading]]],
) -> Callable[[M], Coroutine[Any, Any, Sequence[Reading]]]:
    """Decorates a driver's `read`: adds what the client noticed of foreign traffic on its link.

    Where replies of a poll turn out to be possibly another master's, the whole poll is repeated,
    with the confirmations that the client now asks for.
    """

    @functools.wraps(read)
    async def read_with_traffic(meter: M) -> Sequence[Reading]:
        client = meter._listener
        try:
            suspect_count = client.suspect_count
            readings = await read(meter)
            if client.suspect_count != suspect_count:
                meter._poll = 0
                readings = await read(meter)
        finally:
            if notices := client.notices():
                meter.notices += notices
        if link_readings := client.readings():
            if not isinstance(readings, Columns):
                return [*readings, *link_readings]
            readings = Columns.joined([readings, Columns.of(link_readings)])
        return readings

    return read_with_traffic
