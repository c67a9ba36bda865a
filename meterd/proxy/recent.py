"""What the link has just read from one meter, as long as it is fresh."""

from collections import OrderedDict

from meterd.model.clock import Clock
from meterd.proxy.frames import RegisterSpan

# Reads kept for one meter: more than any map has blocks; 64 of the longest are 16 KiB.
MOST_READS = 64


class Recent:
    """The last reads of one meter, whole: a value that spans two reads may be torn, so no
    answer is ever put together from two."""

    def __init__(self, clock: Clock, max_age: float) -> None:
        self._clock = clock
        self._max_age = max_age
        self._reads: OrderedDict[RegisterSpan, tuple[float, bytes]] = OrderedDict()

    def take(self, function: int, address: int, count: int, data: bytes) -> None:
        """A read that the meter has answered just now."""
        span = RegisterSpan(function, address, count)
        self._reads[span] = (self._clock.monotonic(), data)
        self._reads.move_to_end(span)
        if len(self._reads) > MOST_READS:
            self._reads.popitem(last=False)

    def find(self, span: RegisterSpan) -> bytes | None:
        """The newest data for this span, from one read not older than `max_age`."""
        oldest = self._clock.monotonic() - self._max_age
        for held, (time, data) in reversed(self._reads.items()):
            if time < oldest:
                return None
            if _covers(held, span):
                return _cut(held, data, span)
        return None


def _covers(held: RegisterSpan, span: RegisterSpan) -> bool:
    return held.function == span.function and held.address <= span.address and span.end <= held.end


def _cut(held: RegisterSpan, data: bytes, span: RegisterSpan) -> bytes:
    first = span.address - held.address
    if span.function > 2:
        return data[2 * first : 2 * (first + span.count)]
    # The lowest address is the lowest bit of the first byte.
    bits = int.from_bytes(data, "little") >> first & (1 << span.count) - 1
    return bits.to_bytes(-(-span.count // 8), "little")
