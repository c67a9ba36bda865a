"""Parser of a row in map files: from its YAML keys to a Row."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from meterd.drivers import map_hints
from meterd.drivers.map_nodes import Tell, flag, whole
from meterd.drivers.map_numbers import COUNTED, WORDS, NumberReader
from meterd.drivers.map_terms import TERMS, TermReader
from meterd.drivers.registers import Row
from meterd.model import quantity as catalogue
from meterd.model import units

__all__ = ["COUNTED", "KEYS", "WORDS", "RowReader"]

TIERS = ("fast", "slow", "static")
# Units of users' own counters.
COUNTER_UNITS = (*catalogue.COUNTED_UNITS, "J", "m³", "l", "1")
KEYS = (
    *"function address words type count word_order byte_order scale offset unit na wrap".split(),  # noqa: SIM905
    *"enum bit tier optional alone common note kind max_rate".split(),  # noqa: SIM905
    *TERMS,
)
# Quantities that are texts about the device; the catalogue's INFO has the usual ones.
_TEXT = re.compile(r"info(\.[a-z0-9_]+)+")


class RowReader(NumberReader):
    """Reads the keys of one row; mistakes go to `tell`."""

    def __init__(self, tell: Tell, rows: Any, name: str) -> None:
        super().__init__(tell, rows[name], f"{name}: ")
        self._rows = rows
        self._name = name

    def row(self) -> Row:
        """The row; it may not be used if there were mistakes."""
        node, tell, of = self._node, self._tell, self._of
        unit = "" if node.get("unit", "1") is None else str(node.get("unit", "1"))
        kind, enum = self._kind(unit), self._enum()
        terms = TermReader(tell, node, of, self._name, unit, kind)
        if "sum" in node:
            row = terms.total()
        else:
            plain, registers = self.number(self._name, unit)
            plain = replace(plain, kind=kind, enum=enum)
            row = terms.value(replace(plain, absent=self.absent(plain)), registers)
        self._check_quantity(unit, row.type)
        return replace(
            row,
            enum=enum,
            kind=kind,
            tier=self._one_of("tier", "fast", TIERS),
            optional=flag(tell, node, "optional", of),
            alone=flag(tell, node, "alone", of),
            common=flag(tell, node, "common", of),
            note=str(node.get("note", "")),
            max_rate=self._max_rate(),
        )

    def _check_quantity(self, unit: str, kind: str) -> None:
        """Checks that the quantity is in the catalogue, is a number, and that its unit converts."""
        name = self._name
        if _TEXT.fullmatch(name):
            return
        is_own = name == catalogue.DEVICE_UP or name.startswith(catalogue.GUARDED)
        quantity = None if is_own else catalogue.describe(name, unit)
        if quantity is None:
            what = f"{name} is meterd's own" if is_own else f"unknown quantity {name}"
            self._tell(self._rows, name, what, map_hints.of_quantity(name), "M004")
            return
        if kind == "str":
            self._tell(
                self._node, "type", f"{self._of}a text is no number", "texts are named info.model …"
            )
        # Without `unit` it is unclear whether a ratio is in % already.
        lacks_unit = "unit" not in self._node and quantity.unit != "1"
        if not name.startswith("x.") and (lacks_unit or units.factor(unit, quantity.unit) is None):
            problem = (
                f"unit {unit!r} does not" if "unit" in self._node else "unit is missing: 1 does not"
            )
            what = f"{self._of}{problem} convert to {quantity.unit}"
            self._tell(self._node, "unit", what, map_hints.of_unit(unit, quantity.unit), "M005")

    def _kind(self, unit: str) -> catalogue.Kind:
        """Gauge or counter: by the catalogue, for users' own quantities by the key `kind`."""
        node, of = self._node, self._of
        quantity = None if catalogue.is_own(self._name) else catalogue.describe(self._name)
        written = node.get("kind")
        if written is None:
            return quantity.kind if quantity else catalogue.Kind.GAUGE
        if written not in tuple(catalogue.Kind):
            self._tell(node, "kind", f"{of}kind is gauge or counter, not {written!r}")
        elif quantity is not None and written != quantity.kind:
            self._tell(node, "kind", f"{of}it is a {quantity.kind}, and no {written}")
        elif written == catalogue.Kind.COUNTER and units.base_of(unit) not in COUNTER_UNITS:
            what = f"{of}a counter's unit is one of Wh varh VAh J m³ l 1, or what becomes it"
            self._tell(node, "unit" if "unit" in node else "kind", f"{what}, not {unit!r}")
        else:
            return catalogue.Kind(written)
        return catalogue.Kind.GAUGE

    def _max_rate(self) -> float | None:
        """The largest rise per hour of a user's own counter, in the unit of the row."""
        value = self._node.get("max_rate")
        if value is None:
            return None
        hint = "the most that it rises by in an hour, in the unit of the row"
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            what = f"{self._of}max_rate is a number above 0, not {value!r}"
            self._tell(self._node, "max_rate", what, hint)
        elif not catalogue.is_own(self._name) or self._node.get("kind") != "counter":
            what = f"{self._of}max_rate is for counters of your own: write kind: counter"
            self._tell(self._node, "max_rate", what, "energy is bounded by the device's max_power")
        else:
            return float(value)
        return None

    def _enum(self) -> Mapping[int, str] | None:
        value = self._node.get("enum")
        if value is None:
            return None
        if not isinstance(value, dict) or not all(whole(key) for key in value):
            hint = "the number stands in front of its text"
            self._tell(self._node, "enum", f"{self._of}enum is written {{0: text, 1: text}}", hint)
            return None
        return {int(key): str(text) for key, text in value.items()} or None
