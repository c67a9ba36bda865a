"""Parser of composed values in map files: a sum, a sign, ratios, scattered words.

sum:      [{address: 3500, unit: kWh}, {address: 3501, unit: MWh}]
sign:     {address: 12, negative: 1}
multiply: "@40"                           or a list; divide is the same
words:    [625, 690]
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from meterd.drivers import map_hints
from meterd.drivers.map_nodes import Tell, whole
from meterd.drivers.map_numbers import BITS, NumberReader
from meterd.drivers.registers import Role, Row, Term
from meterd.drivers.values import SUM
from meterd.model import units
from meterd.model.quantity import Kind

TERMS = ("sum", "sign", "multiply", "divide")
_NUMBER = ("function", "address", "words", "type", "count", "word_order", "byte_order", "bit")
_PART = (*_NUMBER, "scale", "unit", "na", "wrap", "note")
_SIGN = (*_NUMBER, "note", "negative", "positive")
_RATIO = (*_NUMBER, "scale", "na", "note")
# Keys that a number inherits from its row.
_INHERITED = ("function", "type", "word_order", "byte_order")
# Keys of the parts that a row with a sum must not have.
_OF_PARTS = ("address", "words", "bit", "na", "count")
# Keys of the sum itself.
_OF_SUM = ("scale", "offset", "wrap")
_REGISTER = re.compile(r"@(\d{1,5}|0x[0-9a-fA-F]{1,4})")
# Internal quantity name of a part.
_NAME = "x.part"


class TermReader:
    """Reads the terms of one row from its YAML node."""

    def __init__(
        self, tell: Tell, node: Mapping[str, Any], of: str, quantity: str, unit: str, kind: Kind
    ) -> None:
        """`of` names the row in the mistakes; quantity, unit and kind are the row's."""
        self._tell = tell
        self._node = node
        self._of = of
        self._quantity = quantity
        self._unit = unit
        self._kind = kind

    def value(self, row: Row, registers: tuple[int, ...]) -> Row:
        """The row of a single number, composed if it has a sign, ratios or scattered words."""
        others = list(self._sign_and_ratios())
        in_place = registers == tuple(range(row.address, row.address + row.words))
        if not others and in_place:
            return row
        if row.function in BITS:
            self._tell(self._node, "function", f"{self._of}a single bit has no sign and no ratio")
            return row
        form = replace(
            row, quantity=_NAME, scale=1.0, scale_register=None, scale_factor=1.0, offset=0.0
        )
        bare = replace(row, bit=None, bits=1, na=(), na_ranges=(), absent=())
        return bare.with_terms((Term(Role.SUM, form, registers), *others))

    def total(self) -> Row:
        """The row of a sum."""
        for key in _OF_PARTS:
            if key in self._node:
                what = f"{self._of}{key} belongs to the parts of a sum"
                self._tell(self._node, key, what, map_hints.SUM)
        parts = [term for node in self._parts() if (term := self._part(node)) is not None]
        reader = NumberReader(self._at_row, self._sum_node(), self._of)
        scaled, _ = reader.number(self._quantity, self._unit)
        others = list(self._sign_and_ratios())
        if len(parts) < 2:
            return replace(scaled, type=SUM)
        plain = [place for term in parts if term.form.bit is None for place in term.places]
        if twice := next((place for place in plain if plain.count(place) > 1), None):
            what = f"{self._of}register {twice[1]} is in two parts of the sum"
            self._tell(self._node, "sum", what, "it would be added twice")
        return replace(scaled, type=SUM).with_terms((*_limited(parts), *others))

    def _sum_node(self) -> Mapping[str, Any]:
        """The keys of the sum itself, with a number format for it."""
        own = {key: self._node[key] for key in _OF_SUM if key in self._node}
        return {"function": 3, "address": 0, "type": "u64", **own}

    def _at_row(self, node: Any, key: Any, what: str, hint: str = "", code: str = "M003") -> None:
        del node  # what was read is a part of the row
        self._tell(self._node, key, what, hint, code)

    def _parts(self) -> Iterator[Mapping[str, Any]]:
        value = self._node["sum"]
        if not isinstance(value, list) or len(value) < 2:
            what = f"{self._of}sum is a list of two numbers or more, not {value!r}"
            self._tell(self._node, "sum", what, map_hints.SUM)
            return
        for part in value:
            if isinstance(part, dict):
                yield part
            else:
                what = f"{self._of}a part of a sum has keys, address and others, not {part!r}"
                self._tell(self._node, "sum", what, map_hints.SUM)

    def _part(self, node: Mapping[str, Any]) -> Term | None:
        term = self._number(Role.SUM, node, "sum", _PART, {})
        if term is None:
            return None
        if not _is_number(term.form):
            what = f"{self._of}a part of a sum is a number, and its scale is one"
            self._tell(self._node, "sum", what, map_hints.SUM)
            return None
        step = self._in_unit(node)
        return replace(term, form=replace(term.form, scale=term.form.scale * step))

    def _in_unit(self, node: Mapping[str, Any]) -> float:
        """Factor from a part's unit to the row's."""
        if "unit" not in node:
            return 1.0
        unit, base = str(node["unit"]), units.base_of(self._unit or "1")
        part, row = units.factor(unit, base), units.factor(self._unit or "1", base)
        if part is None or row is None:
            what = f"unit {unit!r} does not convert to {self._unit or '1'!r}, the row's"
            self._tell(node, "unit", f"{self._of}{what}", map_hints.of_unit(unit, base), "M005")
            return 1.0
        return part / row

    def _sign_and_ratios(self) -> Iterator[Term]:
        """The terms of sign and ratios."""
        if "sign" in self._node:
            yield from self._sign(self._node["sign"])
        for role in (Role.MULTIPLY, Role.DIVIDE):
            if role.value in self._node:
                value = self._node[role.value]
                for item in value if isinstance(value, list) else [value]:
                    term = self._register_term(role, item, role.value, _RATIO)
                    if term is not None:
                        yield term

    def _sign(self, value: Any) -> Iterator[Term]:
        node = {"address": value} if whole(value) else value
        term = self._register_term(Role.SIGN, node, "sign", _SIGN)
        if term is None:
            return
        keys = node if isinstance(node, dict) else {}
        negative = keys.get("negative", 0 if keys.get("positive") == 1 else 1)
        positive = keys.get("positive", 1 if negative == 0 else 0)
        if not whole(negative) or not whole(positive) or negative == positive:
            what = f"{self._of}sign is negative at {negative!r} and positive at {positive!r}"
            hint = "two numbers that the register holds: sign: {address: 12, negative: 1}"
            self._tell(self._node, "sign", what, hint)
            return
        yield replace(term, negative=negative, positive=positive)

    def _register_term(
        self, role: Role, value: Any, key: str, allowed: Sequence[str]
    ) -> Term | None:
        """A number that is named by its register, "@40", or has keys of its own."""
        register = _REGISTER.fullmatch(value.replace(" ", "")) if isinstance(value, str) else None
        if register is not None:
            value = {"address": int(register[1], 0)}
        if not isinstance(value, dict):
            what = f'{self._of}{key} is "@ADDRESS" or {{address: …}}, not {value!r}'
            self._tell(self._node, key, what, map_hints.of_term(key, value))
            return None
        kind = "bits" if "bit" in value or value.get("function") in BITS else "u16"
        term = self._number(role, value, key, allowed, {"type": kind})
        if term is not None and (term.form.type == "str" or term.form.scale_register is not None):
            self._tell(self._node, key, f"{self._of}{key} is a number, and its scale is one")
            return None
        return term

    def _number(
        self,
        role: Role,
        written: Mapping[str, Any],
        name: str,
        allowed: Sequence[str],
        default: Mapping[str, Any],
    ) -> Term | None:
        """One number; None where it has mistakes. `default` goes before the row's keys."""
        mistakes = 0

        def tell(node: Any, key: Any, what: str, hint: str = "", code: str = "M003") -> None:
            nonlocal mistakes
            mistakes += 1
            if key in written and hasattr(written, "lc"):
                self._tell(written, key, what, hint, code)
            else:
                self._tell(self._node, name, what, hint, code)

        of = f"{self._of}{name}: "
        for key in written:
            if key not in allowed:
                tell(written, key, f"{of}unknown key {key!r}", map_hints.of_key(key, allowed))
        inherited = {key: self._node[key] for key in _INHERITED if key in self._node}
        if isinstance(inherited.get("word_order"), list):
            del inherited["word_order"]
        merged = {**inherited, **default, **written}
        reader = NumberReader(tell, merged, of)
        row, registers = reader.number(_NAME, "")
        if role is Role.SUM:
            of_row = replace(row, quantity=self._quantity, unit=self._unit, kind=self._kind)
            row = replace(row, absent=reader.absent(of_row))
        return None if mistakes else Term(role, row, registers)


def _is_number(form: Row) -> bool:
    return form.type != "str" and form.scale_register is None


def _limited(parts: Sequence[Term]) -> Iterator[Term]:
    """The parts with their `limit`: the step of the next larger part, if that has whole steps.

    A part that reaches it counts the whole sum itself, and would be added twice.
    """
    steps = sorted({abs(term.form.scale) for term in parts})
    above = dict(pairwise(steps))
    wholes = {abs(term.form.scale) for term in parts if term.form.type[0] != "f"}
    for term in parts:
        limit = above.get(abs(term.form.scale))
        yield replace(term, limit=limit) if limit in wholes else term
