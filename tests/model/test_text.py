"""Texts of others: shown, and not obeyed."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.model.text import (
    escaped,
    escaped_json,
    for_spreadsheets,
    from_spreadsheets,
    has_controls,
)

EVIL = [
    "\x1b[2J\x1b[31mall is well",
    "\x1b]0;title\x07",
    "a\rb",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2028next",
    "\x00",
    "\ud800",
    "\U000e0041",
]


@pytest.mark.parametrize("text", EVIL)
def test_what_moves_a_terminal_is_spelt(text: str) -> None:
    assert has_controls(text)
    assert not has_controls(escaped(text))
    assert escaped(text).isprintable()
    assert escaped(text).startswith(("\\", "a\\"))


@pytest.mark.parametrize("text", ["230 V", "Zähler", "° Ω µ €", "電力", "🙂", "=1+1", ""])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert not has_controls(text)
    assert escaped(text) == text


@given(st.recursive(st.text(st.characters()), lambda inner: st.lists(inner, max_size=3)))
def test_json_means_the_same(data: object) -> None:
    text = escaped_json(json.dumps(data, ensure_ascii=False, indent=2))
    assert json.loads(text) == data
    assert not has_controls(text, "\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("-", "'-"),
        ("-2", "-2"),
        ("-2.5e-7", "-2.5e-7"),
        ("+.5", "+.5"),
        ("2026-11-30", "2026-11-30"),
        ("", ""),
        ("'quoted'", "'quoted'"),
    ],
)
def test_formulas_are_quoted_and_numbers_are_not(text: str, shown: str) -> None:
    assert for_spreadsheets(text) == shown
    assert from_spreadsheets(shown) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_cell_of_a_csv_begins_a_formula(text: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow([for_spreadsheets(text)])
    (cell,) = next(csv.reader(io.StringIO(out.getvalue(), newline="")), [""])
    if cell[:1] in tuple("=@\t\r"):
        raise AssertionError(cell)
    if cell[:1] in ("+", "-"):
        float(cell)
