"""Keys that are computed from devices, days and hours, so that no table needs an index."""

from meterd.store.cuts import DAY, HOUR

_DEVICE_BITS = 14
_SERIES_BITS = 20


def block_id(device: int, time: int) -> int:
    """The key of the block that begins in the hour of `time` (Unix ms)."""
    return (time - time % HOUR) << _DEVICE_BITS | device


def block_ids(device: int, day: int) -> list[int]:
    """Every key that a block of this UTC day may have."""
    return [block_id(device, day * DAY + number * HOUR) for number in range(24)]


def dirty_id(device: int, day: int) -> int:
    return day << _DEVICE_BITS | device


def dirty_of(key: int) -> tuple[int, int]:
    """(device, day)."""
    return key & ((1 << _DEVICE_BITS) - 1), key >> _DEVICE_BITS


def rollup_id(one: int, day: int) -> int:
    return one << _SERIES_BITS | day


def series_day(key: int) -> tuple[int, int]:
    """(series, day) of a roll-up."""
    return key >> _SERIES_BITS, key & ((1 << _SERIES_BITS) - 1)


def hour_id(one: int, number: int) -> int:
    return number << 32 | one
