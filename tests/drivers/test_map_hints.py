"""What a stranger is told: each usual mistake in a map comes with what to write instead."""

import pytest

from meterd.drivers.map_file import parse
from meterd.errors import ConfigError, Problem

ROW = "function: 4, address: 10, type: u16, unit: W"


def mistakes(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "own", "own.yaml")
    return caught.value.problems


def only(text: str) -> Problem:
    (problem,) = mistakes(text)
    return problem


@pytest.mark.parametrize(
    ("keys", "hint"),
    [
        (ROW.replace("10", "400011"), "function 3, address 10"),
        (ROW.replace("10", "300011"), "function 4, address 10"),
        (ROW.replace("10", "'0x0048'"), "written 0x0048, without quotes"),
        (ROW.replace("10", "48h"), "written 0x48, without quotes"),
        (ROW.replace("10", "-1"), "counted from 0"),
        (ROW.replace("u16", "float"), "did you mean f32?"),
        (ROW.replace("u16", "float32"), "did you mean f32?"),
        (ROW.replace("u16", "uint32"), "did you mean u32?"),
        (ROW.replace("u16", "INT16"), "did you mean s16?"),
        (ROW.replace("u16", "U64"), "did you mean u64?"),
        (ROW.replace("u16", "double"), "did you mean f64?"),
        (ROW.replace("u16", "string"), "did you mean str?"),
        (ROW.replace("W", "w"), "did you mean W?"),
        (ROW.replace("W", "KW"), "did you mean kW?"),
        (ROW.replace("W", "kWh"), "one of W mW kW MW GW"),
        ("function: 4, address: 10, type: u16", "one of W mW kW MW GW"),
        (ROW.replace("4,", "6,"), "3 reads holding, 4 input registers"),
        (ROW.replace("4,", "holding,"), "3 reads holding, 4 input registers"),
        (ROW + ', scale: "0.1"', "write 0.1, without quotes"),
        (ROW + ", scale: 1/10", "write 0.1"),
        (ROW + ', scale: "@11/10"', 'write "@11*0.1"'),
        (ROW + ", scale: tenth", '"@ADDRESS*0.1"'),
        (ROW + ", na: '0x8000'", "without quotes"),
        (ROW + ", enum: {one: 1}", "the number stands in front"),
        (ROW + ", count: 2", "count belongs to str, bits, bcd"),
        (ROW + ", wrap: 100000", "u16 holds less than 65536"),
        (ROW.replace("u16", "str"), "texts are named info."),
        (ROW.replace("4,", "1,").replace("u16", "f32"), "type: bits"),
        (ROW.replace("4,", "1,").replace("u16", "bits, count: 8"), "one row for each"),
    ],
)
def test_a_mistake_in_a_row_comes_with_a_way_out(keys: str, hint: str) -> None:
    assert hint in only(f"rows:\n  active_power: {{{keys}}}\n").hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("power", "active_power"),
        ("active_energy", "active_energy.import"),
        ("Voltage.L1", "voltage.l1"),
        ("volt_l1", "voltage.l1"),
        ("x.Foo", "small letters"),
        ("device.up", "x.contact"),
        ("guarded.active_energy.import", "is made by meterd from active_energy.import"),
        ("nothing.of.the.kind", "meterd maps --quantities"),
    ],
)
def test_a_name_that_is_not_known_comes_with_one_that_is(name: str, hint: str) -> None:
    problem = only(f"rows:\n  {name}: {{{ROW}}}\n")
    assert problem.code == "M004"
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        (f"rows:\n\tactive_power: {{{ROW}}}\n", "\\t", "blanks, not with tabs"),
        (f"rows:\n  active_power: {{{ROW}, scale: @5}}\n", "'@'", '"@5"'),
        ("rows:\n  load: {function: 4, address: 1, type: u16, unit: %}\n", "'%'", "'%'"),
        (f"rows:\n  active_power: {{{ROW}}}\n  active_power: {{{ROW}}}\n", "duplicate", "once"),
        (f"rows:\n  active_power: {{{ROW}\n  load: {{}}\n", "expected ','", "is not closed"),
        ("rows:\n  load:\n    function: 4\n     address: 1\n", "not allowed", "indentation"),
        ("rows:\n  load: *base\n", "undefined alias", "above"),
    ],
)
def test_what_is_no_yaml_is_told_with_what_to_do(text: str, what: str, hint: str) -> None:
    problem = only(text)
    assert problem.code == "M001"
    assert what in problem.what
    assert hint in problem.hint


def test_the_values_of_a_key_that_is_there_twice_are_not_told() -> None:
    problem = only(f"rows:\n  active_power: {{{ROW}}}\n  active_power: {{{ROW}}}\n")
    assert problem.what == 'no YAML: found duplicate key "active_power"'


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (f"maker: A\nregisters:\n  active_power: {{{ROW}}}\n", 2, "there is registers, but no"),
        (f"maker: A\nrows:\n  - {{{ROW}}}\n", 2, "values without names"),
        ("maker: A\nrows:\n", 2, "rows has nothing"),
        ("maker: A\n", 1, "`rows`"),
    ],
)
def test_a_file_without_rows_is_told_how_they_look(text: str, line: int, what: str) -> None:
    problem = only(text)
    assert (problem.line, problem.code) == (line, "M002")
    assert what in problem.what
    assert "voltage.l1: {function: 4" in problem.hint


@pytest.mark.parametrize(
    ("head", "hint"),
    [
        ("unit: 1\n", "below defaults:"),
        ("max_registers: 60\n", "below limits:"),
        ("defaults: {baud: 9600}\n", "serial: 9600 8N1"),
        ("makr: A\n", "did you mean maker?"),
    ],
)
def test_a_key_in_the_wrong_place_is_told_the_right_one(head: str, hint: str) -> None:
    assert hint in only(f"{head}rows:\n  active_power: {{{ROW}}}\n").hint


def test_a_missing_blank_is_seen() -> None:
    problems = mistakes("rows:\n  active_power: {function:4, address:0, type:u16, unit:W}\n")
    assert problems[0].hint == "a blank belongs behind the colon"
