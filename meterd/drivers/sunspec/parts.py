"""Parts of a SunSpec device, each a device in meterd: an inverter, and the meters behind it."""

from dataclasses import dataclass

from meterd.drivers.sunspec.discovery import FoundModel, ModelSurvey
from meterd.drivers.sunspec.models import MODELS, ModelKind
from meterd.errors import DeviceCode, DeviceError


@dataclass(frozen=True, slots=True)
class SunSpecPart:
    """One part: its models, and the identity model (1) before them."""

    kind: ModelKind
    identity: FoundModel | None
    models: tuple[FoundModel, ...]

    @property
    def text(self) -> str:
        """The part for people."""
        return f"{self.kind}: {', '.join(model.text for model in self.models)}"


def parts(survey: ModelSurvey) -> list[SunSpecPart]:
    """The parts in the order of the chain.

    Each meter model and each inverter model is one part. An addition (120 to 124) belongs to
    the inverter before it, or makes a part of kind inverter where there is none. The identity
    of a part is the last model 1 before it: devices with meters behind them repeat it for each.
    """
    identity: FoundModel | None = None
    built: list[tuple[ModelKind, FoundModel | None, list[FoundModel]]] = []
    for block in survey.found:
        if block.model is None:
            continue
        kind = block.model.kind
        if kind is ModelKind.IDENTITY:
            identity = block
        elif kind is ModelKind.ADDITION and (owner := _inverter(built)) is not None:
            owner.append(block)
        else:
            kind = ModelKind.INVERTER if kind is ModelKind.ADDITION else kind
            built.append((kind, identity, [block]))
    return [SunSpecPart(kind, first, tuple(models)) for kind, first, models in built]


def _inverter(
    built: list[tuple[ModelKind, FoundModel | None, list[FoundModel]]],
) -> list[FoundModel] | None:
    """The models of the last inverter so far."""
    return next((models for kind, _, models in reversed(built) if kind is ModelKind.INVERTER), None)


def choose(survey: ModelSurvey, part: str | int | None, index: int) -> SunSpecPart:
    """The part that a device's keys `part` and `index` select.

    `part` is "meter", "inverter" or the number of a model; None is the meter, or the inverter if
    there is none. `index` counts from 1 among those. Raises DeviceError with code `no_part`, whose
    text lists the parts.
    """
    available = parts(survey)
    selector = part if part is not None else _default(available)
    fitting = [candidate for candidate in available if _fits(candidate, selector)]
    if index <= len(fitting):
        return fitting[index - 1]
    what = f"model {selector}" if isinstance(selector, int) else selector
    number = f" number {index}" if index > 1 else ""
    raise DeviceError(
        f"no {what}{number} in this SunSpec device; {_listed(survey)}", code=DeviceCode.NO_PART
    )


def _default(available: list[SunSpecPart]) -> ModelKind:
    return (
        ModelKind.METER
        if any(candidate.kind is ModelKind.METER for candidate in available)
        else ModelKind.INVERTER
    )


def _fits(candidate: SunSpecPart, selector: str | int) -> bool:
    if isinstance(selector, int):
        return any(each.number == selector for each in candidate.models)
    return candidate.kind == selector


def _listed(survey: ModelSurvey) -> str:
    """The parts as a text, with models that were skipped and why the chain ended early."""
    texts = [candidate.text for candidate in parts(survey)]
    skipped = [each.text for each in survey.found if each.model is None]
    sentences = [
        f"it has {'; '.join(texts)}" if texts else f"none of its models is one of {_model_names()}"
    ]
    sentences += [f"skipped: {', '.join(skipped)}"] if skipped else []
    sentences += [f"its map ends early: {survey.end}"] if survey.end else []
    return "; ".join(sentences)


def _model_names() -> str:
    return ", ".join(str(number) for number in MODELS if number != 1)
