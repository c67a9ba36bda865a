"""Values of a map file's keys, each mistake told at its key."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeGuard


class Tell(Protocol):
    """Notes a mistake at a key of a node of the file."""

    def __call__(
        self, node: Any, key: Any, what: str, hint: str = "", code: str = "M003"
    ) -> None: ...


def number(
    tell: Tell,
    node: Mapping[str, Any],
    key: str,
    default: int,
    low: int,
    high: int,
    of: str = "",
    hint: str = "",
) -> int:
    """An integer between `low` and `high`; `of` names the row in the mistake."""
    value = node.get(key, default)
    if isinstance(value, float) and value.is_integer():  # YAML has 1e8 for a float
        value = int(value)
    if not whole(value) or not low <= value <= high:
        told = f"is {value!r}" if key in node else "is missing"
        tell(node, key, f"{of}{key} {told}, allowed {low}..{high}", hint)
        return default
    return int(value)


def flag(tell: Tell, node: Mapping[str, Any], key: str, of: str = "") -> bool:
    """True or false; YAML 1.2 reads yes and no as words, and a word must not pass as true."""
    value = node.get(key, False)
    if not isinstance(value, bool):
        tell(node, key, f"{of}{key} is true or false, not {value!r}")
        return False
    return value


def whole(value: object) -> TypeGuard[int]:
    """Whether it is an integer; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)
