"""Keys above a map's rows that say more of the meter: power, sign, circuits, how to unlock it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from meterd.drivers.map_nodes import Tell, number, whole
from meterd.drivers.registers import Instances, WakeWrite

KEYS = ("max_power", "positive", "instances", "wake")
_WAYS = ("import", "export")
_WRITES = (6, 16)
_MOST_WRITES = 10
_MOST_WORDS = 123
_WAKE = "wake is a list of writes: - {function: 6, address: 100, values: [1]}"


class HeaderReader:
    """The keys of one map."""

    def __init__(self, tell: Tell, data: Mapping[str, Any]) -> None:
        self._tell = tell
        self._data = data

    def max_power(self) -> float | None:
        """The most that the meter measures, in W."""
        value = self._data.get("max_power")
        if value is None:
            return None
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if plain and 0 < value < math.inf:
            return float(value)
        what = f"max_power is a number of watts, more than 0, not {value!r}"
        self._tell(self._data, "max_power", what, "as its documents rate it: U x Imax x phases")
        return None

    def turned(self) -> bool:
        """Whether it counts as positive what the house gives."""
        value = self._data.get("positive", _WAYS[0])
        if value not in _WAYS:
            what = f"positive is one of {', '.join(_WAYS)}, not {value!r}"
            hint = "which way power flows where the meter shows it as positive"
            self._tell(self._data, "positive", what, hint)
        return bool(value == _WAYS[1])

    def instances(self) -> Instances | None:
        """The equal circuits of one unit."""
        node = self._data.get("instances")
        if node is None:
            return None
        if not isinstance(node, dict) or set(node) - {"count", "step"}:
            what = "instances is written {count: 12, step: 20}: circuits, and registers between"
            self._tell(self._data, "instances", what)
            return None
        count = number(self._tell, node, "count", 0, 1, 1000, "instances: ")
        return Instances(count, number(self._tell, node, "step", 0, 1, 0xFFFF, "instances: "))

    def wake(self) -> tuple[WakeWrite, ...]:
        """The writes that unlock it, in their order."""
        nodes = self._data.get("wake")
        if nodes is None:
            return ()
        if not isinstance(nodes, list) or not 0 < len(nodes) <= _MOST_WRITES:
            self._tell(self._data, "wake", f"{_WAKE}, at most {_MOST_WRITES}")
            return ()
        return tuple(self._writes(nodes))

    def _writes(self, nodes: list[Any]) -> Iterator[WakeWrite]:
        for node in nodes:
            if not isinstance(node, dict) or set(node) - {"function", "address", "values"}:
                self._tell(self._data, "wake", _WAKE)
                continue
            function = number(self._tell, node, "function", 0, 6, 16, "wake: ")
            address = number(self._tell, node, "address", 0, 0, 0xFFFF, "wake: ")
            values = node.get("values")
            words: list[Any] = values if isinstance(values, list) else [values]
            most = 1 if function == _WRITES[0] else _MOST_WORDS
            fits = 0 < len(words) <= most and address + len(words) <= 0x10000
            if function not in _WRITES or not fits or not all(map(_is_word, words)):
                what = "wake: function 6 writes one register, 16 up to 123; values are 0 to 65535"
                self._tell(node, "values" if "values" in node else "function", what)
                continue
            yield WakeWrite(function, address, tuple(words))


def _is_word(value: object) -> bool:
    return whole(value) and 0 <= value <= 0xFFFF
