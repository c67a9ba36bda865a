"""Doubts about a map: what may be right, and often is not."""

from importlib.resources import files

import pytest

from meterd.drivers.map_check import map_warnings, problems, requests, requests_with_bridge
from meterd.drivers.map_file import parse, places
from meterd.drivers.map_library import shipped

# ruff: noqa: E501 (rows of maps)
HEAD = "source: Acme 3000 Modbus manual\nconfidence: high\nmaker: Acme\nmodel: A\n"
SERIAL = "defaults: {serial: 9600 8N1}\n"


def said(text: str) -> list[str]:
    found = parse(text, "own", "own.yaml")
    where = places(text, "own.yaml")
    return [
        *map(str, problems(found, "own.yaml", where)),
        *map(str, map_warnings(found, "own.yaml", where)),
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
    assert (found.bridge, len(requests(found)), requests_with_bridge(found)) == (0, 9, 1)


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


def test_scales_that_lie_apart_may_have_a_hole_between_them() -> None:
    """What is read apart has no row of its own to be named by."""
    told = of_rows(
        'current.l1: {function: 3, address: 1100, type: s16, scale: "@3209", unit: A}',
        'voltage.l1: {function: 3, address: 1101, type: s16, scale: "@3211", unit: V}',
        head=f"{HEAD}{SERIAL}limits: {{bridge: 1}}\n",
    )
    (hole,) = [one for one in told if "W103" in one]
    assert "8:3: warning[W103]: current.l1 needs what is apart from it" in hole
    assert "over registers of no row: 3210" in hole


def test_words_that_lie_apart_cost_requests_of_their_own() -> None:
    row = "active_power: {function: 3, words: [625, 690], word_order: little, type: s32, unit: W}"
    (told,) = of_rows(row)
    assert "warning[W110]: active_power is read at 625 and, in requests of their own" in told
    assert "limits: {bridge: 64} makes it one request" in told
    found = requests(parse(f"{HEAD}{SERIAL}rows:\n  {row}\n", "own", "own.yaml"))
    assert [(one.first, one.registers, one.rows) for one in found] == [
        (625, 1, ("active_power",)),
        (690, 1, ("@690",)),
    ]


def test_a_word_that_must_not_be_read_is_a_mistake_at_its_row() -> None:
    head = f"{HEAD}{SERIAL}limits: {{unreadable: [[690, 690]]}}\n"
    row = "active_power: {function: 3, words: [625, 690], word_order: little, type: s32, unit: W}"
    (told, *_) = of_rows(row, head=head)
    assert "error[M006]: active_power has a register in an unreadable range: 690 to 690" in told


LEFT_UNSAID = [
    # What the case's user wrote: notes of what the row does not read.
    ("W111", "active_power: {function: 3, address: 625, type: s16, unit: W, note: the paper has the high word at 690}", "words: [625, 690]"),
    ("W111", "active_energy.import: {function: 3, address: 78, type: u32, unit: Wh, note: low word in 0x50}", "words: [78, 80]"),
    ("W111", "active_energy.export: {function: 3, address: 3501, type: u32, unit: MWh, note: kWh 0..999 at 3500}", "sum: ["),
    ("W111", "active_energy.import: {function: 4, address: 10, type: u32, unit: kWh, note: the Wh below it in holding register 904}", "sum: ["),
    ("W111", "active_power: {function: 3, address: 5, type: u32, unit: W, note: the sign is in register 12}", "sign: {address: 12"),
    ("W111", "current.l1: {function: 3, address: 5, type: u16, unit: A, note: times the CT ratio at 0x401F}", 'multiply: "@ADDRESS"'),
    # Counters that are too short or too coarse to be all.
    ("W112", "active_energy.import: {function: 3, address: 78, type: u16, scale: 0.1, unit: kWh}", "type: u32, words: or sum:"),
    ("W112", "active_energy.export: {function: 3, address: 78, type: u16, unit: MWh}", "sum: ["),
    ("W116", "power_factor: {function: 3, address: 5, type: s16}", "unit: '%', or scale: 0.01"),
    ("W116", "power_factor.l1: {function: 3, address: 5, type: s16, unit: '1'}", "unit: '%'"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "row", "hint"), LEFT_UNSAID)
def test_what_a_row_leaves_unsaid_is_doubted(code: str, row: str, hint: str) -> None:
    told = [one for one in of_rows(row) if f"warning[{code}]" in one]
    assert told
    assert any(hint in one for one in told)


@pytest.mark.parametrize(
    "row",
    [
        "active_power: {function: 3, words: [625, 690], word_order: little, type: s32, unit: W, note: high word at 690}",
        "voltage.l1: {function: 3, address: 5, type: u32, unit: V, note: high word first}",
        "active_energy.import: {function: 3, address: 5, type: u32, unit: Wh, wrap: 10000000, note: counts to 9999.99 kWh and starts at 0}",
        "active_energy.import: {function: 3, address: 5, type: u16, unit: kWh, wrap: 65536}",
        "active_energy.import: {function: 3, address: 5, type: u32, unit: kWh}",
        "active_energy.import: {function: 3, type: u16, unit: kWh, sum: [{address: 1}, {address: 2, unit: MWh}], note: kWh 0..999 at 1}",
        "power_factor: {function: 3, address: 5, type: s16, unit: '%'}",
        "power_factor: {function: 3, address: 5, type: s16, scale: 0.001}",
        "power_factor: {function: 3, address: 5, type: f32}",
        "active_power: {function: 3, address: 5, type: s16, unit: W, note: the sign says the direction}",
    ],
)  # fmt: skip
def test_what_is_said_is_not_doubted(row: str) -> None:
    assert [one for one in of_rows(row) if "W11" in one and "W110" not in one] == []


def test_two_quantities_that_look_like_one_are_doubted() -> None:
    told = of_rows(
        "x.energy_mwh: {function: 3, address: 5, type: u16, unit: MWh}",
        "x.energy_kwh: {function: 3, address: 6, type: u16, unit: kWh}",
        "x.pump.high: {function: 3, address: 7, type: u16}",
        "x.pump.low: {function: 3, address: 8, type: u16}",
        "x.flow: {function: 3, address: 9, type: u16}",
    )
    halves = [one for one in told if "W113" in one]
    assert len(halves) == 2
    assert "x.energy_kwh and x.energy_mwh look like two parts of one number" in halves[0]
    assert "x.pump.low and x.pump.high" in halves[1]


@pytest.mark.parametrize(
    ("model", "row", "doubted"),
    [
        ("SUN-50K", "type: s16, unit: W", True),
        ("SUN-50K", "type: s16, scale: 10, unit: W", False),
        ("SUN-50K", "type: s32, unit: W", False),
        ("Solis 40 kW", "type: s16, unit: W", True),
        ("SUN2000-10KTL", "type: s16, unit: W", False),
        ("5K", "type: s16, unit: W", False),
        ("SDM630", "type: s16, unit: W", False),
    ],
)
def test_a_power_that_cannot_hold_the_rating_is_doubted(
    model: str, row: str, doubted: bool
) -> None:
    head = HEAD.replace("model: A", f"model: {model}") + SERIAL
    told = of_rows(f"active_power: {{function: 3, address: 5, {row}}}", head=head)
    assert any("W114" in one for one in told) == doubted


def test_a_ratio_in_the_remark_that_no_row_reads_is_doubted() -> None:
    head = f"{HEAD}{SERIAL}remark: currents are to be multiplied with the CT ratio at 0x401F\n"
    row = "current.l1: {function: 3, address: 5, type: u16, unit: A}"
    assert any("1:1: warning[W115]" in one for one in of_rows(row, head=head))
    said = 'current.l1: {function: 3, address: 5, type: u16, unit: A, multiply: "@0x401F"}'
    assert not any("W115" in one for one in of_rows(said, head=head))


# Of shipped maps, what is really left unsaid: their documents do not tell it.
KNOWN_UNSAID = {("kdk_2pu-ct", "W115"), ("kws_303l", "W111"), ("kws_303l", "W112")}


def test_shipped_maps_leave_nothing_unsaid_that_is_known() -> None:
    found = set()
    for name in shipped():
        text = (files("meterd.drivers") / "maps" / f"{name}.yaml").read_text("utf-8")
        register_map = parse(text, name, name, own=False)
        for one in map_warnings(register_map, name, places(text, name)):
            if one.code >= "W111":
                found.add((name, one.code))
    assert found == KNOWN_UNSAID
