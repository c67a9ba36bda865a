"""What others make up - texts, names, codes, addresses - is remembered within bounds."""

import gc
import logging
import sys
from collections.abc import Callable, Iterator

import pytest

from meterd.daemon.metrics import MOST_CODES, DaemonMetrics
from meterd.daemon.service import ContainedDriver, ContainedSink
from meterd.errors import DeviceError
from meterd.model.clock import SystemClock
from meterd.model.sample import Fault, Poll, Reading, failed
from meterd.poll.normalise import Normaliser
from meterd.proxy.proxied_meter import ProxyRoute
from meterd.proxy.server import Proxy


def size(root: object) -> int:
    """Bytes of an object and of all that hangs on it alone, about."""
    seen, waiting, total = {id(sys.modules)}, [root], 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, (type, type(sys), type(size))):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        waiting += gc.get_referents(one)
    return total


class Babbling:
    """Fails, or measures, with ever new words."""

    def __init__(self) -> None:
        self.number = 0

    def take(self, poll: Poll) -> None:
        self.number += 1
        raise ValueError(f"no such thing: {self.number} of {poll.time}")

    async def read(self) -> list[Reading]:
        self.number += 1
        raise ValueError(f"no such thing: {self.number}")


def sink() -> Iterator[object]:
    contained = ContainedSink(Babbling())
    yield contained
    while True:
        contained.take(failed("m", 1, Fault("timeout", "")))
        yield contained


def daemon_metrics() -> Iterator[object]:
    found, number = DaemonMetrics(), 0
    yield found
    while True:
        number += 1
        found.take(failed("m", 1, Fault(f"code {number}", "")))
        yield found


def normaliser() -> Iterator[object]:
    found, number = Normaliser("m"), 0
    yield found
    while True:
        number += 1
        found.poll([Reading(f"no such quantity {number}", 1.0, "V")], 1, 0.0)
        found.notices.clear()
        yield found


def lanes() -> Iterator[object]:
    number = 0

    def way(device: str) -> ProxyRoute | None:
        raise NotImplementedError(device)

    proxy = Proxy({}, way, clock=SystemClock(), max_age=1.0)
    yield proxy
    while True:
        number += 1
        proxy._queue_of(f"tcp://192.0.2.1:{number}")
        yield proxy


@pytest.mark.parametrize("made", [sink, daemon_metrics, normaliser, lanes])
def test_ever_new_words_do_not_grow_the_memory(
    made: Callable[[], Iterator[object]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    steps = made()
    for _ in range(250):
        found = next(steps)
    before = size(found)
    for _ in range(400):
        found = next(steps)
    assert size(found) < before + 15_000


async def test_a_bug_is_told_once_for_each_place_whatever_it_says(
    caplog: pytest.LogCaptureFixture,
) -> None:
    contained, babbling = ContainedSink(Babbling()), ContainedDriver("m", Babbling())
    for _ in range(100):
        contained.take(failed("m", 1, Fault("timeout", "")))
        with pytest.raises(DeviceError, match="no such thing"):
            await babbling.read()
    assert len(caplog.records) == 2


def test_codes_of_faults_are_counted_one_by_one_up_to_a_bound() -> None:
    found = DaemonMetrics()
    for number in range(200):
        found.take(failed("m", 1, Fault(f"code {number}", "")))
    found.take(failed("n", 1, Fault("timeout", "")))
    assert found.faults["m", "code 0"] == 1
    assert found.faults["m", "other"] == 200 - MOST_CODES
    assert found.faults["n", "timeout"] == 1
