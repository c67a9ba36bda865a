"""Rows as table, tsv, json, ndjson or csv: the formats that every reading command has."""

import csv
import itertools
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import combining, east_asian_width

import click

from meterd.cli.terminal import raw
from meterd.model.text import escaped, escaped_json, for_spreadsheets

FORMATS = ("table", "tsv", "json", "ndjson", "csv")

Row = Mapping[str, Any]

format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="How to print; table on a terminal, tsv in a pipe.",
)


def chosen(format_: str | None) -> str:
    """What was asked for, else what fits where stdout goes."""
    return format_ or ("table" if sys.stdout.isatty() else "tsv")


def show(
    columns: Sequence[str],
    rows: Iterable[Row],
    format_: str | None,
    document: Any,
    *,
    minor: Sequence[str] = (),
) -> None:
    """Print rows; `document` is what json prints.

    `minor` are columns that a table may lose where there is no room, the least important first.
    """
    match chosen(format_):
        case "json":
            click.echo(escaped_json(json.dumps(document, ensure_ascii=False, indent=2)))
        case "ndjson":
            for row in rows:
                click.echo(escaped_json(json.dumps(row, ensure_ascii=False)))
        case "csv":
            lines = csv.writer(sys.stdout, lineterminator="\n")
            lines.writerow(columns)
            # A program gets what there is; a person may paste it into a spreadsheet.
            shown = for_spreadsheets if sys.stdout.isatty() else str
            lines.writerows([shown(cell(row.get(column))) for column in columns] for row in rows)
        case "tsv":
            click.echo("\t".join(columns))
            for row in rows:
                click.echo("\t".join(_one_line(cell(row.get(column))) for column in columns))
        case _:
            _table(columns, list(rows), minor)


def cell(value: Any) -> str:
    """A value as text: nothing for what is not there, numbers as short as they are exact."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value)


def _one_line(text: str) -> str:
    return escaped(" ".join(text.split()) if any(c in text for c in "\t\r\n") else text)


def _table(columns: Sequence[str], rows: Sequence[Row], minor: Sequence[str]) -> None:
    """No value is ever broken: where there is no room columns go, or each row turns vertical."""
    if not rows:
        return
    lines = [[_one_line(cell(row.get(column))) for column in columns] for row in rows]
    cells = [_TableColumn.of(name, [line[i] for line in lines]) for i, name in enumerate(columns)]
    width = _width()
    dropped = _too_many(cells, minor, width)
    shown = [column for column in cells if column.name not in dropped]
    if _least(shown) > width:
        _vertical(cells, len(lines), width)
        return
    _horizontal(shown, len(lines), width)
    _tell([column for column in cells if column.name in dropped], len(lines), width)


def _tell(dropped: Sequence["_TableColumn"], count: int, width: int) -> None:
    """What a table has no room for; what is the same in all rows is said once."""
    same = [one for one in dropped if one.is_same and count >= _FEW]
    dropped = [one for one in dropped if not one.is_empty]
    if same:
        told = ", ".join(f"{one.name} {one.cells[0]}" for one in same)
        _note(f"in every row: {told}", width)
    if len(dropped) > len(same):
        told = ", ".join(one.name for one in dropped if one not in same)
        _note(f"no room here for: {told} (--format tsv or json has all)", width)


def _note(text: str, width: int) -> None:
    for line in _wrapped(text, width):
        click.echo(line, err=True)


# Between two columns.
_GAP = 2
# Fewer rows have nothing in common that would be worth a line of its own.
_FEW = 2
# Texts longer than this are wrapped at blanks, in columns that are not narrower than that.
_SENTENCE, _NARROW = 24, 10
# Where stdout is no terminal.
_NO_TERMINAL = 200
_NUMBER = re.compile(r"-?[0-9][0-9.,]*(e[-+]?[0-9]+)?|", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _TableColumn:
    """One column of a table as texts. `least` is what it needs, `most` what it can use."""

    name: str
    cells: list[str]
    least: int
    most: int
    is_number: bool

    @classmethod
    def of(cls, name: str, cells: list[str]) -> "_TableColumn":
        most = max(map(_places, (name, *cells)))
        is_prose = any(" " in text and _places(text) > _SENTENCE for text in cells)
        words = max((_places(word) for text in cells for word in text.split()), default=0)
        least = min(most, max(words, _places(name), _NARROW)) if is_prose else most
        numbers = any(cells) and all(_NUMBER.fullmatch(text) for text in cells)
        return cls(name, cells, least, most, numbers)

    @property
    def is_empty(self) -> bool:
        """Whether no row has a value."""
        return not any(self.cells)

    @property
    def is_same(self) -> bool:
        """Whether all rows have the same value, and one there is."""
        return bool(self.cells) and bool(self.cells[0]) and len(set(self.cells)) == 1

    def pad(self, text: str, width: int) -> str:
        """On the side where it belongs."""
        fill = " " * (width - _places(text))
        return fill + text if self.is_number else text + fill


def _width() -> int:
    """Of the terminal, as $COLUMNS or the terminal itself says."""
    if not sys.stdout.isatty():
        return _NO_TERMINAL
    return shutil.get_terminal_size((80, 24)).columns


def _least(columns: Sequence[_TableColumn]) -> int:
    return sum(column.least for column in columns) + _GAP * (len(columns) - 1)


def _too_many(columns: Sequence[_TableColumn], minor: Sequence[str], width: int) -> set[str]:
    """Which columns go, so that the others have room: those that say nothing, or the same in every
    row, then the minor ones. (A unit stays beside its values.)
    """
    dull = [one.name for one in columns if one.name != "unit" and (one.is_same or one.is_empty)]
    if columns and len(columns[0].cells) < _FEW:
        dull = [one.name for one in columns if one.is_empty]
    known = {one.name for one in columns}
    first = sorted(dull, key=lambda name: name not in minor)
    dropped: set[str] = set()
    for name in (*first, *(name for name in minor if name not in dull)):
        if _least([one for one in columns if one.name not in dropped]) <= width:
            break
        if name in known and len(dropped) < len(known) - 1:
            dropped.add(name)
    return dropped


def _horizontal(columns: Sequence[_TableColumn], count: int, width: int) -> None:
    spare = width - _least(columns)
    widths = []
    for column in columns:
        more = min(spare, column.most - column.least)
        spare -= more
        widths.append(column.least + more)
    bold = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    head = (" " * _GAP).join(map(_TableColumn.pad, columns, [c.name for c in columns], widths))
    styled = click.style(head.rstrip(), bold=True) if bold else head.rstrip()
    click.echo(styled, file=raw(sys.stdout))
    for row in range(count):
        parts = [
            _wrapped(column.cells[row], room) for column, room in zip(columns, widths, strict=True)
        ]
        for texts in itertools.zip_longest(*parts, fillvalue=""):
            padded = map(_TableColumn.pad, columns, texts, widths)
            click.echo((" " * _GAP).join(padded).rstrip())


def _vertical(columns: Sequence[_TableColumn], count: int, width: int) -> None:
    """Each row as lines of name and value; what has no value has no line."""
    names = max(_places(column.name) for column in columns)
    room = max(width - names - _GAP, 1)
    for row in range(count):
        if row:
            click.echo()
        for column in columns:
            if text := column.cells[row]:
                first, *more = _wrapped(text, max(room, _SENTENCE))
                click.echo(column.name + " " * (names - _places(column.name) + _GAP) + first)
                for line in more:
                    click.echo(" " * (names + _GAP) + line)


def _places(text: str) -> int:
    """How many places of a terminal a text takes: some characters take two, accents none."""
    if text.isascii():
        return len(text)
    wide = sum(east_asian_width(one) in "WF" for one in text)
    return len(text) + wide - sum(combining(one) > 0 for one in text)


def _wrapped(text: str, width: int) -> list[str]:
    """At blanks only; a word, a number or a time that has no room sticks out."""
    if _places(text) <= width:
        return [text]
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
