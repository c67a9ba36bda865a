"""Cache of the recent reads of one meter."""

from collections import OrderedDict

from meterd.model.clock import Clock
from meterd.proxy.frames import RegisterSpan

# Reads cached for one meter: more than any map has blocks; 64 of the longest are 16 KiB.
READS_MAX = 64


class ReadCache:
    """The last reads of one meter. A reply is never combined from two reads: a value across both
    could be torn. `max_age` is in seconds."""

    def __init__(self, clock: Clock, max_age: float) -> None:
        self._clock = clock
        self._max_age = max_age
        self._reads: OrderedDict[RegisterSpan, tuple[float, bytes]] = OrderedDict()

    def take(self, function: int, address: int, count: int, data: bytes) -> None:
        """Add a read that the meter has just replied to."""
        span = RegisterSpan(function, address, count)
        self._reads[span] = (self._clock.monotonic(), data)
        self._reads.move_to_end(span)
        if len(self._reads) > READS_MAX:
            self._reads.popitem(last=False)

    def find(self, span: RegisterSpan) -> bytes | None:
        """The data of this span from the newest read that covers it; None without a recent one."""
        oldest = self._clock.monotonic() - self._max_age
        for cached, (time, data) in reversed(self._reads.items()):
            if time < oldest:
                return None
            if _covers(cached, span):
                return _slice(cached, data, span)
        return None


def _covers(cached: RegisterSpan, span: RegisterSpan) -> bool:
    return (
        cached.function == span.function
        and cached.address <= span.address
        and span.end <= cached.end
    )


def _slice(cached: RegisterSpan, data: bytes, span: RegisterSpan) -> bytes:
    first = span.address - cached.address
    if span.function > 2:
        return data[2 * first : 2 * (first + span.count)]
    # The lowest address is the lowest bit of the first byte (Modbus V1.1b3, 6.1).
    bits = int.from_bytes(data, "little") >> first & (1 << span.count) - 1
    return bits.to_bytes(-(-span.count // 8), "little")
