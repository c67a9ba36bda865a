"""Rows as table, tsv, json, ndjson or csv: the formats that every reading command has."""

import csv
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

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


def show(columns: Sequence[str], rows: Iterable[Row], format_: str | None, document: Any) -> None:
    """Print rows; `document` is what json prints."""
    match chosen(format_):
        case "json":
            click.echo(json.dumps(document, ensure_ascii=False, indent=2))
        case "ndjson":
            for row in rows:
                click.echo(json.dumps(row, ensure_ascii=False))
        case "csv":
            lines = csv.writer(sys.stdout, lineterminator="\n")
            lines.writerow(columns)
            lines.writerows([cell(row.get(column)) for column in columns] for row in rows)
        case "tsv":
            click.echo("\t".join(columns))
            for row in rows:
                click.echo("\t".join(_one_line(cell(row.get(column))) for column in columns))
        case _:
            _table(columns, rows)


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
    return " ".join(text.split()) if any(c in text for c in "\t\r\n") else text


def _table(columns: Sequence[str], rows: Iterable[Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    plain = "NO_COLOR" in os.environ
    table = Table(box=None, pad_edge=False, header_style="" if plain else "bold")
    for column in columns:
        numbers = all(isinstance(row.get(column), int | float | None) for row in rows)
        table.add_column(column, justify="right" if numbers and rows else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(row.get(column))) for column in columns))
    width = None if sys.stdout.isatty() else 200
    Console(file=sys.stdout, highlight=False, soft_wrap=False, width=width).print(table)
