"""Any bit of any record, in memory: what is lost, what comes back, and what is no damage."""

import os
import random
from collections.abc import Iterator
from itertools import accumulate, pairwise

import pytest

from meterd.store.wal.scanner import DamagedRange, Record, encode_record, scan

SEED = 7


@pytest.fixture
def file() -> Iterator[int]:
    made = os.memfd_create("records")
    yield made
    os.close(made)


def scanned(file: int, data: bytes) -> tuple[list[int], list[int]]:
    """Numbers of the records that come back, and of those that are lost."""
    os.ftruncate(file, 0)
    os.pwrite(file, data, 0)
    items = list(scan(file, 0, len(data), SEED))
    lost = [
        n for one in items if isinstance(one, DamagedRange) for n in range(one.first, one.last + 1)
    ]
    return [one.number for one in items if isinstance(one, Record)], lost


def bodies(count: int, seed: int) -> list[bytes]:
    said = random.Random(seed)
    zeros = [bytes(said.randrange(30)) for _ in range(count)]
    return [said.choice((said.randbytes(said.randrange(40)), zeros[n])) for n in range(count)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("behind", [b"", bytes(200), b"\xa5" * 200])
def test_any_flipped_bit_loses_the_record_it_is_in(file: int, behind: bytes, seed: int) -> None:
    some = bodies(9, seed)
    records = [encode_record(number, body, SEED) for number, body in enumerate(some, 1)]
    data = b"".join(records) + behind
    at = 0
    for number, record in enumerate(records, 1):
        for bit in range(8 * at, 8 * (at + len(record))):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            left, lost = scanned(file, bytes(changed))
            assert (lost, left) == ([number], [n for n in range(1, 10) if n != number])
        at += len(record)


def test_a_damaged_stretch_loses_what_it_touches(file: int) -> None:
    said = random.Random(2)
    some = bodies(30, 4)
    records = [encode_record(number, body, SEED) for number, body in enumerate(some, 1)]
    data, ends = b"".join(records), list(accumulate(map(len, records), initial=0))
    for _ in range(300):
        start = said.randrange(ends[-2])
        stop = min(start + said.randrange(1, 200), ends[-2])
        # A flash page that is gone: zeros, ones, or anything.
        junk = said.choice((bytes(stop - start), b"\xff" * (stop - start)))
        junk = said.choice((junk, said.randbytes(stop - start)))
        changed = data[:start] + junk + data[stop:]
        left, lost = scanned(file, changed)
        touched = [n for n, (a, b) in enumerate(pairwise(ends), 1) if changed[a:b] != data[a:b]]
        assert set(touched) <= set(lost)
        assert left == [n for n in range(1, 31) if n not in lost]
        # Records between two damaged ones come back, too.
        assert lost == touched


def test_what_was_cut_off_is_no_damage(file: int) -> None:
    records = [encode_record(number, body, SEED) for number, body in enumerate(bodies(5, 1), 1)]
    data, ends = b"".join(records), list(accumulate(map(len, records)))
    for length in range(len(data) + 1):
        for behind in (b"", bytes(60)):
            left, lost = scanned(file, data[:length] + behind)
            assert lost == []
            assert left[: len(left)] == list(range(1, len(left) + 1))
            assert len(left) >= sum(end <= length for end in ends)


def test_another_seed_or_an_older_number_is_never_found(file: int) -> None:
    mine = [encode_record(number, b"mine", SEED) for number in (1, 2)]
    others = [encode_record(number, b"other", SEED - 2) for number in (3, 4, 5)]
    older = [encode_record(number, b"older", SEED) for number in (1, 2)]
    assert scanned(file, b"".join((*mine, *others, *older))) == ([1, 2], [])
