"""The Quantity type, and families of quantities: one name at several phases, circuits, tariffs."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


class Kind(StrEnum):
    """A gauge goes up and down; a counter only rises, except when it wraps or is reset."""

    GAUGE = "gauge"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A measured quantity: name, canonical unit, kind, description, codes of other systems.

    `low` and `high` bound the plausible magnitude in `unit`; 0 is always plausible. `phase`
    becomes a label in Prometheus, and is no part of the metric's name. `obis` is C.D.E of the OBIS
    code, `nut` the variable's name in NUT.
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
        """The Prometheus metric name: unit as suffix, `_total` for counters."""
        family = self.name.removesuffix(f".{self.phase}") if self.phase else self.name
        return prometheus_name(family, self.unit, self.kind)

    def plausible(self, value: float) -> bool:
        """Whether an installation can have such a value."""
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


# Metric names are ASCII, users' own units (m³/h) may not be.
_NON_WORD = re.compile(r"\W+", re.ASCII)


def prometheus_name(family: str, unit: str, kind: Kind) -> str:
    """`active_energy.import`, Wh, counter -> `meterd_active_energy_import_watthours_total`."""
    words = ["meterd", _NON_WORD.sub("_", family.removeprefix("x."))]
    words.append(UNIT_WORDS.get(unit, _NON_WORD.sub("_", unit)))
    if kind is Kind.COUNTER:
        words.append("total")
    return "_".join(word for word in words if word)


PHASES = ("l1", "l2", "l3")
LINES = ("l12", "l23", "l31")
# Circuits of a multi-circuit meter, or sensors of a meter with several inputs.
CHANNELS = tuple(f"ch{number}" for number in range(1, 13))

# Added to value group C of an OBIS code (IEC 62056-6-1).
_OBIS_PHASE = {"": 0, "l1": 20, "l2": 40, "l3": 60, "n": 80}

# Description suffixes of phases that are not lines.
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

# Smaller magnitudes are never measured: a float with swapped words decodes to such denormals.
MIN_MAGNITUDE = 1e-6


def family(
    name: str,
    unit: str,
    text: str,
    *phases: str,
    kind: Kind = Kind.GAUGE,
    obis: tuple[int, str] | None = None,
    low: float = MIN_MAGNITUDE,
    high: float = float("inf"),
) -> Iterator[Quantity]:
    """A quantity for each of `phases`; the phase "" is the quantity without a phase.

    `obis` is (C, "D.E") of the quantity without a phase.
    """
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


# -- places: tariff, circuit and line, at any of which a family may be measured -------------------

# Place suffixes of a name: a line, a pair of lines or the neutral; a circuit of a multi-circuit
# meter or a DC input (a string of panels); and the tariff of an energy or demand.
_LINE = re.compile(r"l[123]|l12|l23|l31|n")
_CIRCUIT = re.compile(r"(?:ch|dc)[1-9][0-9]{0,2}|dc")
_TARIFF = re.compile(r"t[1-9][0-9]?")
# Quantities of the whole meter, which have no place.
_METER_WIDE = frozenset(
    "tariff phase_sequence phase_sequence.fault operating_time power_interruptions".split()  # noqa: SIM905
)
_ENERGY_UNITS = ("Wh", "varh", "VAh")


def split_places(name: str) -> tuple[str, tuple[str, str, str]]:
    """Splits a name into its stem and (tariff, circuit, line), its suffixes in this order.

    Each is "" where the name has none.
    """
    words, parts = name.split("."), []
    for pattern in (_LINE, _CIRCUIT, _TARIFF):
        is_place = len(words) > 1 and pattern.fullmatch(words[-1]) is not None
        parts.append(words.pop() if is_place else "")
    return ".".join(words), (parts[2], parts[1], parts[0])


def with_ordered_places(name: str) -> str:
    """The name with its place suffixes in canonical order: tariff, circuit, line."""
    words = name.split(".")
    places_found: list[str] = []
    patterns = (_TARIFF, _CIRCUIT, _LINE)
    while len(words) > 1 and any(pattern.fullmatch(words[-1]) for pattern in patterns):
        places_found.append(words.pop())
    places_found.sort(
        key=lambda word: next(i for i, pattern in enumerate(patterns) if pattern.fullmatch(word))
    )
    return ".".join([*words, *places_found])


def stems(quantities: Iterable[Quantity]) -> Mapping[str, Quantity]:
    """The families that may be measured at any place, by their name without a place."""
    families: dict[str, Quantity] = {}
    for quantity in quantities:
        stem = quantity.name.removesuffix(f".{quantity.phase}") if quantity.phase else quantity.name
        if stem in _METER_WIDE or (stem in families and quantity.phase):
            continue
        text = quantity.text.removesuffix(
            _PHASE_TEXT.get(quantity.phase, f", {quantity.phase.upper()}")
        )
        bare = replace(quantity, name=stem, phase="", text=text, nut="", obis="")
        families[stem] = bare if quantity.phase else replace(bare, obis=quantity.obis)
    return families


def at_place(name: str, families: Mapping[str, Quantity]) -> Quantity | None:
    """A quantity at a place that is not listed, such as `frequency.l2`; None if there is none."""
    stem, (tariff, circuit, line) = split_places(name)
    base = families.get(stem)
    if base is None or stem == name:
        return None
    if tariff and base.unit not in _ENERGY_UNITS and not stem.startswith("demand."):
        return None
    phase = ".".join(word for word in (circuit, line) if word)
    text = f"{base.text}, tariff {tariff[1:]}" if tariff else base.text
    return replace(
        base,
        name=name,
        phase=phase,
        text=f"{text}, {phase.upper()}" if phase else text,
        obis=_obis(base.obis, tariff, phase),
    )


def _obis(code: str, tariff: str, phase: str) -> str:
    """The OBIS code of a sum moved to a line and a tariff; "" where there is none."""
    if not code or phase not in _OBIS_PHASE or phase == "n":
        return ""
    c, d, e = code.split(".")
    if tariff and e != "0":
        return ""
    return f"{int(c) + _OBIS_PHASE[phase]}.{d}.{tariff[1:] or e}"
