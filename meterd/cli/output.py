"""Prints rows as table, tsv, json, ndjson or csv, for all commands that read."""

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


def effective_format(format_: str | None) -> str:
    """The format given, else table on a terminal and tsv in a pipe."""
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

    `minor`: columns that a table drops where the terminal is too narrow, in this order.
    """
    match effective_format(format_):
        case "json":
            click.echo(escaped_json(json.dumps(document, ensure_ascii=False, indent=2)))
        case "ndjson":
            for row in rows:
                click.echo(escaped_json(json.dumps(row, ensure_ascii=False)))
        case "csv":
            lines = csv.writer(sys.stdout, lineterminator="\n")
            lines.writerow(columns)
            # On a terminal a person may copy it into a spreadsheet, which would run formulas.
            shown = for_spreadsheets if sys.stdout.isatty() else str
            lines.writerows([shown(cell(row.get(column))) for column in columns] for row in rows)
        case "tsv":
            click.echo("\t".join(columns))
            for row in rows:
                click.echo("\t".join(_single_line(cell(row.get(column))) for column in columns))
        case _:
            _table(columns, list(rows), minor)


def cell(value: Any) -> str:
    """A value as text: empty for None, floats with up to 15 significant digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value)


def _single_line(text: str) -> str:
    return escaped(" ".join(text.split()) if any(letter in text for letter in "\t\r\n") else text)


def _table(columns: Sequence[str], rows: Sequence[Row], minor: Sequence[str]) -> None:
    """Print a table. No value is cut: where it is too wide, columns are dropped, or each row is
    printed as lines of name and value.
    """
    if not rows:
        return
    lines = [[_single_line(cell(row.get(column))) for column in columns] for row in rows]
    cells = [_TableColumn.of(name, [line[i] for line in lines]) for i, name in enumerate(columns)]
    width = _terminal_width()
    dropped = _columns_to_drop(cells, minor, width)
    shown = [column for column in cells if column.name not in dropped]
    if _min_width(shown) > width:
        _vertical(cells, len(lines), width)
        return
    _horizontal(shown, len(lines), width)
    _print_dropped([column for column in cells if column.name in dropped], len(lines), width)


def _print_dropped(dropped: Sequence["_TableColumn"], count: int, width: int) -> None:
    """Print the names of the dropped columns, and the values that are the same in all rows."""
    same = [column for column in dropped if column.is_same and count >= _COMMON_ROWS_MIN]
    dropped = [column for column in dropped if not column.is_empty]
    if same:
        names = ", ".join(f"{column.name} {column.cells[0]}" for column in same)
        _note(f"in every row: {names}", width)
    if len(dropped) > len(same):
        names = ", ".join(column.name for column in dropped if column not in same)
        _note(f"no room here for: {names} (--format tsv or json has all)", width)


def _note(text: str, width: int) -> None:
    for line in _wrap(text, width):
        click.echo(line, err=True)


# Blanks between two columns.
_COLUMN_GAP = 2
# Rows from which a value common to all of them is printed once.
_COMMON_ROWS_MIN = 2
# Texts longer than the first are wrapped at blanks, in columns of at least the second.
_PROSE_CHARS_MIN, _PROSE_WIDTH_MIN = 24, 10
# Width of a table where stdout is no terminal.
_PIPE_WIDTH = 200
_NUMBER = re.compile(r"-?[0-9][0-9.,]*(e[-+]?[0-9]+)?|", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _TableColumn:
    """One column of a table as texts; widths in terminal cells: `max_width` avoids any wrapping."""

    name: str
    cells: list[str]
    min_width: int
    max_width: int
    is_number: bool

    @classmethod
    def of(cls, name: str, cells: list[str]) -> "_TableColumn":
        max_width = max(map(_display_width, (name, *cells)))
        is_prose = any(" " in text and _display_width(text) > _PROSE_CHARS_MIN for text in cells)
        words = max((_display_width(word) for text in cells for word in text.split()), default=0)
        min_width = (
            min(max_width, max(words, _display_width(name), _PROSE_WIDTH_MIN))
            if is_prose
            else max_width
        )
        numbers = any(cells) and all(_NUMBER.fullmatch(text) for text in cells)
        return cls(name, cells, min_width, max_width, numbers)

    @property
    def is_empty(self) -> bool:
        """Whether no row has a value."""
        return not any(self.cells)

    @property
    def is_same(self) -> bool:
        """Whether all rows have the same value, which is not empty."""
        return bool(self.cells) and bool(self.cells[0]) and len(set(self.cells)) == 1

    def pad(self, text: str, width: int) -> str:
        """Pad to the width: numbers on the left, texts on the right."""
        fill = " " * (width - _display_width(text))
        return fill + text if self.is_number else text + fill


def _terminal_width() -> int:
    """The width by $COLUMNS or the terminal, 200 in a pipe."""
    if not sys.stdout.isatty():
        return _PIPE_WIDTH
    return shutil.get_terminal_size((80, 24)).columns


def _min_width(columns: Sequence[_TableColumn]) -> int:
    return sum(column.min_width for column in columns) + _COLUMN_GAP * (len(columns) - 1)


def _columns_to_drop(columns: Sequence[_TableColumn], minor: Sequence[str], width: int) -> set[str]:
    """The columns to drop so that the others fit: first those that are empty or the same in every
    row, except a unit, which stays beside its values; then the minor ones.
    """
    constant = [
        column.name
        for column in columns
        if column.name != "unit" and (column.is_same or column.is_empty)
    ]
    if columns and len(columns[0].cells) < _COMMON_ROWS_MIN:
        constant = [column.name for column in columns if column.is_empty]
    names = {column.name for column in columns}
    first = sorted(constant, key=lambda name: name not in minor)
    dropped: set[str] = set()
    for name in (*first, *(name for name in minor if name not in constant)):
        if _min_width([column for column in columns if column.name not in dropped]) <= width:
            break
        if name in names and len(dropped) < len(names) - 1:
            dropped.add(name)
    return dropped


def _horizontal(columns: Sequence[_TableColumn], count: int, width: int) -> None:
    spare = width - _min_width(columns)
    widths = []
    for column in columns:
        more = min(spare, column.max_width - column.min_width)
        spare -= more
        widths.append(column.min_width + more)
    bold = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    head = (" " * _COLUMN_GAP).join(
        map(_TableColumn.pad, columns, [shown.name for shown in columns], widths)
    )
    styled = click.style(head.rstrip(), bold=True) if bold else head.rstrip()
    click.echo(styled, file=raw(sys.stdout))
    for row in range(count):
        parts = [
            _wrap(column.cells[row], room) for column, room in zip(columns, widths, strict=True)
        ]
        for texts in itertools.zip_longest(*parts, fillvalue=""):
            padded = map(_TableColumn.pad, columns, texts, widths)
            click.echo((" " * _COLUMN_GAP).join(padded).rstrip())


def _vertical(columns: Sequence[_TableColumn], count: int, width: int) -> None:
    """Print each row as lines of name and value, without empty values."""
    names = max(_display_width(column.name) for column in columns)
    room = max(width - names - _COLUMN_GAP, 1)
    for row in range(count):
        if row:
            click.echo()
        for column in columns:
            if text := column.cells[row]:
                first, *more = _wrap(text, max(room, _PROSE_CHARS_MIN))
                click.echo(
                    column.name + " " * (names - _display_width(column.name) + _COLUMN_GAP) + first
                )
                for line in more:
                    click.echo(" " * (names + _COLUMN_GAP) + line)


def _display_width(text: str) -> int:
    """How many places of a terminal a text takes: some characters take two, accents none."""
    if text.isascii():
        return len(text)
    wide = sum(east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(combining(letter) > 0 for letter in text)


def _wrap(text: str, width: int) -> list[str]:
    """The text wrapped at blanks; a word, number or time that is wider is not broken."""
    if _display_width(text) <= width:
        return [text]
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
