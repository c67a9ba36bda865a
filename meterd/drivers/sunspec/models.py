"""The SunSpec models that meterd reads: kind, valid lengths, and rows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Final

from meterd.drivers.registers import Row


class ModelKind(StrEnum):
    """Kind of a model. An `addition` belongs to the inverter before it."""

    IDENTITY = "identity"
    INVERTER = "inverter"
    METER = "meter"
    ADDITION = "addition"


@dataclass(frozen=True, slots=True)
class Model:
    """One model. `lengths` are valid values of its length register."""

    number: int
    kind: ModelKind
    lengths: tuple[int, ...]
    title: str


def _models() -> tuple[Model, ...]:
    wires = ("single phase", "split phase", "three phase", "three phase delta")
    inverters = [
        Model(first + i, ModelKind.INVERTER, (length,), f"inverter, {wires[i]}, {form}")
        for first, length, form in ((101, 50, "integer"), (111, 60, "float"))
        for i in range(3)
    ]
    meters = [
        Model(first + i, ModelKind.METER, (length,), f"meter, {wires[i]}, {form}")
        for first, length, form in ((201, 105, "integer"), (211, 124, "float"))
        for i in range(4)
    ]
    return (
        # 65 registers, or 66 with a pad that makes it even: both are in use.
        Model(1, ModelKind.IDENTITY, (65, 66), "common"),
        *inverters,
        Model(120, ModelKind.ADDITION, (26,), "nameplate"),
        Model(122, ModelKind.ADDITION, (44,), "extended measurements"),
        Model(123, ModelKind.ADDITION, (24,), "immediate controls"),
        Model(124, ModelKind.ADDITION, (24,), "basic storage control"),
        *meters,
    )


MODELS: Final[Mapping[int, Model]] = {model.number: model for model in _models()}


def rows(number: int, address: int, function: int) -> tuple[Row, ...]:
    """The rows of a model whose number is in the register `address`."""
    return tuple(
        replace(
            row,
            function=function,
            address=row.address + address,
            scale_register=None if row.scale_register is None else row.scale_register + address,
        )
        for row in _relative(number)
    )


@cache
def _relative(number: int) -> tuple[Row, ...]:
    from meterd.drivers.map_file import parse

    name = f"model-{number}.yaml"
    text = (files("meterd.drivers.sunspec") / name).read_text("utf-8")
    return parse(text, name.removesuffix(".yaml"), name).rows
