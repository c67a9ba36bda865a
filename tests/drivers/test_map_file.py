"""Map files that people write: each mistake is told, at its line and column."""

import pytest

from meterd.drivers.map_file import parse, places
from meterd.drivers.registers import Row
from meterd.errors import ConfigError, Problem
from meterd.model.quantity import Kind

HEAD = """\
source: Acme 3000 Modbus manual, revision 7
confidence: high
maker: Acme
model: "3000"
"""
ROW = "  voltage.l1: {function: 4, address: 0, type: f32, unit: V}\n"


def mistakes(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "own", "own.yaml")
    assert caught.value.problems
    return caught.value.problems


def in_row(keys: str) -> Problem:
    """The only mistake of a row that has these keys."""
    (problem,) = mistakes(f"{HEAD}rows:\n  active_power: {{{keys}}}\n")
    assert (problem.file, problem.line) == ("own.yaml", 6)
    return problem


def test_a_map_without_mistakes_has_its_rows() -> None:
    found = parse(
        f"{HEAD}defaults: {{unit: 7, serial: 9600 8E1, tcp: 502}}\nrows:\n{ROW}", "own", ""
    )
    assert [row.quantity for row in found.rows] == ["voltage.l1"]
    assert (found.name, found.unit, found.tcp) == ("own", 7, 502)
    assert found.serial == {"baud": "9600", "bytes": "8", "parity": "E", "stop": "1"}


def test_places_are_those_of_the_rows() -> None:
    assert places(f"{HEAD}rows:\n{ROW}", "own.yaml") == {"voltage.l1": (6, 3)}


@pytest.mark.parametrize(
    ("keys", "column", "code", "what"),
    [
        ("function: 5, address: 1, type: u16, unit: W", 18, "M003", "function is 5, allowed 1..4"),
        ("address: 1, type: u16, unit: W", 17, "M003", "function is missing, allowed 1..4"),
        ("function: 4, type: u16, unit: W", 17, "M003", "address is missing"),
        ("function: 4, address: 1, unit: W", 17, "M003", "type is missing"),
        ("function: 4, address: 1, type: u24, unit: W", 43, "M003", "type 'u24', allowed u16"),
        ("function: 4, address: 1, type: '', unit: W", 43, "M003", "type '', allowed u16"),
        ("function: 4, address: 65535, type: f32, unit: W", 31, "M003", "behind register 65535"),
        ("function: 4, address: 1, type: u16, unit: V", 54, "M005", "'V' does not convert to W"),
        ("function: 4, address: 1, type: u16, unit: W, scale: 0", 63, "M003", "not 0"),
        ("function: 4, address: 1, type: u16, unit: W, scale: .nan", 63, "M003", "not nan"),
        ('function: 4, address: 1, type: u16, unit: W, scale: "@7*--"', 63, "M003", "@ADDRESS"),
        ('function: 4, address: 1, type: u16, unit: W, scale: "@70000"', 63, "M003", "@ADDRESS"),
        ("function: 4, address: 1, type: u16, unit: W, optional: no", 63, "M003", "'no'"),
        ("function: 4, address: 1, type: u16, unit: W, alone: 1", 63, "M003", "true or false"),
        ("function: 4, address: 1, type: u16, unit: W, na: x", 63, "M003", "raw value"),
        ("function: 4, address: 1, type: u16, unit: W, na: 0x10000", 63, "M003", "1 registers"),
        ("function: 4, address: 1, type: u16, unit: W, na: -40000", 63, "M003", "1 registers"),
        ("function: 4, address: 1, type: u16, unit: W, na: [[2, 1]]", 63, "M003", "no range"),
        ("function: 4, address: 1, type: u16, unit: W, bit: 1", 63, "M003", "type bits, not u16"),
        ("function: 4, address: 1, type: bits, unit: W, bit: 16", 64, "M003", "allowed 0..15"),
        ("function: 4, address: 1, type: u16, unit: W, enum: [a]", 63, "M003", "enum is written"),
        ("function: 4, address: 1, type: u16, unit: W, enum: {a: b}", 63, "M003", "enum is"),
        ("function: 4, address: 1, type: u16, unit: W, tier: quick", 63, "M003", "fast, slow"),
        ("function: 4, address: 1, type: u16, unit: W, word_order: low", 63, "M003", "big, little"),
        ("function: 4, address: 1, type: u16, unit: W, word_ordr: big", 63, "M003", "word_ordr"),
    ],
)
def test_a_mistake_in_a_row_is_told_at_its_key(
    keys: str, column: int, code: str, what: str
) -> None:
    problem = in_row(keys)
    assert (problem.column, problem.code) == (column, code)
    assert what in problem.what


@pytest.mark.parametrize(
    ("text", "line", "code", "what"),
    [
        ("a: [", 1, "M001", "no YAML"),
        (f"{HEAD}rows:\n{ROW}{ROW}", 7, "M001", "duplicate key"),
        ("[[1]]: 2", 1, "M001", "a key is a word"),
        ("", 1, "M002", "`rows`"),
        ("- 1", 1, "M002", "`rows`"),
        (f"{HEAD}rows: {{}}\n", 5, "M002", "no rows"),
        (f"{HEAD}rows:\n  voltage.l7: {{function: 4, address: 0, type: f32}}\n", 6, "M004", "l7"),
        (f"{HEAD}rows:\n  voltage.l1: 7\n", 6, "M003", "voltage.l1 has keys"),
        (f"{HEAD}aliases: other\nrows:\n{ROW}", 5, "M003", "aliases is a list"),
        (f"{HEAD}defaults: {{serial: 9600}}\nrows:\n{ROW}", 5, "M003", "9600 8N1"),
        (f"{HEAD}defaults: {{tcp: 0}}\nrows:\n{ROW}", 5, "M003", "tcp is 0"),
        (f"{HEAD}limits: {{unreadable: [7]}}\nrows:\n{ROW}", 5, "M003", "7 is no"),
        (f"{HEAD}limits: {{unreadable: [[7, a]]}}\nrows:\n{ROW}", 5, "M003", "no [first, last]"),
        (f"{HEAD}limits: {{unreadable: 7}}\nrows:\n{ROW}", 5, "M003", "7 is no"),
        (f"{HEAD}limits: {{max_registers: 126}}\nrows:\n{ROW}", 5, "M003", "allowed 1..125"),
        (f"{HEAD}confidance: low\nrows:\n{ROW}", 5, "M003", "confidance"),
        (f"{HEAD.replace('high', 'sure')}rows:\n{ROW}", 2, "M003", "high, medium, low"),
    ],
)
def test_a_mistake_around_the_rows_is_told_at_its_line(
    text: str, line: int, code: str, what: str
) -> None:
    (problem,) = mistakes(text)
    assert (problem.line, problem.code) == (line, code)
    assert what in problem.what


def test_raw_values_may_be_written_with_their_sign() -> None:
    row = (
        "  active_power: {function: 4, address: 1, type: s16, unit: W, na: [-1, [-32768, -1001]]}\n"
    )
    (found,) = parse(f"{HEAD}rows:\n{row}", "own", "own.yaml").rows
    assert found.na == (0xFFFF,)
    assert found.na_ranges == ((0x8000, 0xFC17),)


def test_all_mistakes_are_told_at_once() -> None:
    rows = "  voltage.l1: {function: 9, address: 0, type: f32, unit: A}\n  power: {}\n"
    assert len(mistakes(f"maker: 5\nconfidence: sure\nrows:\n{rows}")) >= 7


def test_a_map_of_ones_own_needs_rows_only() -> None:
    found = parse("rows:\n  voltage.l1: {function: 4, address: 0, type: f32, unit: V}\n", "m", "m")
    assert (found.confidence, len(found.rows)) == ("medium", 1)


def test_a_map_says_what_pauses_its_meter_needs() -> None:
    text = HEAD + "defaults: {connect_delay: 1s, gap: soon}\nrows:\n"
    text += "  voltage.l1: {function: 4, address: 0, type: f32, unit: V}\n"
    assert "gap is a duration" in mistakes(text)[0].what
    assert parse(text.replace("soon", "50ms"), "m", "m").times == {
        "connect_delay": "1s",
        "gap": "50ms",
    }


def test_a_near_word_is_suggested() -> None:
    assert (
        "word_order" in in_row("function: 3, address: 1, type: u16, unit: W, word_ordr: big").hint
    )
    assert (
        "voltage.l1"
        in mistakes(HEAD + "rows:\n  voltage.l4: {function: 4, address: 0, type: u16}\n")[0].hint
    )


def row_of(keys: str, name: str = "active_power") -> Row:
    (row,) = parse(f"rows:\n  {name}: {{{keys}}}\n", "own", "own.yaml").rows
    return row


def test_what_floats_read_as_may_stand_for_what_they_send() -> None:
    row = row_of("function: 4, address: 1, type: f32, unit: W, na: [1e20, -1e20, 0x7FC00001]")
    # 0x60AD78EC is the float32 that is nearest to 1e20.
    assert row.na == (0x60AD78EC, 0xE0AD78EC, 0x7FC00001)


def test_a_coil_is_one_bit_however_it_is_written() -> None:
    for keys in ("type: bits", "type: u16", "type: bits, count: 1", "type: bits, bit: 0"):
        row = row_of(f"function: 1, address: 7, {keys}", "alarm")
        assert (row.type, row.address, row.words) == ("bits", 7, 1)
    row = row_of("function: 2, address: 16, type: bits, count: 8, bit: 5", "alarm")
    assert (row.address, row.words) == (21, 1)


def test_numbers_are_read_as_manuals_and_yaml_have_them() -> None:
    row = row_of('function: 0x04, address: 0x0048, type: s16, unit: W, scale: "@0x004A * 0.1"')
    assert (row.address, row.scale_register, row.scale_factor) == (72, 74, 0.1)
    row = row_of(
        "function: 4, address: 0072, type: u32, unit: Wh, wrap: 1e8", "active_energy.import"
    )
    assert (row.address, row.wrap) == (72, 100_000_000)


def test_rows_may_share_their_keys() -> None:
    found = parse(
        "model: 3000\nrows:\n  voltage.l1: &v {function: 4, address: 0, type: f32, unit: V}\n"
        "  voltage.l2: {<<: *v, address: 2}\n",
        "own",
        "own.yaml",
    )
    assert [(row.address, row.type) for row in found.rows] == [(0, "f32"), (2, "f32")]
    assert found.model == "3000"


OWN = "function: 3, address: 0, type: u32"


@pytest.mark.parametrize(
    ("name", "keys", "what", "hint"),
    [
        ("x.w", f"{OWN}, unit: bar, kind: counter", "one of Wh varh VAh J m³ l 1", ""),
        ("x.w", f"{OWN}, kind: total", "kind is gauge or counter, not 'total'", ""),
        ("voltage.l1", f"{OWN}, unit: V, kind: counter", "it is a gauge, and no counter", ""),
        ("x.w", f"{OWN}, max_rate: 6", "write kind: counter", "max_power"),
        ("x.w", f"{OWN}, kind: counter, max_rate: -6", "a number above 0", "in an hour"),
        ("active_energy.import", f"{OWN}, unit: kWh, max_rate: 6", "of your own", "max_power"),
    ],
)
def test_how_a_row_counts_is_judged(name: str, keys: str, what: str, hint: str) -> None:
    (problem,) = mistakes(f"{HEAD}rows:\n  {name}: {{{keys}}}\n")
    assert what in problem.what
    assert hint in problem.hint


@pytest.mark.parametrize("unit", ["kWh", "MJ", "m³", "gal", "l", "1", "BTU"])
def test_a_counter_of_ones_own_counts_in_what_converts(unit: str) -> None:
    keys = f"{OWN}, unit: {unit!r}, kind: counter, max_rate: 12"
    (row,) = parse(f"{HEAD}rows:\n  x.w: {{{keys}}}\n", "own", "").rows
    assert (row.kind, row.max_rate) == (Kind.COUNTER, 12)


def test_words_are_normal_or_wide() -> None:
    rows = "rows:\n  x.a: {function: 3, address: 10, type: u16}\n"
    assert parse("limits: {words: wide, unreadable: [[3, 4]]}\n" + rows, "own", "f").unreadable == (
        (6, 9),
    )
    with pytest.raises(ConfigError, match="allowed normal or wide"):
        parse("limits: {words: 32}\n" + rows, "own", "f")


def test_a_wide_map_moves_by_its_own_registers() -> None:
    found = parse(
        "limits: {words: wide}\nrows:\n  x.a: {function: 3, address: 10, type: f32}\n", "own", "f"
    )
    assert [row.address for row in found.moved(5).rows] == [30]
    assert [row.address for row in found.moved(60000).rows] == [120020]
    with pytest.raises(ValueError, match="at register 65546"):
        found.moved(65536)
