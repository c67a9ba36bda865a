"""What people may call devices, links, rules and hooks, and what they may have meant."""

import difflib
import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from meterd.config.codes import Code, ValueFlaw

NAME_LENGTH = 64
_DEVICE = re.compile(r"[a-z0-9][a-z0-9_-]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LISTED, _FEW = 12, 3
# Names like one that are looked at for its number.
_CLOSE = 100


def near(name: str, known: Iterable[str]) -> str:
    """A hint: the known name that is most like this one, else the known names, if they are few."""
    names = sorted(known)
    lower = {each.lower(): each for each in names}
    # Of names that differ by a number the one with the same number is meant.
    if found := difflib.get_close_matches(name.lower(), lower, n=_CLOSE):
        best = max(found, key=lambda each: (_numbers(each) == _numbers(name), -found.index(each)))
        return f"did you mean {lower[best]}?"
    if not names:
        return ""
    if len(names) > _LISTED:
        return f"none of the {len(names)} is like it: {', '.join(names[:_FEW])}, …"
    return f"there {'is' if len(names) == 1 else 'are'} {', '.join(names)}"


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"[0-9]{1,9}", name)]


def _device_id(name: str) -> str:
    if _DEVICE.fullmatch(name) and len(name) <= NAME_LENGTH:
        return name
    what = f"must be a device id: a-z, 0-9, _ and -, not starting with _ or -, up to {NAME_LENGTH}"
    plain = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:NAME_LENGTH]
    raise ValueFlaw(Code.NAME, what, f"write {plain}" if plain else "").error()


def _any_name(name: str) -> str:
    if _NAME.fullmatch(name) and len(name) <= NAME_LENGTH:
        return name
    what = (
        f"must be a name: letters, digits, _ . and -, first a letter or digit, up to {NAME_LENGTH}"
    )
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-_.")[:NAME_LENGTH]
    raise ValueFlaw(Code.NAME, what, f"write {plain}" if plain else "").error()


DeviceId = Annotated[str, AfterValidator(_device_id)]
Name = Annotated[str, AfterValidator(_any_name)]
