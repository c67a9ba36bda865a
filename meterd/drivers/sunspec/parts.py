"""The devices within one SunSpec device: an inverter, and the meters that it passes on."""

from dataclasses import dataclass

from meterd.drivers.sunspec.discovery import FoundModel, ModelSurvey
from meterd.drivers.sunspec.models import MODELS, ModelKind
from meterd.errors import DeviceCode, DeviceError


@dataclass(frozen=True, slots=True)
class SunSpecPart:
    """What one configured device shows: its models, and the identity that stands before them."""

    kind: ModelKind
    identity: FoundModel | None
    models: tuple[FoundModel, ...]

    @property
    def text(self) -> str:
        """What to tell people of it."""
        return f"{self.kind}: {', '.join(model.text for model in self.models)}"


def parts(survey: ModelSurvey) -> list[SunSpecPart]:
    """The parts in the order of the chain.

    Each meter model and each inverter model is one part. An addition (120 to 124) belongs to
    the inverter before it, or makes a part of kind inverter where there is none. The identity
    of a part is the last model 1 before it: devices that pass meters on repeat it for each.
    """
    identity: FoundModel | None = None
    grown: list[tuple[ModelKind, FoundModel | None, list[FoundModel]]] = []
    for found in survey.found:
        if found.model is None:
            continue
        kind = found.model.kind
        if kind is ModelKind.IDENTITY:
            identity = found
        elif kind is ModelKind.ADDITION and (owner := _inverter(grown)) is not None:
            owner.append(found)
        else:
            kind = ModelKind.INVERTER if kind is ModelKind.ADDITION else kind
            grown.append((kind, identity, [found]))
    return [SunSpecPart(kind, first, tuple(models)) for kind, first, models in grown]


def _inverter(
    grown: list[tuple[ModelKind, FoundModel | None, list[FoundModel]]],
) -> list[FoundModel] | None:
    """The models of the last inverter so far."""
    return next((models for kind, _, models in reversed(grown) if kind is ModelKind.INVERTER), None)


def choose(survey: ModelSurvey, part: str | int | None, index: int) -> SunSpecPart:
    """The part that a device's keys `part` and `index` mean.

    `part` is "meter", "inverter" or the number of a model; None is the meter, or where there
    is none the inverter. `index` counts from 1 among those. Raises DeviceError with code
    `no_part`, naming what there is.
    """
    everything = parts(survey)
    wanted = part if part is not None else _default(everything)
    fitting = [one for one in everything if _fits(one, wanted)]
    if index <= len(fitting):
        return fitting[index - 1]
    what = f"model {wanted}" if isinstance(wanted, int) else wanted
    number = f" number {index}" if index > 1 else ""
    raise DeviceError(
        f"no {what}{number} in this SunSpec device; {_listed(survey)}", code=DeviceCode.NO_PART
    )


def _default(everything: list[SunSpecPart]) -> ModelKind:
    return (
        ModelKind.METER
        if any(one.kind is ModelKind.METER for one in everything)
        else ModelKind.INVERTER
    )


def _fits(one: SunSpecPart, wanted: str | int) -> bool:
    if isinstance(wanted, int):
        return any(found.number == wanted for found in one.models)
    return one.kind == wanted


def _listed(survey: ModelSurvey) -> str:
    """What there is, so that a person can choose, or see why there is nothing to choose."""
    there = [one.text for one in parts(survey)]
    skipped = [found.text for found in survey.found if found.model is None]
    said = [f"it has {'; '.join(there)}" if there else f"none of its models is one of {_known()}"]
    said += [f"skipped: {', '.join(skipped)}"] if skipped else []
    said += [f"its map ends early: {survey.end}"] if survey.end else []
    return "; ".join(said)


def _known() -> str:
    return ", ".join(str(number) for number in MODELS if number != 1)
