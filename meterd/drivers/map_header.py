"""Parser of a map's keys about the meter: maximum power, sign, circuits, unlock writes."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from meterd.drivers.map_nodes import Tell, number, whole
from meterd.drivers.registers import Instances, WakeWrite

KEYS = ("max_power", "positive", "instances", "wake")
_DIRECTIONS = ("import", "export")
_WRITE_FUNCTIONS = (6, 16)
_WRITES_MAX = 10
_WORDS_MAX = 123
_WAKE_SYNTAX = "wake is a list of writes: - {function: 6, address: 100, values: [1]}"


class HeaderReader:
    """Reads these keys of one map; mistakes go to `tell`."""

    def __init__(self, tell: Tell, data: Mapping[str, Any]) -> None:
        self._tell = tell
        self._data = data

    def max_power(self) -> float | None:
        """The meter's maximum power in W."""
        value = self._data.get("max_power")
        if value is None:
            return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and 0 < value < math.inf:
            return float(value)
        what = f"max_power is a number of watts, more than 0, not {value!r}"
        self._tell(self._data, "max_power", what, "as its documents rate it: U x Imax x phases")
        return None

    def turned(self) -> bool:
        """Whether its positive direction is export."""
        value = self._data.get("positive", _DIRECTIONS[0])
        if value not in _DIRECTIONS:
            what = f"positive is one of {', '.join(_DIRECTIONS)}, not {value!r}"
            hint = "which way power flows where the meter shows it as positive"
            self._tell(self._data, "positive", what, hint)
        return bool(value == _DIRECTIONS[1])

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
        """The writes that unlock the meter, in their order."""
        nodes = self._data.get("wake")
        if nodes is None:
            return ()
        if not isinstance(nodes, list) or not 0 < len(nodes) <= _WRITES_MAX:
            self._tell(self._data, "wake", f"{_WAKE_SYNTAX}, at most {_WRITES_MAX}")
            return ()
        return tuple(self._writes(nodes))

    def _writes(self, nodes: list[Any]) -> Iterator[WakeWrite]:
        for node in nodes:
            if not isinstance(node, dict) or set(node) - {"function", "address", "values"}:
                self._tell(self._data, "wake", _WAKE_SYNTAX)
                continue
            function = number(self._tell, node, "function", 0, 6, 16, "wake: ")
            address = number(self._tell, node, "address", 0, 0, 0xFFFF, "wake: ")
            values = node.get("values")
            words: list[Any] = values if isinstance(values, list) else [values]
            most = 1 if function == _WRITE_FUNCTIONS[0] else _WORDS_MAX
            fits = 0 < len(words) <= most and address + len(words) <= 0x10000
            if function not in _WRITE_FUNCTIONS or not fits or not all(map(_is_word, words)):
                what = "wake: function 6 writes one register, 16 up to 123; values are 0 to 65535"
                self._tell(node, "values" if "values" in node else "function", what)
                continue
            yield WakeWrite(function, address, tuple(words))


def _is_word(value: object) -> bool:
    return whole(value) and 0 <= value <= 0xFFFF
