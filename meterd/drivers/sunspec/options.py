"""Keys of a SunSpec device in meterd.yaml."""

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from meterd.drivers.schedule import SLOW
from meterd.drivers.sunspec.discovery import MAX_MODELS
from meterd.drivers.sunspec.models import MODELS, ModelKind

DEFAULT_UNIT = 1


def _readable(part: str | int) -> str | int:
    """Validates a number: a model whose rows are known."""
    numbers = [model.number for model in MODELS.values() if model.kind is not ModelKind.IDENTITY]
    if isinstance(part, int) and part not in numbers:
        readable = ", ".join(map(str, numbers))
        raise ValueError(f"model {part} is no SunSpec model that can be read: {readable}")
    return part


PartName: TypeAlias = Annotated[Literal["meter", "inverter"] | int, AfterValidator(_readable)]
Index: TypeAlias = Annotated[int, Field(ge=1, le=MAX_MODELS)]


class SunSpecOptions(BaseModel):
    """Which unit, and which part of it: an inverter and its meter are two devices."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    map: Literal["sunspec"] = Field("sunspec", description="the word sunspec")
    unit: int = Field(DEFAULT_UNIT, ge=0, le=255, description="unit id")
    slow: float = Field(SLOW, gt=0, description="how often counters and limits are read, in s")
    part: PartName | None = Field(
        None, description="meter, inverter or a model's number; else the meter if there is one"
    )
    index: Index = Field(1, description="which of several such parts, from 1")
