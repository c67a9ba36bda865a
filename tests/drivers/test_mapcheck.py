"""Doubts about a map: what may be right, and often is not."""

from meterd.drivers.mapcheck import doubts, fewer, problems, requests
from meterd.drivers.mapfile import parse, places

HEAD = "source: Acme 3000 Modbus manual\nconfidence: high\nmaker: Acme\nmodel: A\n"
SERIAL = "defaults: {serial: 9600 8N1}\n"


def said(text: str) -> list[str]:
    found = parse(text, "own", "own.yaml")
    where = places(text, "own.yaml")
    return [
        *map(str, problems(found, "own.yaml", where)),
        *map(str, doubts(found, "own.yaml", where)),
    ]


def of_rows(*rows: str, head: str = HEAD + SERIAL) -> list[str]:
    return said(head + "rows:\n" + "".join(f"  {row}\n" for row in rows))


def test_nothing_is_said_of_a_good_map() -> None:
    assert of_rows("voltage.l1: {function: 4, address: 0, type: f32, unit: V}") == []


def test_rows_that_share_a_register_are_doubted() -> None:
    (told,) = of_rows(
        "voltage.l1: {function: 4, address: 0, type: f32, unit: V}",
        "voltage.l2: {function: 4, address: 1, type: f32, unit: V}",
        "voltage.l3: {function: 3, address: 1, type: f32, unit: V}",
    )
    assert told == "own.yaml:8:3: warning[W101]: voltage.l2 shares register 1 with voltage.l1"


def test_bits_of_one_word_are_not_doubted() -> None:
    assert (
        of_rows(
            "ups.status.ol: {function: 3, address: 3, type: bits, bit: 3}",
            "ups.status.ob: {function: 3, address: 3, type: bits, bit: 4}",
        )
        == []
    )


def test_a_scale_that_gives_nothing_real_is_doubted() -> None:
    too_small, too_large = of_rows(
        "frequency: {function: 4, address: 0, type: u16, scale: 0.0001, unit: Hz}",
        "voltage.l1: {function: 4, address: 1, type: u16, scale: 10000, unit: kV}",
    )
    assert "6:3" not in too_small
    assert "warning[W102]: frequency is never plausible: 0.0001 to 6.5535 Hz" in too_small
    assert "warning[W102]: voltage.l1 is never plausible: 1e+07 to" in too_large


def test_a_read_over_registers_of_no_row_is_doubted() -> None:
    rows = (
        "voltage.l1: {function: 4, address: 0, type: u16, unit: V}",
        "voltage.l2: {function: 4, address: 4, type: u16, unit: V}",
    )
    (told,) = of_rows(*rows, head=f"{HEAD}{SERIAL}limits: {{bridge: 3}}\n")
    assert "W103" in told
    assert "1 to 3" in told
    assert of_rows(*rows) == []


def test_what_reading_over_holes_would_save_is_known() -> None:
    rows = "".join(f"  x.v{n}: {{function: 3, address: {4 * n}, type: u16}}\n" for n in range(9))
    found = parse(f"rows:\n{rows}", "own", "own.yaml")
    assert (found.bridge, len(requests(found)), fewer(found)) == (0, 9, 1)


def test_a_map_without_a_way_to_reach_the_meter_is_doubted() -> None:
    row = "voltage.l1: {function: 4, address: 0, type: f32, unit: V}"
    assert ["W104" in one for one in of_rows(row, head=HEAD)] == [True]
    assert of_rows(row, head=HEAD + "defaults: {tcp: 502}\n") == []


def test_low_confidence_is_told() -> None:
    row = "voltage.l1: {function: 4, address: 0, type: f32, unit: V}"
    assert ["W105" in one for one in of_rows(row, head=HEAD.replace("high", "low") + SERIAL)] == [
        True
    ]


def test_a_scale_out_of_reach_costs_a_request_of_its_own() -> None:
    row = 'voltage.l1: {function: 4, address: 0, type: s16, scale: "@3208", unit: V}'
    (told,) = of_rows(row)
    assert "warning[W110]: voltage.l1 lies far from its scale, @3208" in told
    assert "write it as a number, scale: 0.1" in told
    found = requests(parse(f"{HEAD}{SERIAL}rows:\n  {row}\n", "own", "own.yaml"))
    assert [(one.when, one.first, one.registers, one.rows) for one in found] == [
        ("poll", 0, 1, ("voltage.l1",)),
        ("poll", 3208, 1, ("@3208",)),
    ]


def test_a_scale_that_must_not_be_read_is_a_mistake_at_its_row() -> None:
    head = f"{HEAD}{SERIAL}limits: {{unreadable: [[3200, 3300]]}}\n"
    row = 'voltage.l1: {function: 4, address: 0, type: s16, scale: "@3208", unit: V}'
    (told, *_) = of_rows(row, head=head)
    assert "error[M006]: voltage.l1 needs 3209 registers at once" in told


def test_a_row_in_an_unreadable_range_is_a_mistake() -> None:
    head = f"{HEAD}{SERIAL}limits: {{unreadable: [[5, 9]]}}\n"
    (told, *_) = of_rows("voltage.l1: {function: 4, address: 8, type: f32, unit: V}", head=head)
    assert "error[M006]: voltage.l1 lies" in told


def test_the_plan_has_every_row_once() -> None:
    text = (
        HEAD + "rows:\n"
        "  voltage.l1: {function: 4, address: 0, type: f32, unit: V}\n"
        "  info.model: {function: 3, address: 9, type: str, count: 4, tier: static}\n"
    )
    found = requests(parse(text, "own", "own.yaml"))
    assert [
        (one.when, one.function, one.first, one.last, one.registers, one.rows) for one in found
    ] == [
        ("poll", 4, 0, 1, 2, ("voltage.l1",)),
        ("once", 3, 9, 12, 4, ("info.model",)),
    ]


def test_reference_numbers_of_a_manual_are_doubted() -> None:
    rows = (
        "voltage.l1: {function: 4, address: 30013, type: f32, unit: V}",
        "voltage.l2: {function: 4, address: 30015, type: f32, unit: V}",
    )
    (told,) = of_rows(*rows)
    assert "6:3: warning[W107]" not in told
    assert "warning[W107]: voltage.l1 is sent as register 30013" in told
    assert "counts its first register as 30001, this one is 12" in told
    # One row that cannot be meant so: the addresses are real.
    other = "voltage.l3: {function: 4, address: 17, type: f32, unit: V}"
    assert not any("W107" in one for one in of_rows(*rows, other))


def test_sentinels_of_single_registers_are_doubted_in_longer_values() -> None:
    (told,) = of_rows("voltage.l1: {function: 4, address: 0, type: u32, unit: V, na: 0xFFFF}")
    assert "warning[W108]: voltage.l1 has na 0xffff" in told
    assert "0xFFFFFFFF" in told
    row = "voltage.l1: {function: 4, address: 0, type: u32, unit: V, na: 0xFFFFFFFF}"
    assert of_rows(row) == []


def test_a_text_that_nothing_else_has_is_doubted() -> None:
    (told,) = of_rows("info.seral_number: {function: 4, address: 0, type: str, count: 4}")
    assert "warning[W109]: info.seral_number" in told
    assert "did you mean info.serial_number?" in told
