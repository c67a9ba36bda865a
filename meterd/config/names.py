"""Names of devices, links, rules and hooks, and suggestions for misspelled ones."""

import difflib
import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from meterd.config.codes import Code, ValueFlaw

NAME_LENGTH = 64
_DEVICE_ID = re.compile(r"[a-z0-9][a-z0-9_-]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# All names are listed in a hint where they are no more than these, else some as examples.
_LIST_MAX_NAMES, _EXAMPLE_NAMES = 12, 3
# Similar names that are compared by the numbers in them.
_MATCHES_MAX = 100


def spelling_hint(name: str, candidates: Iterable[str]) -> str:
    """A hint: the most similar of the candidates, else all of them where they are few."""
    names = sorted(candidates)
    lower = {word.lower(): word for word in names}
    # `meter-2` is similar to each of `meter1`, `meter2`…: the same numbers decide.
    if matches := difflib.get_close_matches(name.lower(), lower, n=_MATCHES_MAX):
        best = max(
            matches,
            key=lambda word: (
                _numbers(word) == _numbers(name),
                -matches.index(word),
            ),
        )
        return f"did you mean {lower[best]}?"
    if not names:
        return ""
    if len(names) > _LIST_MAX_NAMES:
        return f"none of the {len(names)} is like it: {', '.join(names[:_EXAMPLE_NAMES])}, …"
    return f"there {'is' if len(names) == 1 else 'are'} {', '.join(names)}"


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"[0-9]{1,9}", name)]


def _device_id(name: str) -> str:
    if _DEVICE_ID.fullmatch(name) and len(name) <= NAME_LENGTH:
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
