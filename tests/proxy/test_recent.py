"""What was just read is served while it is fresh, and only as it was read."""

import random

import pytest

from meterd.proxy.frames import RegisterSpan
from meterd.proxy.recent import MOST_READS, Recent
from meterd.testing import FakeClock

MAX_AGE = 2.0


def words(address: int, count: int, tag: int = 0) -> bytes:
    return b"".join((tag + address + i).to_bytes(2, "big") for i in range(count))


def recent() -> tuple[Recent, FakeClock]:
    clock = FakeClock()
    return Recent(clock, MAX_AGE), clock


def test_any_part_of_a_read_is_found() -> None:
    held, _ = recent()
    held.take(4, 100, 30, words(100, 30))
    for first in range(100, 130):
        for count in range(1, 131 - first):
            assert held.find(RegisterSpan(4, first, count)) == words(first, count)


@pytest.mark.parametrize("span", [(3, 100, 2), (4, 99, 2), (4, 129, 2), (4, 98, 50), (4, 200, 1)])
def test_what_was_not_read_is_not_found(span: tuple[int, int, int]) -> None:
    held, _ = recent()
    held.take(4, 100, 30, words(100, 30))
    assert held.find(RegisterSpan(*span)) is None


def test_nothing_is_put_together_from_two_reads() -> None:
    """A counter across their border could be half old and half new."""
    held, _ = recent()
    held.take(4, 0, 10, words(0, 10))
    held.take(4, 10, 10, words(10, 10))
    assert held.find(RegisterSpan(4, 9, 2)) is None
    assert held.find(RegisterSpan(4, 8, 2)) == words(8, 2)


def test_the_newest_read_counts() -> None:
    held, clock = recent()
    held.take(4, 0, 10, words(0, 10))
    clock.pass_by(1)
    held.take(4, 4, 2, words(4, 2, tag=1000))
    assert held.find(RegisterSpan(4, 4, 2)) == words(4, 2, tag=1000)
    held.take(4, 0, 10, words(0, 10, tag=2000))
    assert held.find(RegisterSpan(4, 4, 2)) == words(4, 2, tag=2000)


def test_nothing_older_than_max_age_is_found() -> None:
    held, clock = recent()
    held.take(4, 0, 10, words(0, 10))
    clock.pass_by(MAX_AGE)
    assert held.find(RegisterSpan(4, 0, 10)) is not None
    clock.pass_by(0.001)
    assert held.find(RegisterSpan(4, 0, 10)) is None


def test_ages_of_any_history() -> None:
    """Whatever is read in whatever order: what is found was read within max_age, newest first."""
    held, clock = recent()
    dice = random.Random(7)
    truth: list[tuple[float, RegisterSpan, int]] = []
    found = 0
    for tag in range(2000):
        clock.pass_by(dice.uniform(0, 0.3))
        span = RegisterSpan(4, dice.randrange(20), dice.randrange(1, 12))
        held.take(4, span.address, span.count, words(span.address, span.count, tag))
        truth.append((clock.now, span, tag))
        wanted = RegisterSpan(4, dice.randrange(20), dice.randrange(1, 6))
        fitting = [
            tag
            for time, old, tag in truth[-MOST_READS:]
            if clock.now - time <= MAX_AGE
            and old.address <= wanted.address
            and wanted.end <= old.end
        ]
        expected = words(wanted.address, wanted.count, fitting[-1]) if fitting else None
        assert held.find(wanted) == expected
        found += expected is not None
    assert 200 < found < 1900


@pytest.mark.parametrize("function", [1, 2])
def test_bits_are_cut_at_any_place(function: int) -> None:
    held, _ = recent()
    bits = [random.Random(3).getrandbits(1) for _ in range(37)]
    packed = sum(bit << place for place, bit in enumerate(bits)).to_bytes(5, "little")
    held.take(function, 50, 37, packed)
    for first in range(37):
        for count in range(1, 38 - first):
            expected = sum(bit << i for i, bit in enumerate(bits[first : first + count]))
            found = held.find(RegisterSpan(function, 50 + first, count))
            assert found == expected.to_bytes((count + 7) // 8, "little")
    assert held.find(RegisterSpan(3 - function, 50, 1)) is None


def test_the_reads_that_are_kept_are_bounded() -> None:
    held, _ = recent()
    for address in range(MOST_READS + 5):
        held.take(4, address, 1, words(address, 1))
    assert held.find(RegisterSpan(4, 4, 1)) is None
    assert held.find(RegisterSpan(4, 5, 1)) == words(5, 1)
