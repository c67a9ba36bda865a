"""Keys of a Megatec UPS in meterd.yaml."""

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from meterd.model.duration import seconds

_VOLTS = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*V?")
_MUSTEK_OFFDELAY_MAX_S = 9 * 60
_CALIBRATION_NUMBERS = 4
_CALIBRATION = "four numbers SECONDS,LOAD,SECONDS,LOAD, like 240,100,720,50"


def _volts(value: object) -> object:
    if not isinstance(value, str):
        return value
    if (match := _VOLTS.fullmatch(value.strip())) is None:
        raise ValueError("volts are written 12V or 12")
    return float(match[1])


def _calibration(value: object) -> object:
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list | tuple):
        return value
    try:
        numbers = tuple(float(word) for word in words)
    except (TypeError, ValueError) as error:
        raise ValueError(f"runtimecal is {_CALIBRATION}") from error
    if len(numbers) != _CALIBRATION_NUMBERS:
        raise ValueError(f"runtimecal is {_CALIBRATION}")
    return numbers


def _duration(value: object) -> object:
    """Seconds of a duration with a unit, or 0."""
    duration = seconds(value) if isinstance(value, str) else None
    if duration is None and (isinstance(value, bool) or value != 0):
        raise ValueError("must be a duration with its unit, such as 30s or 3m")
    return duration or 0.0


def _off_delay(value: float) -> float:
    """Validates the delay of S: .2 to .9 of a minute, or whole minutes."""
    step = 6 if value < 60 else 60
    if not 12 <= value <= 600 or value % step:
        raise ValueError("offdelay is 12s, 18s, 24s … 54s, or 1m, 2m … 10m: all that S can say")
    return value


def _on_delay(value: float) -> float:
    if not 0 <= value <= 9999 * 60 or value % 60:
        raise ValueError("ondelay is 0, or whole minutes of 1m to 9999m, such as 3m")
    return value


def _test_time(value: float) -> float:
    if not 60 <= value <= 99 * 60 or value % 60:
        raise ValueError("testtime is whole minutes of 1m to 99m, such as 10m")
    return value


def _charge_time(value: float) -> float:
    if not 60 <= value <= 7 * 86400:
        raise ValueError("chargetime is 1m to 7d, such as 6h")
    return value


Duration = Annotated[float, BeforeValidator(_duration)]
Volts = Annotated[float, BeforeValidator(_volts), Field(gt=0, le=1000, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Percent = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
RuntimeCal = tuple[Positive, Percent, Positive, Percent]


class BatteryOptions(BaseModel):
    """The battery as a whole, all its packs in series; each key overrides what the unit says.

    `packs` is what the unit's own reading is multiplied by; `low` and `high` are empty and full.
    Charging it takes `chargetime`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    nominal: Volts | None = None
    packs: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    low: Volts | None = None
    high: Volts | None = None
    # NUT's twelve hours.
    chargetime: Annotated[Duration, AfterValidator(_charge_time)] = 12 * 3600.0

    @model_validator(mode="after")
    def _check_thresholds(self) -> Self:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("battery.low (empty) has to be less than battery.high (full)")
        return self


class MegatecOptions(BaseModel):
    """A Megatec UPS. `protocol`: megatec asks Q1, mustek asks QS, auto finds out.

    `ratings: false` and `vendor: false` never send F and I: some units lock up on them.
    For commands: the output goes off `offdelay` after shutdown.return or shutdown.stayoff, and
    on again `ondelay` later (0: as soon as there is mains); test.battery.start takes `testtime`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: Literal["auto", "megatec", "mustek"] = "auto"
    battery: BatteryOptions = BatteryOptions()
    runtimecal: Annotated[RuntimeCal | None, BeforeValidator(_calibration)] = None
    ignore_shutdown_bit: bool = False
    ratings: bool = True
    vendor: bool = True
    offdelay: Annotated[Duration, AfterValidator(_off_delay)] = 30.0
    # NUT's three minutes: after one or two, old firmware never comes back.
    ondelay: Annotated[Duration, AfterValidator(_on_delay)] = 180.0
    testtime: Annotated[Duration, AfterValidator(_test_time)] = 600.0

    @model_validator(mode="after")
    def _check_mustek_offdelay(self) -> Self:
        if self.protocol == "mustek" and self.offdelay > _MUSTEK_OFFDELAY_MAX_S:
            raise ValueError("offdelay is at most 9m where the protocol is mustek")
        return self

    @model_validator(mode="after")
    def _check_runtimecal(self) -> Self:
        if self.runtimecal is None:
            return self
        time1, load1, time2, load2 = self.runtimecal
        if time2 <= time1 or load1 <= load2:
            text = f"runtimecal is {_CALIBRATION}: the smaller load comes second and lasts longer"
            raise ValueError(text)
        return self
