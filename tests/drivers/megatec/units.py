"""Scripted Megatec units, and short ways to look at what was read of them."""

from collections.abc import Sequence
from pathlib import Path

from meterd.drivers.megatec import MegatecOptions, MegatecUps
from meterd.model.sample import Reading
from meterd.testing import ScriptedLink

_TRANSCRIPTS = Path(__file__).parents[2] / "transcripts"
F12 = b"#220.0 003 12.00 50.0\r"
LINE = "(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000"


def transcript(name: str, *, chop: int = 0) -> ScriptedLink:
    """A unit as tests/transcripts/<name>.txt has it."""
    return ScriptedLink.from_transcript(_TRANSCRIPTS / f"{name}.txt", chop=chop)


def options(**keys: object) -> MegatecOptions:
    return MegatecOptions.model_validate(keys)


def scripted(*status: str, command: bytes = b"Q1\r", f: bytes = F12) -> ScriptedLink:
    """A link whose unit gives these status lines one after the other."""
    return ScriptedLink({command: [line.encode() + b"\r" for line in status], b"F\r": f})


async def read(link: ScriptedLink, **keys: object) -> dict[str, Reading]:
    return named(await MegatecUps(link, options(**keys)).read())


def named(readings: Sequence[Reading]) -> dict[str, Reading]:
    found = {reading.quantity: reading for reading in readings}
    assert len(found) == len(readings), "a quantity twice"
    return found


def values(readings: dict[str, Reading], *names: str) -> list[float | str | None]:
    return [readings[name].value for name in names]


def letters(readings: dict[str, Reading]) -> str:
    """The letters that are 1, blank between; those not known with a question mark."""
    words = []
    for name, reading in readings.items():
        if name.startswith("ups.status."):
            word = name.removeprefix("ups.status.")
            words += [word] if reading.value == 1 else [f"{word}?"] * (reading.value is None)
    return " ".join(words)
