"""Primary keys computed from devices, days and hours, so that no table needs an index."""

from meterd.store.blocks.slicing import DAY, HOUR

DEVICE_BITS = 14
DAY_BITS = 20
MOST_DEVICES = 1 << DEVICE_BITS
MOST_TIME = 253_402_300_800_000  # Unix ms; the year 10000
MOST_BLOCK_ID = MOST_TIME << DEVICE_BITS


def block_id(device: int, time: int) -> int:
    """The key of the block that begins in the hour of `time` (Unix ms)."""
    return (time - time % HOUR) << DEVICE_BITS | device


def block_ids(device: int, day: int) -> list[int]:
    """Every key that a block of this UTC day may have."""
    return [block_id(device, day * DAY + number * HOUR) for number in range(24)]


def block_hour(key: int) -> int:
    """The hour in which a block begins, as Unix ms: what its key says."""
    return key >> DEVICE_BITS


def dirty_id(device: int, day: int) -> int:
    return day << DEVICE_BITS | device


def dirty_of(key: int) -> tuple[int, int]:
    """(device, day)."""
    return key & ((1 << DEVICE_BITS) - 1), key >> DEVICE_BITS


def rollup_id(one: int, day: int) -> int:
    return one << DAY_BITS | day


def series_day(key: int) -> tuple[int, int]:
    """(series, day) of a roll-up."""
    return key >> DAY_BITS, key & ((1 << DAY_BITS) - 1)


def hour_id(one: int, number: int) -> int:
    return number << 32 | one
