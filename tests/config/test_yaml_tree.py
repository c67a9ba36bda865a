import math
from typing import Any

import pytest

from meterd.config.problems import Problems
from meterd.config.yaml_tree import MAX_VALUES, compose, plain
from tests.config.judge import MINIMAL, problem, problems, settings


def tree(text: str) -> Any:
    root = compose(text, Problems("m.yaml"))
    assert root is not None
    return plain(root)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("off", "off"),
        ("22:30", "22:30"),
        ("2026-11-21", "2026-11-21"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("+7", 7),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("tRUE", "tRUE"),
        ("~", None),
        ("'7'", "7"),
        ('"true"', "true"),
        ("9" * 5000, "9" * 5000),
        ("1e99999", "1e99999"),
        ("=", "="),
        ("<<", "<<"),
    ],
)
def test_plain_words_are_what_yaml_1_2_says(text: str, value: object) -> None:
    assert tree(f"a: {text}") == {"a": value}
    assert type(tree(f"a: {text}")["a"]) is type(value)


def test_keys_are_texts_as_they_are_written() -> None:
    assert tree("{no: 1, 1: 2, null: 3, true: 4}") == {"no": 1, "1": 2, "null": 3, "true": 4}


def test_anchors_stand_for_what_they_name() -> None:
    text = "a: &a {x: [1, 2]}\nb: *a\n"
    assert tree(text) == {"a": {"x": [1, 2]}, "b": {"x": [1, 2]}}


def test_a_mistake_behind_an_alias_is_told_once() -> None:
    text = """\
    devices:
      a: &a {driver: open, link: "tcp://h", interval: 5}
      b: {driver: open, link: "tcp://h", labels: &l {a: 1}}
      c: {driver: open, link: "tcp://h", labels: *l}
    """
    found = [(p.line, p.column, p.code) for p in problems(text)]
    assert (2, 51, "C025") in found
    assert {place[:2] for place in found} == {(2, 51), (3, 53)}


def test_an_alias_to_nothing_or_to_itself_is_refused() -> None:
    assert problem(MINIMAL + "site: *nobody\n").what == "there is no anchor '&nobody' above this"
    assert "no anchor" in problem(MINIMAL + "site: &s {name: *s}\n").what


def test_a_bomb_of_aliases_is_refused_before_it_grows() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    found = problem("devices:\n  m: 1\n" + "\n".join(rows))
    assert found.code == "C003"
    assert str(MAX_VALUES) in found.what
    assert found.line == 7


def test_a_large_file_is_not_refused_by_how_many_values_it_has() -> None:
    count = MAX_VALUES + 1
    assert tree("[" + ",".join(["1"] * count) + "]") == [1] * count


def test_all_duplicate_keys_are_told_with_the_line_of_the_first() -> None:
    text = "site: {name: a}\nsite: {name: b, name: c}\n" + MINIMAL + "site: 1\n"
    found = problems(text)
    assert [(p.line, p.column, p.code) for p in found] == [
        (2, 1, "C005"),
        (2, 17, "C005"),
        (5, 1, "C005"),
    ]
    assert found[0].hint == "the first is in line 1; keep one"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("devices:\n\tm: 1\n", "indent with spaces, not tabs"),
        ("devices:\n  a: b: c\n", "check the indentation; a text with ': ' in it needs quotes"),
        ("site: {name: ${A}}\n", "put ${…} in quotes inside { } and [ ]"),
        ("site: @home\n", "put the text in quotes"),
        (
            "site: [1\n",
            "check the indentation, and that quotes and brackets are closed here and above",
        ),
        ('site: {name: "a\n', None),
    ],
)
def test_what_is_no_yaml_gets_a_hint(text: str, hint: str | None) -> None:
    (found,) = problems(text)
    assert found.code == "C004"
    assert found.what.startswith("this is not YAML: ")
    assert hint is None or found.hint == hint


def test_a_key_that_is_a_list_is_refused() -> None:
    found = problem(MINIMAL + "? [a, b]\n: 1\n")
    assert (found.code, found.line, found.column) == ("C008", 3, 3)


def test_a_value_that_is_not_there_is_placed_at_its_key() -> None:
    found = problem(
        "devices:\n  m: {driver: open, link: 'tcp://h'}\nstore:\n  commit:\n\n\napi: {}\n"
    )
    assert (found.line, found.column) == (4, 3)
    assert found.what.endswith("not nothing")


def test_windows_line_ends_and_a_byte_order_mark_are_no_mistakes() -> None:
    assert settings(MINIMAL.replace("\n", "\r\n")).devices
