"""Reads the tables in tests/promql/cases: series, queries, and what they must answer.

series 1m                         samples from 0 on, one a minute; starts a new set of data
  name{label="x"}  0+10*5 _ 7 stale NaN      start+step*times (times + 1 samples), _ is a gap
at 5m: expression                 an instant query; expected lines follow, in any order
  name{label="x"} 60
range 0 5m 1m: expression         a range query; _ where there is no value
  {label="x"} 1 2 _ 4 5 6
expected lines may also be: scalar 1 · string text · nothing · ordered · warns text ·
informs text · fails kind: text
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from meterd.promql.durations import milliseconds
from meterd.promql.source import STALE_BITS, Values
from tests.promql.memory import Memory

_SERIES = re.compile(r"\s*([A-Za-z_:][\w:]*)?(\{.*?\})?\s+(.+)")
_LABEL = re.compile(r'([\w.]+)="((?:[^"\\]|\\.)*)"')
_RUN = re.compile(r"(-?[\d.]+(?:e[+-]?\d+)?)([+-])([\d.]+(?:e[+-]?\d+)?)\*(\d+)")


@dataclass(slots=True)
class Case:
    """One query: times in ms (a single one: an instant query), and the lines it must answer."""

    name: str
    source: Memory
    times: tuple[int, ...]
    query: str
    expected: list[str] = field(default_factory=list)


def read(path: Path) -> Iterator[Case]:
    source, step, case = Memory(), 0, None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line.startswith((" ", "\t")):
            if case is None:
                _load(source, line, step)
            else:
                case.expected.append(line.strip())
            continue
        if case is not None:
            yield case
        if line.startswith("series"):
            source, step, case = Memory(), _ms(line.split()[1]), None
            continue
        case = _case(line, f"{path.stem}:{number}", source)
    if case is not None:
        yield case


def _case(line: str, name: str, source: Memory) -> Case:
    head, _, query = line.partition(": ")
    kind, *words = head.split()
    assert kind in ("at", "range"), f"{name}: {line}"
    assert len(words) == (1 if kind == "at" else 3), f"{name}: {line}"
    return Case(name, source, tuple(map(_ms, words)), query)


def _ms(text: str) -> int:
    if text.startswith("-"):
        return -_ms(text[1:])
    return int(float(text) * 1000) if re.fullmatch(r"[\d.]+", text) else milliseconds(text)


def _load(source: Memory, line: str, step: int) -> None:
    labels, words = series(line)
    bits: list[float | None] = []
    for word in words:
        bits += list(_samples(word))
    places = [place for place, value in enumerate(bits) if value is not None]
    values = np.array([bits[place] for place in places], dtype=np.float64)
    stale = np.array([bits[place] == -1e300 for place in places], dtype=np.bool_)
    raw = values.view(np.uint64)
    raw[stale] = STALE_BITS
    source.add(labels, [place * step for place in places], raw.view(np.float64))


def _samples(word: str) -> Iterator[float | None]:
    found = _RUN.fullmatch(word)
    if word == "stale":
        yield -1e300
    elif word.startswith("_"):
        yield from [None] * (int(word[2:]) if word[1:] else 1)
    elif found is None:
        yield float(word)
    else:
        first, rise = float(found[1]), float(found[2] + found[3])
        yield from (first + rise * place for place in range(int(found[4]) + 1))


def series(line: str) -> tuple[dict[str, str], list[str]]:
    """Labels and words of a line `name{label="x"} 1 2 3`."""
    found = _SERIES.fullmatch(line)
    assert found is not None, line
    labels = {name: value.replace('\\"', '"') for name, value in _LABEL.findall(found[2] or "")}
    if found[1]:
        labels["__name__"] = found[1]
    return labels, found[3].split()


def expected_values(words: list[str]) -> Values:
    """Numbers, NaN where a gap is; a case tells a gap from NaN by its word."""
    return np.array([np.nan if word.startswith("_") else float(word) for word in words])
