"""Validation of other packages' drivers: of the class when it is loaded, of the object when built.

Each mistake is one sentence for the driver's author: what is wrong, and how it is mended.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from meterd.model.driver import (
    DEVICE_KEYS,
    Commands,
    CounterRegisters,
    Notices,
    Quantities,
    UnitAddress,
)
from meterd.model.quantity import describe, suggest
from meterd.model.sample import CounterRegister, Quality, Reading
from meterd.wire.address import DRIVER_DEFAULTS

_OPTIONS = (
    "give it `Options`, a pydantic model of the device's own keys: "
    "`class Options(meterd.plugin.Options): ...`"
)
_READ = "write `async def read(self) -> list[Reading]`"
_STATIC = "make it a @staticmethod"


def class_mistake(loaded: Any) -> str:
    """What is wrong with what a driver's entry point leads to; empty where nothing is."""
    if not isinstance(loaded, type):
        return (
            f"is no class but a {type(loaded).__name__}; write the entry point `module:ClassName`"
        )
    if not hasattr(loaded, "Options"):
        return f"has no Options; {_OPTIONS}"
    if not _is_model(loaded.Options):
        return f"has Options that are no pydantic model; {_OPTIONS}"
    if taken := sorted(DEVICE_KEYS.intersection(_keys(loaded.Options))):
        return (
            f"has Options with {', '.join(taken)}, which every device has: take it out there "
            "(`timeout` comes to the driver as link.timeout)"
        )
    if not hasattr(loaded, "read"):
        return f"has no read; {_READ}"
    if not _is_async(loaded.read):
        return (
            f"has a read that is not async; {_READ} (meterd.plugin.BlockingCalls runs what blocks)"
        )
    if hasattr(loaded, "act") and not _is_async(loaded.act):
        return "has an act that is not async; write `async def act(self, command: str) -> None`"
    for name in ("build", "link_defaults", "states"):
        if not callable(getattr(loaded, name, callable)):
            return f"has {name}, and it cannot be called; {_STATIC}"
    return ""


def _is_model(options: object) -> bool:
    from pydantic import BaseModel

    return isinstance(options, type) and issubclass(options, BaseModel)


def _keys(options: Any) -> Iterator[str]:
    """The keys of a pydantic model as a person writes them."""
    return (field.alias or name for name, field in options.model_fields.items())


def _is_async(function: Any) -> bool:
    """Whether calling it gives an awaitable; True for callables that are no plain function."""
    inner = inspect.unwrap(function)
    return not inspect.isfunction(inner) or any(map(inspect.iscoroutinefunction, (function, inner)))


def object_mistake(driver: Any) -> str:
    """What is wrong with a driver that was built; empty where nothing is. Calls into it."""
    return next(_object_mistakes(driver), "")


def _object_mistakes(driver: Any) -> Iterator[str]:
    if not hasattr(driver, "read"):
        yield f"gives a {type(driver).__name__}, which has no read; {_READ}"
    if hasattr(driver, "act") != hasattr(driver, "commands"):
        has, lacks = ("act", "commands") if hasattr(driver, "act") else ("commands", "act")
        yield f"has {has} and no {lacks}: a driver that can do something has both"
    if isinstance(driver, Commands) and not _are_texts(driver.commands):
        yield "has commands that are no texts; write `commands = ('test.start',)`"
    if isinstance(driver, Notices) and not _is_a(list, driver.notices):
        yield "has notices that are no list; write `self.notices: list[Notice] = []` in __init__"
    if isinstance(driver, UnitAddress) and not _is_a(int, driver.unit):
        yield f"has the unit {driver.unit!r}; it is a whole number, or the driver has no `unit`"
    if isinstance(driver, CounterRegisters):
        yield from _counter_mistakes(driver.counters())
    if isinstance(driver, Quantities):
        yield from _name_mistakes("quantities", driver.quantities())


def _is_a(wanted: type, value: object) -> bool:
    return isinstance(value, wanted)


def _are_texts(values: object) -> bool:
    return (
        isinstance(values, Iterable)
        and not isinstance(values, str)
        and all(isinstance(value, str) for value in values)
    )


def _counter_mistakes(registers: object) -> Iterator[str]:
    fix = "counters() returns a list of CounterRegister(quantity, type, step, wrap, rate, source)"
    if not isinstance(registers, Iterable):
        yield f"has counters() that give {registers!r:.60}; {fix}"
        return
    names = []
    for register in registers:
        if not isinstance(register, tuple) or not 2 <= len(register) <= len(
            CounterRegister._fields
        ):
            yield f"has counters() that give {register!r:.60}; {fix}"
            return
        names.append(register[0])
    yield from _name_mistakes("counters", names)


def _name_mistakes(method: str, names: Any) -> Iterator[str]:
    if not _are_texts(names):
        yield f"has {method}() that give {names!r:.60}; they give names of quantities"
        return
    for name in names:
        if not name.startswith("info.") and describe(name) is None:
            yield f"has {method}() with {name!r}, which is no quantity; {suggest(name)}"


def mapping_mistake(method: str, given: object) -> str:
    """What is wrong with the answer of `link_defaults` or `states`; empty where nothing is."""
    if not isinstance(given, Mapping):
        return f"has {method}(options) that gives {given!r:.60}; it gives a dict ({{}} for none)"
    if method == "link_defaults" and not _are_texts([*given, *given.values()]):
        return f"has link_defaults(options) that gives {given!r:.60}; keys and values are texts"
    if method == "link_defaults" and (unknown := sorted(given.keys() - DRIVER_DEFAULTS)):
        said = f"has link_defaults(options) with {', '.join(unknown)}"
        return f"{said}; it may give {', '.join(sorted(DRIVER_DEFAULTS))}"
    return ""


def readings_mistake(readings: Any) -> str:
    """What is wrong with what `read` returned; empty where nothing is."""
    fix = "read() returns a list of Reading(quantity, value, unit)"
    if not isinstance(readings, Sequence) or isinstance(readings, str):
        return f"read() gave {_shown(readings)}; {fix}"
    for reading in readings:
        if not isinstance(reading, Reading):
            return f"read() gave {_shown(reading)} in place of a Reading; {fix}"
        if not _is_a(Quality, reading.quality):
            qualities = ", ".join(f"Quality.{one.name}" for one in Quality)
            return (
                f"read() gave {reading.quantity} the quality {reading.quality!r}; use {qualities}"
            )
    return ""


def _shown(value: object) -> str:
    """The value, cut where it is long, with its type."""
    return f"a {type(value).__name__} ({value!r:.60})"
