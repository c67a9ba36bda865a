"""Values that are made of several numbers: what registers give them, and what is refused."""

# ruff: noqa: E501 (rows of maps)

from dataclasses import replace

import pytest

from meterd.drivers.blocks import Block
from meterd.drivers.map_file import parse
from meterd.drivers.modbus import _counter
from meterd.drivers.planner import plan
from meterd.drivers.registers import RegisterMap, Row
from meterd.errors import ConfigError, Problem
from meterd.model.quantity import Kind
from meterd.model.sample import Reading
from meterd.sim.registers import encode

Registers = dict[tuple[int, int], int]


def of_row(keys: str, name: str = "x.one", head: str = "") -> RegisterMap:
    return parse(f"{head}rows:\n  {name}: {{{keys}}}\n", "own", "own.yaml")


def read(found: RegisterMap, held: Registers) -> Reading:
    """What the only row says where registers hold this; those of no row hold 0xABCD."""
    (block,) = plan(found, found.rows)
    words = [held.get((block.function, block.address + n), 0xABCD) for n in range(block.words)]
    data = b"".join(word.to_bytes(2, "big") for word in words)
    far = {
        place: held[place] for row in found.rows for place in row.remote_places() if place in held
    }
    (reading,) = block.decode(data, far)
    return reading


def holding(**words: int) -> Registers:
    """h5=7: holding register 5 holds 7; i is for input registers, d for discrete inputs."""
    return {({"h": 3, "i": 4, "d": 2}[key[0]], int(key[1:])): word for key, word in words.items()}


CASES = [
    # Words of one number that lie apart, the low one first, and the other way round.
    ("function: 3, words: [625, 690], word_order: little, type: s32", {"h625": 42000, "h690": 0}, 42000.0),
    ("function: 3, words: [625, 690], word_order: little, type: s32", {"h625": 0xFFF0, "h690": 0xFFFF}, -16.0),
    ("function: 3, words: [80, 78], word_order: big, type: u32, scale: 0.1", {"h78": 0x6539, "h80": 0x000C}, 81234.5),
    ("function: 3, words: [9, 1], word_order: big, type: f32, scale: 10", {"h9": 0x3FC0, "h1": 0}, 15.0),
    ("function: 3, words: [1, 2, 9, 10], word_order: little, type: u64", {"h1": 5, "h2": 0, "h9": 1, "h10": 0}, 4294967301.0),
    ("function: 3, words: [7, 3], word_order: big, type: bcd", {"h7": 0x1234, "h3": 0x5678}, 12345678.0),
    ("function: 3, words: [5, 4], word_order: big, byte_order: little, type: u32", {"h5": 0x0100, "h4": 0x0200}, 65538.0),
    # 64 bits with swapped halves, and pairs of swapped words.
    ("function: 3, address: 4, type: u64, word_order: [3, 4, 1, 2]", {"h4": 0, "h5": 7, "h6": 0, "h7": 1}, 4294967303.0),
    ("function: 3, address: 4, type: s64, word_order: [2, 1, 4, 3]", {"h4": 0xFFFF, "h5": 0xFFFF, "h6": 0xFFFE, "h7": 0xFFFF}, -2.0),
    # Numbers that are added.
    ("function: 3, type: u16, unit: kWh, sum: [{address: 3500}, {address: 3501, scale: 1000}]", {"h3500": 734, "h3501": 12}, 12734.0),
    ("function: 3, type: u16, unit: kWh, sum: [{address: 3501, unit: MWh}, {address: 3500, unit: kWh}]", {"h3500": 734, "h3501": 12}, 12734.0),
    ("unit: kWh, sum: [{function: 4, address: 10, type: u32}, {function: 3, address: 904, type: u16, unit: Wh}]", {"i10": 1, "i11": 0, "h904": 734}, 65536.734),
    ("function: 3, type: u16, scale: 0.1, sum: [{address: 1, scale: 10000}, {address: 2}]", {"h1": 3, "h2": 45}, 3004.5),
    ("function: 3, type: u32, sum: [{address: 1}, {address: 3}, {address: 5}]", {"h1": 0, "h2": 1, "h3": 0, "h4": 2, "h5": 0, "h6": 3}, 6.0),
    ("function: 3, type: u16, unit: m³, sum: [{address: 1, unit: l}, {address: 2, unit: m³}]", {"h1": 250, "h2": 7}, 7.25),
    # A sign in a register, a bit or a contact of its own.
    ("function: 3, address: 8, type: u32, scale: 0.1, sign: {address: 10}", {"h8": 0, "h9": 25, "h10": 1}, -2.5),
    ("function: 3, address: 8, type: u16, sign: 20", {"h8": 25, "h20": 0}, 25.0),
    ("function: 3, address: 8, type: u16, sign: {address: 9, negative: 0}", {"h8": 25, "h9": 1}, 25.0),
    ("function: 3, address: 8, type: u16, sign: {address: 9, negative: 0x2D, positive: 0x2B}", {"h8": 25, "h9": 0x2D}, -25.0),
    ("function: 3, address: 8, type: u16, sign: {address: 9, bit: 3}", {"h8": 25, "h9": 0x0008}, -25.0),
    ("function: 3, address: 8, type: u16, sign: {function: 2, address: 9}", {"h8": 25, "d9": 1}, -25.0),
    # Registers as factors.
    ('function: 3, address: 8, type: u16, scale: 0.01, multiply: "@40"', {"h8": 523, "h40": 40}, 209.2),
    ('function: 3, address: 8, type: s16, multiply: "@40", divide: "@41"', {"h8": 0xFF9C, "h40": 200, "h41": 5}, -4000.0),
    ("function: 3, address: 8, type: u16, multiply: [{address: 40, scale: 0.1}, {address: 42, type: f32}]", {"h8": 10, "h40": 25, "h42": 0x4040, "h43": 0}, 75.0),
    ('function: 3, address: 8, type: u16, scale: "@9", multiply: "@10"', {"h8": 523, "h9": 0xFFFE, "h10": 2}, 10.46),
    ('function: 3, words: [8, 30], word_order: little, type: u32, sign: 9, multiply: "@40"', {"h8": 1, "h30": 1, "h9": 1, "h40": 2}, -131074.0),
    # A whole number and its power of ten in one pair of registers: 123456 * 10**-3.
    ("function: 3, address: 8, type: e8u24", {"h8": 0xFD01, "h9": 0xE240}, 123.456),
    ("function: 3, address: 8, type: e8s24", {"h8": 0xFDFE, "h9": 0x1DC0}, -123.456),
    ("function: 3, address: 8, type: u24e8", {"h8": 0x01E2, "h9": 0x40FD}, 123.456),
    ("function: 3, address: 8, type: s24e8, word_order: little", {"h8": 0xC002, "h9": 0xFE1D}, -12345600.0),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "held", "expected"), CASES)
def test_registers_give_the_value(keys: str, held: dict[str, int], expected: float) -> None:
    said = read(of_row(keys), holding(**held))
    assert said == Reading("x.one", expected, said.unit)


@pytest.mark.parametrize(("keys", "held", "expected"), CASES)
def test_a_simulated_meter_has_registers_that_give_it(
    keys: str, held: dict[str, int], expected: float
) -> None:
    found = of_row(keys)
    image = encode(found, {"x.one": expected * (1000.0 if "unit: kWh" in keys else 1.0)})
    words = {
        (function, address): word
        for function, bank in image.words.items()
        for address, word in bank.items()
    }
    assert read(found, words).value == pytest.approx(expected, rel=1e-7)


def test_a_text_may_be_in_registers_that_lie_apart() -> None:
    found = of_row("function: 3, words: [5, 90], type: str", "info.model")
    assert read(found, holding(h5=0x4142, h90=0x4300)).value == "ABC"


def test_a_number_that_names_the_device_is_told_as_text() -> None:
    found = of_row(
        "function: 3, words: [5, 9], word_order: little, type: u32", "info.serial_number"
    )
    assert read(found, holding(h5=0x0001, h9=0x0001)).value == "65537"


@pytest.mark.parametrize(
    ("keys", "held", "reason"),
    [
        # A part that does not stop where the next one counts would be added twice.
        ("function: 3, type: u16, unit: kWh, sum: [{address: 1}, {address: 2, unit: MWh}]", {"h1": 1000, "h2": 12}, "holds 1000, and counts to 1000 only"),
        ("function: 3, type: u16, sum: [{address: 1, na: 0xFFFF}, {address: 2}]", {"h1": 0xFFFF, "h2": 12}, "its register 1 is not available"),
        ("function: 3, words: [1, 9], word_order: big, type: u32, na: 0xFFFFFFFF", {"h1": 0xFFFF, "h9": 0xFFFF}, "its register 1 is not available"),
        ("function: 3, words: [1, 9], word_order: big, type: u32", {"h9": 1}, "its register 1 could not be read"),
        ("function: 3, address: 8, type: u16, sign: 9", {"h8": 25, "h9": 7}, "its sign, register 9, holds 7; known are 1 for minus and 0 for plus"),
        ('function: 3, address: 8, type: u16, multiply: "@9"', {"h8": 25, "h9": 0}, "its ratio, register 9, holds 0"),
        ('function: 3, address: 8, type: u16, divide: "@9"', {"h8": 25, "h9": 0}, "its ratio, register 9, holds 0"),
        ("function: 3, address: 8, type: e8u24", {"h8": 0x7F01, "h9": 1}, "the power of ten in it is none"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_absent_with_its_reason(
    keys: str, held: dict[str, int], reason: str
) -> None:
    said = read(of_row(keys), holding(**held))
    assert said.value is None
    assert reason in said.reason


def spans(found: RegisterMap) -> list[tuple[int, int]]:
    return [(one.address, one.words) for one in plan(found, found.rows)]


SPLIT = "function: 3, words: [625, 690], word_order: little, type: s32"


def test_one_request_has_all_registers_where_it_may_run_over_what_lies_between() -> None:
    assert spans(of_row(SPLIT)) == [(625, 1)]
    assert spans(of_row(SPLIT, head="limits: {bridge: 64}\n")) == [(625, 66)]
    assert spans(of_row(SPLIT, head="limits: {bridge: 64, max_registers: 50}\n")) == [(625, 1)]
    assert spans(of_row(SPLIT, head="limits: {bridge: 64, unreadable: [[650, 651]]}\n")) == [
        (625, 1)
    ]


def test_rows_that_lie_between_make_one_request() -> None:
    between = "\n".join(f"  x.n{n}: {{function: 3, address: {n}, type: u16}}" for n in (79, 81))
    found = parse(
        "rows:\n  x.one: {function: 3, words: [78, 80, 82, 83], word_order: big, type: u64}\n"
        + between,
        "own",
        "own",
    )
    assert [row.apart for row in found.rows] == [False, False, False]
    assert spans(found) == [(78, 6)]


def counter(keys: str) -> tuple[str, float | None, int | None]:
    (row,) = of_row(keys, "active_energy.import").rows
    found = _counter(row)
    return found.type, found.step, found.wrap


def test_a_composed_counter_starts_again_where_its_highest_part_does() -> None:
    words = "function: 3, words: [78, 80], word_order: little, type: u32, scale: 0.1, unit: kWh"
    assert counter(words) == ("u32", 100.0, None)  # 2**32 steps, as the type says
    parts = "function: 3, type: u16, unit: kWh, sum: [{address: 1}, {address: 2, unit: MWh}]"
    assert counter(parts) == ("sum", 1000.0, 65_536_000)
    fine = (
        "unit: kWh, function: 3, sum: [{address: 1, type: u32}, {address: 9, type: u16, unit: Wh}]"
    )
    assert counter(fine) == ("sum", 1.0, 2**32 * 1000)
    equal = "function: 3, type: u32, unit: kWh, sum: [{address: 1}, {address: 3}]"
    assert counter(equal) == ("sum", 1000.0, None)
    said = f"{parts}, wrap: 10000000"
    assert counter(said) == ("sum", 1000.0, 10_000_000)


def test_a_counter_that_a_register_multiplies_has_no_step_of_its_own() -> None:
    assert counter('function: 3, address: 1, type: u32, unit: Wh, multiply: "@9"')[1] is None
    assert counter("function: 3, address: 1, type: e8u24, unit: Wh")[1] is None


def mistake(keys: str) -> Problem:
    with pytest.raises(ConfigError) as caught:
        of_row(keys, "active_energy.import")
    (problem,) = caught.value.problems
    assert problem.line == 2
    return problem


@pytest.mark.parametrize(
    ("keys", "what", "hint"),
    [
        ("function: 3, address: [625, 690], type: u32, unit: Wh", "address is [625, 690]", "words: [625, 690] with word_order: little where 625 has the low word"),
        ("function: 3, words: [78, 80], type: u32, unit: Wh", "does not tell which of [78, 80] is the high word", "word_order: little if the low word is at 78"),
        ("function: 3, address: 78, words: [78, 80], word_order: big, type: u32, unit: Wh", "address none besides", "leave address out"),
        ("function: 3, words: [78, 80, 82], word_order: big, type: u32, unit: Wh", "words has 3 registers, but u32 has always 2", "2 registers"),
        ("function: 3, words: [78, 80], word_order: big, type: u16, unit: Wh", "but u16 has always 1", "u32, s32 or f32"),
        ("function: 3, words: [78, 78], word_order: big, type: u32, unit: Wh", "names a register twice", ""),
        ("function: 3, words: [78, 65536], word_order: big, type: u32, unit: Wh", "words has 65536", ""),
        ("function: 3, words: 78, word_order: big, type: u32, unit: Wh", "words is a list", "words: [625, 690]"),
        ("function: 3, address: 3500, type: u32, high: 3501, unit: kWh", "unknown key 'high'", "sum: [{address: 3500, unit: kWh}, {address: 3501, unit: MWh}]"),
        ("function: 3, address: 5, type: u16, unit: kWh, factor: 40", "unknown key 'factor'", 'multiply: "@ADDRESS"'),
        ("function: 3, address: 5, type: u16, unit: kWh, multiply: 40", 'multiply is "@ADDRESS"', 'multiply: "@40"; a number that is always the same is scale'),
        ("function: 3, address: 5, type: u16, unit: kWh, sign: -1", "address is -1", ""),
        ("function: 3, address: 5, type: u16, unit: kWh, sign: [9]", 'sign is "@ADDRESS"', ""),
        ("function: 3, address: 5, type: u16, unit: kWh, sign: {address: 9, negative: 0, positive: 0}", "negative at 0 and positive at 0", "negative: 1"),
        ("function: 3, type: u16, unit: kWh, sum: [{address: 5}]", "two numbers or more", "sum: ["),
        ("function: 3, type: u16, unit: kWh, sum: {address: 5}", "two numbers or more", "sum: ["),
        ("function: 3, type: u16, unit: kWh, sum: [5, {address: 6}, {address: 7}]", "a part of a sum has keys", "sum: ["),
        ("function: 3, type: u16, unit: kWh, sum: [{address: 5, unit: W}, {address: 6}]", "'W' does not convert to 'kWh'", "Wh"),
        ("function: 3, address: 5, type: u16, unit: kWh, sum: [{address: 5}, {address: 6}]", "address belongs to the parts", "sum: ["),
        ("function: 3, type: u32, unit: kWh, sum: [{address: 5}, {address: 6}]", "register 6 is in two parts of the sum", "added twice"),
        ("function: 3, type: u16, unit: kWh, sum: [{address: 5, tier: slow}, {address: 6}]", "unknown key 'tier'", ""),
        ('function: 3, type: u16, unit: kWh, sum: [{address: 5, scale: "@9"}, {address: 6}]', "a part of a sum is a number, and its scale is one", ""),
        ("function: 3, address: 5, type: u64, unit: kWh, word_order: [1, 2, 3]", "u64 has the words 1 to 4", "swapped halves are [3, 4, 1, 2]"),
        ("function: 3, address: 5, type: u64, unit: kWh, word_order: [1, 2, 3, 3]", "u64 has the words 1 to 4", "swapped halves"),
        ("function: 3, address: 5, type: u64, unit: kWh, word_order: swapped", "one of big, little", "swapped halves"),
        ("function: 3, address: 5, type: t5, unit: kWh", "type 't5'", "e8u24"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_how_it_is_written(keys: str, what: str, hint: str) -> None:
    problem = mistake(keys)
    assert what in problem.what
    assert hint in problem.hint


def test_a_row_is_a_counter_whatever_it_is_made_of() -> None:
    (row,) = of_row(
        "function: 3, type: u16, unit: kWh, sum: [{address: 1}, {address: 2, unit: MWh}]",
        "active_energy.export.ch13",
    ).rows
    assert (row.kind, row.type, row.address) == (Kind.COUNTER, "sum", 1)


def test_a_block_shows_what_it_has_where_a_far_register_is_in_it_after_all() -> None:
    """Of one request they belong together, whatever was read before it."""
    (row,) = of_row(SPLIT).rows
    assert isinstance(row, Row)
    block = Block(3, 625, 66, [row])
    data = bytes.fromhex("A410") + bytes(128) + bytes.fromhex("0001")
    assert block.decode(data, {(3, 690): 7})[0].value == 42000 + 65536


def test_all_registers_of_a_value_move_with_its_circuit() -> None:
    found = parse(
        "rows:\n"
        "  x.one: {function: 3, words: [5, 9], word_order: little, type: u32, sign: 12}\n"
        "  x.two: {function: 3, words: [6, 9], word_order: little, type: u32, common: true}\n",
        "own",
        "own",
    )
    one, two = found.moved(100).rows
    assert (one.address, sorted(one.places())) == (105, [(3, 105), (3, 109), (3, 112)])
    assert sorted(two.places()) == [(3, 6), (3, 9)]
    assert read(replace(found.moved(100), rows=(one,)), holding(h105=7, h109=0, h112=1)).value == -7
    with pytest.raises(ValueError, match=r"x\.one would be"):
        found.moved(65525)


def test_registers_of_32_bits_are_counted_in_halves_in_each_part() -> None:
    found = of_row(
        "function: 3, type: u32, sum: [{address: 10, scale: 1000}, {address: 12}], sign: 20",
        head="limits: {words: wide, bridge: 10}\n",
    )
    (row,) = found.rows
    assert [term.registers for term in row.terms] == [(20, 21), (24, 25), (41,)]
    assert (row.address, row.words) == (24, 2)
    held = holding(h20=0, h21=7, h24=0, h25=5, h41=1)
    assert read(found, held).value == -7005
    apart = of_row(SPLIT, head="limits: {words: wide}\n")
    assert read(apart, holding(h1251=42000, h1381=1)).value == 42000 + 65536
