"""What a quantity is, and how one name makes a family of phases."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """A gauge goes up and down; a counter only rises, until it wraps or is reset."""

    GAUGE = "gauge"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class Quantity:
    """One row of the catalogue.

    `low` and `high` bound the magnitude that is plausible, in `unit`; 0 always is.
    `phase` is a label for Prometheus: metric names leave it out.
    """

    name: str
    unit: str
    kind: Kind
    text: str
    phase: str = ""
    obis: str = ""
    nut: str = ""
    low: float = 0.0
    high: float = float("inf")

    @property
    def prometheus(self) -> str:
        """The metric's name: base unit as suffix, `_total` on counters."""
        family = self.name.removesuffix(f".{self.phase}") if self.phase else self.name
        return prometheus_name(family, self.unit, self.kind)

    def plausible(self, value: float) -> bool:
        """Whether a real installation could measure this."""
        return value == 0 or self.low <= abs(value) <= self.high


UNIT_WORDS = {
    "V": "volts",
    "A": "amperes",
    "W": "watts",
    "var": "vars",
    "VA": "voltamperes",
    "Hz": "hertz",
    "Wh": "watthours",
    "varh": "varhours",
    "VAh": "voltamperehours",
    "%": "percent",
    "°C": "celsius",
    "°": "degrees",
    "s": "seconds",
    "J": "joules",
    "K": "kelvins",
    "l": "liters",
    "m³": "cubic_meters",
    "1": "",
}


# Prometheus takes ASCII only, and users' own units are not: m³/h.
_NO_WORD = re.compile(r"\W+", re.ASCII)


def prometheus_name(family: str, unit: str, kind: Kind) -> str:
    """`active_energy.import`, Wh, counter -> `meterd_active_energy_import_watthours_total`."""
    words = ["meterd", _NO_WORD.sub("_", family.removeprefix("x."))]
    words.append(UNIT_WORDS.get(unit, _NO_WORD.sub("_", unit)))
    if kind is Kind.COUNTER:
        words.append("total")
    return "_".join(word for word in words if word)


PHASES = ("l1", "l2", "l3")
LINES = ("l12", "l23", "l31")
# Circuits of a multi-circuit meter, and the sensors of one with several inputs.
CHANNELS = tuple(f"ch{number}" for number in range(1, 13))

# The phases' offsets to C of an OBIS code.
_OBIS_PHASE = {"": 0, "l1": 20, "l2": 40, "l3": 60, "n": 80}

# What a text says of a phase that is no line.
_PHASE_TEXT = {
    "": "",
    "n": ", neutral",
    "avg": ", mean",
    "dc": ", direct current side",
    "ground": ", earth",
    "residual": ", residual",
    "i4": ", fourth transformer",
    "pe": ", earth to neutral",
}

# 1e-6: smaller magnitudes are never measured, but are what a swapped word order makes of floats.
TINY = 1e-6


def family(
    name: str,
    unit: str,
    text: str,
    *phases: str,
    kind: Kind = Kind.GAUGE,
    obis: tuple[int, str] | None = None,
    low: float = TINY,
    high: float = float("inf"),
) -> Iterator[Quantity]:
    """The quantity itself ("" among `phases`) and one for each other phase."""
    for phase in phases or ("",):
        code = ""
        if obis and phase in _OBIS_PHASE:
            code = f"{obis[0] + _OBIS_PHASE[phase]}.{obis[1]}"
        yield Quantity(
            name=f"{name}.{phase}" if phase else name,
            unit=unit,
            kind=kind,
            text=f"{text}{_PHASE_TEXT.get(phase, f', {phase.upper()}')}",
            phase=phase,
            obis=code,
            low=low,
            high=high,
        )
