"""What meterd.yaml may say about a Megatec UPS."""

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_VOLTS = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*V?")
_CALIBRATION = "four numbers SECONDS,LOAD,SECONDS,LOAD, like 240,100,720,50"


def _volts(value: object) -> object:
    if not isinstance(value, str):
        return value
    if (match := _VOLTS.fullmatch(value.strip())) is None:
        raise ValueError("volts are written 12V or 12")
    return float(match[1])


def _calibration(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return tuple(float(word) for word in value.split(","))
    except ValueError as error:
        raise ValueError(f"runtimecal is {_CALIBRATION}") from error


Volts = Annotated[float, BeforeValidator(_volts), Field(gt=0, le=1000, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Percent = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
RuntimeCal = tuple[Positive, Percent, Positive, Percent]


class BatteryOptions(BaseModel):
    """The battery as a whole, all its packs in series; each key overrides what the unit says.

    `packs` is what the unit's own reading is multiplied by; `low` and `high` are empty and full.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    nominal: Volts | None = None
    packs: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    low: Volts | None = None
    high: Volts | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("battery.low (empty) has to be less than battery.high (full)")
        return self


class MegatecOptions(BaseModel):
    """A Megatec UPS. `protocol`: megatec asks Q1, mustek asks QS, auto finds out.

    `ratings: false` and `vendor: false` never send F and I: some units lock up on them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: Literal["auto", "megatec", "mustek"] = "auto"
    battery: BatteryOptions = BatteryOptions()
    runtimecal: Annotated[RuntimeCal | None, BeforeValidator(_calibration)] = None
    ignore_shutdown_bit: bool = False
    ratings: bool = True
    vendor: bool = True

    @model_validator(mode="after")
    def _calibrates(self) -> Self:
        if self.runtimecal is None:
            return self
        time1, load1, time2, load2 = self.runtimecal
        if time2 <= time1 or load1 <= load2:
            text = f"runtimecal is {_CALIBRATION}: the smaller load comes second and lasts longer"
            raise ValueError(text)
        return self
