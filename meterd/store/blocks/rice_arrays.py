"""Rice codes of many bodies as one numpy array, for readers: what rice.py writes."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from meterd.store.blocks import byte_planes, rice
from meterd.store.blocks.rice import RiceCode
from meterd.store.blocks.varint import Damage

Numbers: TypeAlias = "NDArray[np.int64]"


def decode(bodies: Sequence[bytes], counts: Sequence[int]) -> Numbers:
    """The numbers of all bodies, one after the other; `counts`: of each. Raises Damage."""
    offsets = np.concatenate(([0], np.cumsum(np.asarray(counts, np.int64)))).astype(np.int64)
    numbers = np.zeros(int(offsets[-1]), dtype=np.int64)
    groups: dict[tuple[int, int], tuple[list[int], list[RiceCode]]] = {}
    for row, (body, count) in enumerate(zip(bodies, counts, strict=True)):
        code = rice.cut(body, count)
        if code.k == rice.PLANES:
            planes = byte_planes.unpack(code.low, count)
            numbers[offsets[row] : offsets[row + 1]] = np.frombuffer(planes, planes.typecode)
        elif code.k != rice.ZEROS:
            rows, codes = groups.setdefault((code.k, count), ([], []))
            rows.append(row)
            codes.append(code)
    for (k, count), (rows, codes) in groups.items():
        places = offsets[rows][:, np.newaxis] + np.arange(count)
        numbers[places] = _quotients(codes, count) << k | _low_bits(codes, k, count)
    return numbers


def zagzig(numbers: Numbers) -> Numbers:
    """0, 1, 2, 3, … become 0, -1, 1, -2, …"""
    return numbers >> 1 ^ -(numbers & 1)


def _low_bits(codes: Sequence[RiceCode], k: int, count: int) -> Numbers:
    if not k:
        return np.zeros((len(codes), count), np.int64)
    packed = np.frombuffer(b"".join([code.low for code in codes]), np.uint8)
    bits = np.unpackbits(packed.reshape(len(codes), -1), axis=1)[:, : k * count]
    weights = np.left_shift(np.int64(1), np.arange(k - 1, -1, -1, dtype=np.int64))
    return np.asarray(bits.reshape(len(codes), count, k) @ weights)


def _quotients(codes: Sequence[RiceCode], count: int) -> Numbers:
    """A row for each code: the zeros before each of its ones."""
    sizes = np.array([len(code.quotients) for code in codes], np.int64)
    bits = np.unpackbits(np.frombuffer(b"".join([code.quotients for code in codes]), np.uint8))
    ones = np.flatnonzero(bits)
    ends = 8 * np.cumsum(sizes)
    starts = ends - 8 * sizes
    if len(ones) != len(codes) * count:
        raise Damage(f"{len(ones)} Rice codes where {len(codes) * count} are due")
    rows = ones.reshape(len(codes), count)
    if (rows[:, 0] < starts).any() or (rows[:, -1] >= ends).any():
        raise Damage("Rice codes end too early or too late")
    return np.diff(rows, axis=1, prepend=starts[:, np.newaxis] - 1) - 1
