"""Reads tests/transcripts/<map>.txt: registers, and the values they must give (see its README)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "transcripts"

_ROW = re.compile(
    r'row (?P<quantity>\S+) = (?:"(?P<text>[^"]*)"|(?P<value>\S+)(?: (?P<unit>\S+))?)'
)
_WORDS = re.compile(r"words (?P<function>[1-4]):(?P<address>\d+)(?P<words>(?: [0-9A-F]{4})+)")

Registers = dict[tuple[int, int], int]


@dataclass(frozen=True, slots=True)
class Case:
    """One row: its own registers, and the value in `unit` that they must give."""

    quantity: str
    expected: float | str | None
    unit: str
    function: int
    address: int
    words: tuple[int, ...]


@dataclass(slots=True)
class Bank:
    """One state of a meter. `registers` maps (function, address) to a word."""

    name: str
    registers: Registers
    cases: list[Case] = field(default_factory=list)
    own: Registers = field(default_factory=dict)

    def words(self, function: int, address: int, count: int, filler: int = 0xABCD) -> list[int]:
        """What the meter answers; registers that no row has hold `filler`."""
        span = range(address, address + count)
        return [self.registers.get((function, register), filler) for register in span]


@cache
def read(name: str) -> tuple[Bank, ...]:
    """The banks of one map's transcript, the complete one first."""
    text = (FOLDER / f"{name}.txt").read_text("utf-8")
    return tuple(parse(text))


def parse(text: str) -> Iterator[Bank]:
    """Raises ValueError, with the line, where the text is not of the format."""
    banks: list[Bank] = []
    row: Mapping[str, str | None] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("bank "):
            start = dict(banks[0].registers) if banks else {}
            banks.append(Bank(line.removeprefix("bank "), start))
        elif banks and (found := _ROW.fullmatch(line)):
            row = found.groupdict()
        elif banks and (found := _WORDS.fullmatch(line)):
            _take(banks[-1], row, found, number)
            row = None
        else:
            raise ValueError(f"line {number}: no bank, row or words: {line}")
    return iter(banks)


def _take(
    bank: Bank, row: Mapping[str, str | None] | None, found: re.Match[str], number: int
) -> None:
    """Words into the bank; with a row just above, they are also that row's case."""
    function, address = int(found["function"]), int(found["address"])
    words = tuple(int(word, 16) for word in found["words"].split())
    for offset, word in enumerate(words):
        key = (function, address + offset)
        if bank.own.setdefault(key, word) != word:
            raise ValueError(f"line {number}: register {key} has two contents in this bank")
    bank.registers |= bank.own
    if row is not None:
        quantity, unit = str(row["quantity"]), row["unit"] or ""
        bank.cases.append(Case(quantity, _expected(row), unit, function, address, words))


def _expected(row: Mapping[str, str | None]) -> float | str | None:
    if row["text"] is not None:
        return row["text"]
    return None if row["value"] == "null" else float(str(row["value"]))
