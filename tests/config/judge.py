"""A configuration judged by two invented drivers, so that these tests need no real one."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from meterd.config.load import parse
from meterd.config.settings import Settings
from meterd.errors import ConfigError, Problem


class Battery(BaseModel):
    model_config = ConfigDict(extra="forbid")
    packs: int = Field(1, ge=1, le=40)


class MeterOptions(BaseModel):
    """A driver's options as a careful author writes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    map: str
    unit: int = Field(1, ge=0, le=255)
    battery: Battery = Battery()
    mode: Literal["fast", "slow"] = "fast"
    words: list[int] = Field(default_factory=list)
    password: str = ""

    @field_validator("map")
    @classmethod
    def _exists(cls, name: str, info: ValidationInfo) -> str:
        if name == "broken":
            raise ConfigError([Problem("broken.yaml", 3, 7, "M001", "no such type")])
        if name == "gone":
            raise ConfigError("no register map 'gone'")
        if name.startswith("odd"):
            raise ValueError(f"Nobody made {name} in {(info.context or {})['folder']}")
        return name


class CarelessOptions(BaseModel):
    """A foreign driver that says nothing of unknown keys."""

    speed: int = 1


class OpenOptions(BaseModel):
    """A foreign driver that takes any key."""

    model_config = ConfigDict(extra="allow")


DRIVERS: Mapping[str, type[BaseModel]] = {
    "meter": MeterOptions,
    "careless": CarelessOptions,
    "open": OpenOptions,
}

MINIMAL = "devices:\n  main: {driver: meter, map: m, link: 'tcp://h'}\n"


def settings(
    text: str, environ: Mapping[str, str] | None = None, folder: Path = Path()
) -> Settings:
    return parse(
        dedent(text),
        "m.yaml",
        options_of=DRIVERS.get,
        driver_names=list(DRIVERS),
        environ=environ or {},
        folder=folder,
    )


def problems(
    text: str, environ: Mapping[str, str] | None = None, folder: Path = Path()
) -> list[Problem]:
    """All problems of a text that has some."""
    with pytest.raises(ConfigError) as caught:
        settings(text, environ, folder)
    assert caught.value.problems, str(caught.value)
    return list(caught.value.problems)


def problem(text: str, environ: Mapping[str, str] | None = None, folder: Path = Path()) -> Problem:
    """The only problem of a text; with a minimal device where it names none."""
    whole = dedent(text)
    if "devices:" not in whole:
        whole = whole + MINIMAL
    found = problems(whole, environ, folder)
    assert len(found) == 1, "\n".join(map(str, found))
    return found[0]


def place_of(text: str, part: str) -> tuple[int, int]:
    """Line and column where this part of the text first stands."""
    before = dedent(text).partition(part)[0]
    return before.count("\n") + 1, len(before) - before.rfind("\n")
