"""Readers of scalar values in map files; mistakes are reported with the position of their key."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeGuard


class Tell(Protocol):
    """Reports a mistake at a key of a YAML node."""

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
        state = f"is {value!r}" if key in node else "is missing"
        tell(node, key, f"{of}{key} {state}, allowed {low}..{high}", hint)
        return default
    return int(value)


def flag(tell: Tell, node: Mapping[str, Any], key: str, of: str = "") -> bool:
    """True or false only: YAML 1.2 reads yes and no as texts, which would be true in Python."""
    value = node.get(key, False)
    if not isinstance(value, bool):
        tell(node, key, f"{of}{key} is true or false, not {value!r}")
        return False
    return value


def whole(value: object) -> TypeGuard[int]:
    """Whether it is an integer and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)
