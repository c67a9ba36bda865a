"""One row of a map file: from its YAML keys to a Row, each mistake told at its key."""

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
# In which users' own counters may count.
COUNTER_UNITS = (*catalogue.COUNTED_UNITS, "J", "m³", "l", "1")
KEYS = (
    *"function address words type count word_order byte_order scale offset unit na wrap".split(),  # noqa: SIM905
    *"enum bit tier optional alone common note kind max_rate".split(),  # noqa: SIM905
    *TERMS,
)
# Texts that name a device; those of the catalogue's INFO are the usual ones.
_TEXT = re.compile(r"info(\.[a-z0-9_]+)+")


class RowReader(NumberReader):
    """The keys of one row."""

    def __init__(self, tell: Tell, rows: Any, name: str) -> None:
        super().__init__(tell, rows[name], f"{name}: ")
        self._rows = rows
        self._name = name

    def row(self) -> Row:
        """The row; where mistakes were told it is not to be used."""
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
        self._known(unit, row.type)
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

    def _known(self, unit: str, kind: str) -> None:
        """The quantity is in the catalogue, its type is one of a number, its unit converts."""
        name = self._name
        if _TEXT.fullmatch(name):
            return
        ours = name == catalogue.DEVICE_UP or name.startswith(catalogue.GUARDED)
        known = None if ours else catalogue.describe(name, unit)
        if known is None:
            what = f"{name} is meterd's own" if ours else f"unknown quantity {name}"
            self._tell(self._rows, name, what, map_hints.of_quantity(name), "M004")
            return
        if kind == "str":
            self._tell(
                self._node, "type", f"{self._of}a text is no number", "texts are named info.model …"
            )
        # Without a unit nothing says whether a percentage is one already.
        unsaid = "unit" not in self._node and known.unit != "1"
        if not name.startswith("x.") and (unsaid or units.factor(unit, known.unit) is None):
            told = (
                f"unit {unit!r} does not" if "unit" in self._node else "unit is missing: 1 does not"
            )
            what = f"{self._of}{told} convert to {known.unit}"
            self._tell(self._node, "unit", what, map_hints.of_unit(unit, known.unit), "M005")

    def _kind(self, unit: str) -> catalogue.Kind:
        """How it counts: of the catalogue's quantities that is known, of users' own it is said."""
        node, of = self._node, self._of
        known = None if catalogue.is_own(self._name) else catalogue.describe(self._name)
        said = node.get("kind")
        if said is None:
            return known.kind if known else catalogue.Kind.GAUGE
        if said not in tuple(catalogue.Kind):
            self._tell(node, "kind", f"{of}kind is gauge or counter, not {said!r}")
        elif known is not None and said != known.kind:
            self._tell(node, "kind", f"{of}it is a {known.kind}, and no {said}")
        elif said == catalogue.Kind.COUNTER and units.base_of(unit) not in COUNTER_UNITS:
            what = f"{of}a counter's unit is one of Wh varh VAh J m³ l 1, or what becomes it"
            self._tell(node, "unit" if "unit" in node else "kind", f"{what}, not {unit!r}")
        else:
            return catalogue.Kind(said)
        return catalogue.Kind.GAUGE

    def _max_rate(self) -> float | None:
        """The most that a counter of one's own rises by in an hour, in the unit of the row."""
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
