"""The keys of a Modbus device in meterd.yaml."""

from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from meterd.drivers.library import SUNSPEC, is_file, load_map
from meterd.drivers.schedule import SLOW
from meterd.drivers.sunspec.options import Index, PartName
from meterd.errors import ConfigError
from meterd.model.duration import seconds


def _duration(value: object) -> object:
    found = seconds(value) if isinstance(value, str) else value
    if found is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        raise ValueError("must be a duration with its unit, such as 1m")
    return found


class ModbusOptions(BaseModel):
    """The keys of a modbus device in meterd.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    map: str = Field(description="shipped register map, or a path to a file of your own")
    unit: int | None = Field(None, ge=0, le=255, description="unit id; else the map's default")
    slow: Annotated[float, BeforeValidator(_duration)] = Field(
        SLOW, ge=0.1, le=86400, description="how often rows of the tier slow are read"
    )
    max_power: float = Field(
        10e6, gt=0, description="the most that can flow, in W: a counter that rises faster errs"
    )
    part: PartName | None = Field(
        None, description="sunspec only: meter, inverter or a model's number"
    )
    index: Index = Field(1, description="sunspec only: which one of several")

    @model_validator(mode="after")
    def _parts(self) -> "ModbusOptions":
        if self.map != SUNSPEC and (self.part is not None or self.index != 1):
            raise ValueError("part and index belong to `map: sunspec`")
        return self

    @field_validator("map")
    @classmethod
    def _there(cls, name: str, info: ValidationInfo) -> str:
        """A path counts from the folder of the configuration; the map must be without mistakes."""
        if name == SUNSPEC:
            return name
        if is_file(name) and info.context and (folder := info.context.get("folder")):
            name = str(Path(folder, name))
        try:
            load_map(name)
        except ConfigError as error:
            if error.problems:
                raise
            raise ValueError(str(error)) from error
        return name
