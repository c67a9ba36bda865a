"""Lint of maps for registers that they may lack: halves of a number, signs and ratios elsewhere.

Each warning is a row (None: the map as a whole), a code, a text, and a hint how to write it.
"""

import re
from collections.abc import Iterator
from itertools import combinations

from meterd.drivers import map_hints, values
from meterd.drivers.registers import RegisterMap, Role, Row
from meterd.model import units
from meterd.model.quantity import COUNTED_UNITS, Kind, describe

MapWarning = tuple[Row | None, str, str, str]

_NUMBER = r"(?:0x[0-9a-f]+|[1-9]\d*)"
# "high word at 690", "upper half in register 12"; but not "high word first", which is an order.
_OTHER_HALF = re.compile(
    rf"\b(?:high|low|upper|lower|hi|lo|most significant|least significant)[ -]?"
    rf"(?:order )?(?:word|half|part|register|16 bits?)\b(?! first)[^.;]*\b{_NUMBER}"
    rf"|\b[ml]sw\b[^.;]*\b{_NUMBER}",
    re.IGNORECASE,
)
# "kWh 0..999 at 3500", "Wh below it in register 904".
_OTHER_PART = re.compile(
    r"\b0 ?(?:\.\.\.?|…|-|to) ?9{2,}\b|\b[kMG]?(?:Wh|varh|VAh)\b[^.;]*\b(?:at|in) "
    r"(?:register |holding |input )*(?:0x[0-9a-f]+|\d{2,})\b",
    re.IGNORECASE,
)
_SIGN = re.compile(rf"\bsign\b[^.;]*\b(?:at|in|register) (?:register )?{_NUMBER}", re.IGNORECASE)
_RATIO = re.compile(
    rf"\b(?:[CVP]Ts?|transformers?|transformer ratio|multipl\w+)\b[^.;]*\b(?:at|in|registers?) "
    rf"(?:register )?{_NUMBER}|\bratio\b[^.;]*\b(?:at|in|registers?) (?:register )?{_NUMBER}",
    re.IGNORECASE,
)
# Rated power in a model's name: SUN-50K, 10KTL, 30 kW.
_RATING = re.compile(r"(?<![\w.])(?:[A-Za-z]+-)?(\d{1,4}(?:\.\d+)?) ?[kK](?:[wW]|VA|TL)?\b")
# Suffixes of names that tell two halves of one number apart.
_HALF_NAMES = re.compile(r"[_.]?(?:[kmg]?wh|hi|high|lo|low|msw|lsw|upper|lower|int|frac\w*)$")
# A counter that rolls over below this should have `wrap`: it is five years of a small house.
_NARROW_WH = 1e8
# A counter with larger steps is probably coarser than its meter.
_COARSE_WH = 1e6


def map_warnings(register_map: RegisterMap) -> Iterator[MapWarning]:
    """All warnings, row by row; those of shipped maps were all examined."""
    for row in register_map.rows:
        yield from _note_warnings(row)
        yield from _counter_warnings(row)
        yield from _power_factor_warnings(row)
    yield from _pair_warnings(register_map)
    yield from _rating_warnings(register_map)
    yield from _ratio_warnings(register_map)


def _note_warnings(row: Row) -> Iterator[MapWarning]:
    """A note that mentions a register which the row does not read."""
    roles = {term.role for term in row.terms}
    parts = [term for term in row.terms if term.role is Role.SUM]
    if not any(term.registers for term in parts if len(term.registers) > 1 or len(parts) > 1):
        if half := _OTHER_HALF.search(row.note):
            what = f"has a note of another half, {row.note!r}, and reads one"
            named = [int(text, 0) for text in re.findall(_NUMBER, half[0], re.IGNORECASE)]
            other = next((register for register in named if register != row.address), "OTHER")
            yield row, "W111", what, map_hints.words_of(row.address, other)
        elif row.wrap is None and _OTHER_PART.search(row.note):
            what = f"has a note of another part, {row.note!r}, and reads one"
            yield row, "W111", what, map_hints.SUM
    if Role.SIGN not in roles and _SIGN.search(row.note):
        what = f"has a note of a sign elsewhere, {row.note!r}, and reads none"
        yield row, "W111", what, "sign: {address: 12, negative: 1}"
    if not roles & {Role.MULTIPLY, Role.DIVIDE} and _RATIO.search(row.note):
        what = f"has a note of a ratio, {row.note!r}, and reads none"
        yield row, "W111", what, 'multiply: "@ADDRESS", or divide'


def _counter_warnings(row: Row) -> Iterator[MapWarning]:
    """Energy counters that are too short, or too coarse, to be the whole number."""
    quantity, grain = describe(row.quantity, row.unit), values.grain(row)
    if quantity is None or quantity.unit not in COUNTED_UNITS or grain is None:
        return
    if quantity.kind is not Kind.COUNTER or row.type[0] not in "us" or row.type == values.SUM:
        return
    step = grain * (units.factor(row.unit, quantity.unit) or 1.0)
    most = step * (1 << 16 * row.words)
    if row.words == 1 and not row.terms and row.wrap is None and most <= _NARROW_WH:
        what = f"is one register, and starts again at {most / 1000:g} k{quantity.unit}"
        hint = "where the meter has a second one: type: u32, words: or sum:; else say wrap: 65536"
        yield row, "W112", what, hint
    if step >= _COARSE_WH:
        what = f"counts in steps of {step / 1000:g} k{quantity.unit}"
        yield row, "W112", what, f"where what is below is in another register: {map_hints.SUM}"


def _power_factor_warnings(row: Row) -> Iterator[MapWarning]:
    grain = values.grain(row)
    if not row.quantity.startswith("power_factor") or "angle" in row.quantity or grain is None:
        return
    step = grain * (units.factor(row.unit, "1") or 1.0)
    if row.type[0] in "us" and step >= 1:
        what = "is a whole number, and a power factor is between -1 and 1"
        yield row, "W116", what, "unit: '%', or scale: 0.01 or 0.001"


def _pair_warnings(register_map: RegisterMap) -> Iterator[MapWarning]:
    """Pairs of own quantities (`x.`) that look like two parts of one number."""
    own = [row for row in register_map.rows if row.quantity.startswith("x.") and not row.terms]
    for first, second in combinations(own, 2):
        stem = _HALF_NAMES.sub("", first.quantity)
        halves = stem != first.quantity and stem == _HALF_NAMES.sub("", second.quantity)
        if halves and first.type[0] in "us" and second.type[0] in "us":
            what = f"and {first.quantity} look like two parts of one number"
            hint = f"two numbers that are added: {map_hints.SUM}; halves: {map_hints.WORDS}"
            yield second, "W113", what, hint


def _rating_warnings(register_map: RegisterMap) -> Iterator[MapWarning]:
    """Powers whose registers cannot hold the model's rated power."""
    ratings = [float(text) * 1000 for text in _RATING.findall(register_map.model)]
    for row in register_map.rows:
        quantity, grain = describe(row.quantity, row.unit), values.grain(row)
        if quantity is None or quantity.unit not in ("W", "VA") or grain is None or not ratings:
            continue
        if row.words > 1 or row.terms or row.type[0] not in "us":
            continue
        bits = 15 if row.type[0] == "s" else 16
        most = grain * (units.factor(row.unit, quantity.unit) or 1.0) * (1 << bits)
        if most < max(ratings):
            what = f"ends at {most / 1000:g} k{quantity.unit}, and the model has {max(ratings):g} W"
            hint = f"where the meter has a second register: type: s32, or {map_hints.WORDS}"
            yield row, "W114", what, hint


def _ratio_warnings(register_map: RegisterMap) -> Iterator[MapWarning]:
    """A remark that mentions a register with a ratio, where no row has one."""
    roles = {term.role for row in register_map.rows for term in row.terms}
    remark = re.search(_RATIO, register_map.remark)
    if remark is not None and not roles & {Role.MULTIPLY, Role.DIVIDE}:
        what = f"the remark has a ratio in a register, {remark[0]!r}, and no row reads it"
        yield None, "W115", what, 'where values are to be multiplied with it: multiply: "@ADDRESS"'
