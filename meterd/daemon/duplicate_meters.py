"""Finds devices that are one and the same meter: by serial number, or by equal counters."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from meterd.config.codes import WarningCode
from meterd.daemon.config_warnings import ConfigWarning, PolledDevice, is_one, listed, members_of
from meterd.daemon.link_plan import Built
from meterd.model.quantity import GUARDED, Kind, describe
from meterd.model.sample import Poll

# Texts that are no serial number: none, zeros, erased memory, one character again and again.
_NO_SERIAL = re.compile(r"[\s0.\-]*|(.)\1*|n/?a|none|unknown|(ff|FF)+", re.IGNORECASE)
# A counter below this says nothing, in Wh, varh or VAh: new meters are much alike.
_LEAST = 10_000.0
# Two reads of one counter may differ by what flows meanwhile, by this and by this part of it.
_STEP, _PART = 1.0, 1e-6
_AGAIN = 2.0
# So many counters are shown of those that stand alike.
_SHOWN = 3


def twins(built: Sequence[Built], polls: Sequence[Poll]) -> Iterator[ConfigWarning]:
    """Devices with one serial number, or without one, with equal counters."""
    members = {member.name: member for member in members_of(built)}
    up = [poll for poll in polls if poll.up and poll.device in members]
    by_serial: dict[str, list[Poll]] = {}
    for poll in up:
        if serial := _serial(poll):
            by_serial.setdefault(serial, []).append(poll)
    for serial, sharing in by_serial.items():
        yield from _one_number(serial, sharing, members)
    yield from _same_counters([poll for poll in up if not _serial(poll)], members)


def _serial(poll: Poll) -> str:
    """The serial number with its manufacturer; empty where the device has none."""
    number = poll.info.get("info.serial_number", "").strip()
    if _NO_SERIAL.fullmatch(number):
        return ""
    return number


def _one_number(
    serial: str, polls: Sequence[Poll], members: Mapping[str, PolledDevice]
) -> Iterator[ConfigWarning]:
    for number, poll in enumerate(polls):
        member = members[poll.device]
        same_serial = [
            other
            for other in polls[:number]
            if not _are_parts(members[other.device], member) and _one_maker(other, poll)
        ]
        if not same_serial:
            continue
        names = listed([other.device for other in same_serial])
        path = ("devices", poll.device)
        if any(_stand_alike(other, poll) is False for other in same_serial):
            text = (
                f"devices.{poll.device}: it says the same serial number {serial!r} as {names}, "
                "and its counters differ: circuits of one meter, or a number that stands twice"
            )
            hint = "if they are not circuits of one meter, look at `unit:` and `link:` of both"
        else:
            text = (
                f"devices.{poll.device}: it is the same meter as {names}: "
                f"both say the serial number {serial!r}"
            )
            hint = "one of them leads to the wrong meter: look at `unit:` and `link:` of both"
        yield ConfigWarning(path, WarningCode.SAME_METER, text, hint)


def _one_maker(poll: Poll, other: Poll) -> bool:
    """Numbers of two makers, or of two models, have nothing to do with each other."""
    return all(
        poll.info[name] == other.info[name]
        for name in ("info.manufacturer", "info.model")
        if name in poll.info and name in other.info
    )


def _is_one_unit(device: PolledDevice, other: PolledDevice) -> bool:
    """Whether both mean to read one unit: each another part of it, or it was told already."""
    return device.place == other.place and device.unit is not None and device.unit == other.unit


def _are_parts(device: PolledDevice, other: PolledDevice) -> bool:
    """Whether both mean to read one unit, each another part of it."""
    return _is_one_unit(device, other) and not is_one(device, other)


def _same_counters(
    polls: Sequence[Poll], members: Mapping[str, PolledDevice]
) -> Iterator[ConfigWarning]:
    """Of meters that say no number: those whose counters stand at the same."""
    ranked = sorted(
        (poll for poll in polls if _counters(poll)), key=lambda p: max(_counters(p).values())
    )
    for earlier, later in pairwise(ranked):
        first, second = sorted((earlier, later), key=polls.index)
        pair = members[first.device], members[second.device]
        if _stand_alike(earlier, later) and not _is_one_unit(*pair):
            readings = ", ".join(
                f"{name} {value / 1000:.12g} k{described.unit}"
                for name, value in list(_counters(second).items())[:_SHOWN]
                if (described := describe(name)) is not None
            )
            text = (
                f"devices.{second.device}: it is probably the same meter as {first.device}: "
                f"their counters stand at the same ({readings})"
            )
            hint = "look at `unit:` and `link:` of both"
            yield ConfigWarning(("devices", second.device), WarningCode.SAME_METER, text, hint)


def _counters(poll: Poll) -> dict[str, float]:
    """The energy counters that say something, by quantity."""
    readings = {}
    for quantity, value in zip(poll.layout.quantities, poll.values, strict=True):
        described = describe(quantity)
        if described is None or described.kind is not Kind.COUNTER or quantity.startswith(GUARDED):
            continue
        if value is not None and value >= _LEAST:
            readings[quantity] = value
    return readings


def _stand_alike(first: Poll, second: Poll) -> bool | None:
    """Whether all counters of both are equal; None where there is none to compare."""
    mine, theirs = _counters(first), _counters(second)
    common = mine.keys() & theirs.keys()
    if not common:
        return None
    hours = abs(first.time - second.time) / 3_600_000
    power = max(abs(poll.value("active_power") or 0.0) for poll in (first, second))
    return all(
        abs(mine[name] - theirs[name]) <= power * hours * _AGAIN + _STEP + mine[name] * _PART
        for name in common
    )
