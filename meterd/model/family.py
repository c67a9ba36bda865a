"""What a quantity is, and how one name makes a family of phases."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
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


# -- places that no list names -------------------------------------------------------------------

# Where in an installation: a line, two lines, the neutral; a circuit of a meter with several, an
# input of direct current (a string of panels); and the tariff that an energy was counted in.
_LINE = re.compile(r"l[123]|l12|l23|l31|n")
_CIRCUIT = re.compile(r"(?:ch|dc)[1-9][0-9]{0,2}|dc")
_TARIFF = re.compile(r"t[1-9][0-9]?")
# Quantities of the whole meter.
_WHOLE = frozenset(
    "tariff phase_sequence phase_sequence.fault operating_time power_interruptions".split()  # noqa: SIM905
)
_COUNTED = ("Wh", "varh", "VAh")


def places(name: str) -> tuple[str, tuple[str, str, str]]:
    """A name without what stands for a place at its end, and tariff, circuit and line.

    They stand in this order, and each is empty where the name has none.
    """
    words, found = name.split("."), []
    for form in (_LINE, _CIRCUIT, _TARIFF):
        here = len(words) > 1 and form.fullmatch(words[-1]) is not None
        found.append(words.pop() if here else "")
    return ".".join(words), (found[2], found[1], found[0])


def ordered(name: str) -> str:
    """The same name with its places in the order that they have: tariff, circuit, line."""
    words = name.split(".")
    end: list[str] = []
    forms = (_TARIFF, _CIRCUIT, _LINE)
    while len(words) > 1 and any(form.fullmatch(words[-1]) for form in forms):
        end.append(words.pop())
    end.sort(key=lambda word: next(i for i, form in enumerate(forms) if form.fullmatch(word)))
    return ".".join([*words, *end])


def stems(quantities: Iterable[Quantity]) -> Mapping[str, Quantity]:
    """The families that may be measured at any place, by their name without one."""
    found: dict[str, Quantity] = {}
    for one in quantities:
        stem = one.name.removesuffix(f".{one.phase}") if one.phase else one.name
        if stem in _WHOLE or (stem in found and one.phase):
            continue
        text = one.text.removesuffix(_PHASE_TEXT.get(one.phase, f", {one.phase.upper()}"))
        bare = replace(one, name=stem, phase="", text=text, nut="", obis="")
        found[stem] = bare if one.phase else replace(bare, obis=one.obis)
    return found


def at_place(name: str, families: Mapping[str, Quantity]) -> Quantity | None:
    """A quantity at a place that no list names, such as `frequency.l2`; None where it has none."""
    stem, (tariff, circuit, line) = places(name)
    base = families.get(stem)
    if base is None or stem == name:
        return None
    if tariff and base.unit not in _COUNTED and not stem.startswith("demand."):
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
    """That of the sum, moved to a line and a tariff; empty where there is none."""
    if not code or phase not in _OBIS_PHASE or phase == "n":
        return ""
    c, d, e = code.split(".")
    if tariff and e != "0":
        return ""
    return f"{int(c) + _OBIS_PHASE[phase]}.{d}.{tariff[1:] or e}"
