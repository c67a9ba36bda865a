"""The keys of a Modbus device in meterd.yaml."""

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from meterd.drivers.map_library import SUNSPEC, is_file, load_map, moved
from meterd.drivers.registers import RegisterMap
from meterd.drivers.schedule import SLOW
from meterd.drivers.sunspec.options import Index, PartName
from meterd.drivers.transformers import Ratio, power_through
from meterd.errors import ConfigError
from meterd.model.calibration import KINDS, Calibration
from meterd.model.duration import seconds
from meterd.model.quantity import Kind, describe, suggest


def _duration(value: object) -> object:
    duration = seconds(value) if isinstance(value, str) else value
    if duration is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        raise ValueError("must be a duration with its unit, such as 1m")
    return duration


def _number(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(float(str(value))):
        raise ValueError("must be a number")
    return float(str(value))


def _ratio(value: object) -> object:
    return value if value is None or isinstance(value, Ratio) else Ratio.of(value)


Number = Annotated[float, BeforeValidator(_number)]
Ratios = Annotated[Ratio | None, PlainValidator(_ratio)]
# Kinds of quantities that a transformer's ratio multiplies.
_CT_KINDS = ("current", "power", "energy")
_VT_KINDS = ("voltage", "power", "energy")
_PLURALS = {"voltage": "voltages", "current": "currents", "power": "powers", "energy": "energies"}


class ModbusOptions(BaseModel):
    """The keys of a modbus device in meterd.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    map: str = Field(description="shipped register map, or a path to a file of your own")
    unit: int | None = Field(None, ge=0, le=255, description="unit id; else the map's default")
    slow: Annotated[float, BeforeValidator(_duration)] = Field(
        SLOW, ge=0.1, le=86400, description="how often rows of the tier slow are read"
    )
    max_power: float | None = Field(
        None, gt=0, lt=1e13, description="the most that can flow, in W: what is more is no value"
    )
    ct: Ratios = Field(None, description="current transformer in front of the meter, such as 200/5")
    vt: Ratios = Field(None, description="voltage transformer in front of it, such as 10000/100")
    scale: Mapping[str, Number] = Field(
        default_factory=dict, description="factors by kind (power: 40) or quantity"
    )
    offset: Mapping[str, Number] = Field(
        default_factory=dict, description="what to add, by quantity, in its unit, after scaling"
    )
    shift: int = Field(0, ge=-65535, le=65535, description="registers to add to each address")
    instance: int | None = Field(
        None, ge=1, le=1000, description="which of the equal circuits of one unit, from 1"
    )
    allow_wake: bool = Field(
        False, strict=True, description="whether the map may write registers to unlock the meter"
    )
    part: PartName | None = Field(
        None, description="sunspec only: meter, inverter or a model's number"
    )
    index: Index = Field(1, description="sunspec only: which one of several")
    # The map as it was loaded with these options; a changed file makes options that differ.
    _unmoved: RegisterMap | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _load_map(self, info: ValidationInfo) -> "ModbusOptions":
        if self.map != SUNSPEC:
            self._unmoved = _map_of(self.map, info)
        return self

    @model_validator(mode="after")
    def _check_part(self) -> "ModbusOptions":
        if self.map != SUNSPEC and (self.part is not None or self.index != 1):
            raise ValueError("part and index belong to `map: sunspec`")
        if self.map == SUNSPEC and (self.shift or self.instance or self.allow_wake):
            raise ValueError("shift, instance and allow_wake belong to maps, not to sunspec")
        return self

    @model_validator(mode="after")
    def _check_addresses(self) -> "ModbusOptions":
        """Validates shift and instance: all rows must be within 0 to 65535."""
        if self._unmoved is None:
            return self
        circuits = self._unmoved.instances
        if self.instance is not None and (circuits is None or self.instance > circuits.count):
            available = f"{circuits.count} of them" if circuits else "no instances: use shift"
            raise ValueError(f"instance {self.instance}: the map {self.map} has {available}")
        try:
            moved(self._unmoved, self.registers)
        except ValueError as error:
            raise ValueError(f"shift: {self.registers} registers further on {error}") from error
        return self

    @model_validator(mode="after")
    def _check_scaling(self) -> "ModbusOptions":
        """Validates scale and offset: each kind is scaled once, and names are rows of the map."""
        for key, ratio, kinds in (("ct", self.ct, _CT_KINDS), ("vt", self.vt, _VT_KINDS)):
            if ratio is not None and (twice := [kind for kind in kinds if kind in self.scale]):
                raise ValueError(
                    f"{key} and scale both say what {twice[0]} is multiplied by: write one of them"
                )
        for name, number in self.scale.items():
            self._check_quantity("scale", name, (*KINDS,))
            if number == 0 or (number < 0 and _is_never_negative(name)):
                what = "a factor is more than 0; only a gauge of its own may have a negative one"
                raise ValueError(f"scale: {name}: {what}")
        for name in self.offset:
            self._check_quantity("offset", name, ())
            if _is_counter(name):
                raise ValueError(f"offset: {name} is a counter: what is added would be no energy")
        return self

    def _check_quantity(self, key: str, name: str, extra_kinds: tuple[str, ...]) -> None:
        if self._unmoved is None:
            rows = [name] if describe(name) else []
        else:
            rows = [row.quantity for row in self._unmoved.rows]
        if name in extra_kinds or (name in rows and not name.startswith("info.")):
            return
        kinds_text = f", or one of {', '.join(extra_kinds)}" if extra_kinds else ""
        hint = suggest(name) if describe(name) is None else "the map has no such row"
        raise ValueError(f"{key}: {name} is no quantity of the map {self.map}{kinds_text}; {hint}")

    @property
    def unmoved(self) -> RegisterMap | None:
        """The map at its own addresses; None for SunSpec."""
        return self._unmoved

    @property
    def registers(self) -> int:
        """Registers to add to the map's addresses, by `shift` and `instance`."""
        circuits = None if self._unmoved is None else self._unmoved.instances
        step = circuits.step * (self.instance - 1) if circuits and self.instance else 0
        return self.shift + step

    @property
    def register_map(self) -> RegisterMap:
        """The map at this device's addresses. Raises ConfigError for SunSpec, which has none."""
        if self._unmoved is None:
            raise ConfigError(f"{self.map} describes itself: it has no register map")
        return moved(self._unmoved, self.registers)

    @cached_property
    def calibration(self) -> Calibration:
        """Factors and offsets of its values, from ct, vt, scale and offset."""
        kinds = dict.fromkeys(KINDS, 1.0)
        for ratio, scaled_kinds in ((self.ct, _CT_KINDS), (self.vt, _VT_KINDS)):
            if ratio is not None:
                kinds.update({kind: kinds[kind] * ratio.factor for kind in scaled_kinds})
        factors = {kind: number for kind, number in kinds.items() if number != 1}
        factors.update(self.scale)
        return Calibration(tuple(factors.items()), tuple(self.offset.items()))

    @property
    def power_limit(self) -> tuple[float, str] | None:
        """The maximum power in W, and its source as a text; None where it is unknown."""
        if self.max_power is not None:
            return self.max_power, "as the device says"
        if self.ct is not None:
            vt = f", vt {self.vt.text}" if self.vt else ""
            return power_through(self.ct, self.vt), f"from ct {self.ct.text}{vt}"
        rated = None if self._unmoved is None else self._unmoved.max_power
        if rated is None:
            return None
        factor = dict(self.calibration.factors).get("power", 1.0)
        return rated * factor, f"as rated in the map{f', x {factor:g}' if factor != 1 else ''}"

    @property
    def sizes(self) -> frozenset[str]:
        """Power factors in unsigned registers of a meter whose power is signed."""
        if self._unmoved is None:
            return frozenset()
        rows = {row.quantity: row.type[0] not in "ub" for row in self._unmoved.rows}
        factors = (name for name in rows if name.startswith("power_factor"))
        return frozenset(n for n in factors if not rows[n] and rows.get("active_power"))

    def notes(self) -> Iterator[str]:
        """Texts, for people, on changes to this device's addresses and values."""
        yield from self._factors()
        for name, number in self.offset.items():
            described = describe(name)
            unit = described.unit if described else ""
            yield f"{name} {number:+g} {unit}".rstrip()
        if self.registers:
            circuit = f" (instance {self.instance})" if self.instance else ""
            yield f"registers {self.registers:+d}{circuit}"
        if self._unmoved is not None and (wake := self._unmoved.wake):
            off = "sent" if self.allow_wake else "not sent: allow_wake is not set"
            yield f"wake: {len(wake)} write{'s' * (len(wake) > 1)} to unlock it, {off}"

    def _factors(self) -> Iterator[str]:
        """Kinds with one factor in one line: currents, powers and energies x 40 (ct 200/5)."""
        factors = dict(self.calibration.factors)
        ratios = (("ct", self.ct, _CT_KINDS), ("vt", self.vt, _VT_KINDS))
        for number in dict.fromkeys(factors.values()):
            names = [name for name, factor in factors.items() if factor == number]
            sources = [
                f"{k} {r.text}"
                for k, r, scaled_kinds in ratios
                if r and set(names) & {*scaled_kinds}
            ]
            source = f" ({', '.join(sources)})" if sources else ""
            yield f"{_listed([_PLURALS.get(name, name) for name in names])} × {number:g}{source}"

    @field_validator("map")
    @classmethod
    def _check_map(cls, name: str, info: ValidationInfo) -> str:
        """Validates `map`: a path is relative to the configuration's folder, the map must load."""
        if name == SUNSPEC:
            return name
        if is_file(name) and info.context and (folder := info.context.get("folder")):
            name = str(Path(folder, name))
        try:
            _map_of(name, info)
        except ConfigError as error:
            if error.problems:
                raise
            raise ValueError(str(error)) from error
        return name


def _map_of(name: str, info: ValidationInfo) -> RegisterMap:
    """Loads a map once per configuration, so that all its devices have the same version."""
    maps = {} if info.context is None else info.context.setdefault("maps", {})
    if name not in maps:
        maps[name] = load_map(name)
    register_map: RegisterMap = maps[name]
    return register_map


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _is_counter(name: str) -> bool:
    described = describe(name)
    return described is not None and described.kind is Kind.COUNTER


def _is_never_negative(name: str) -> bool:
    """Whether a negative factor is invalid: for whole kinds, and for counters."""
    return name in KINDS or _is_counter(name)
