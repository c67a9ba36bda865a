"""Every shipped register map: sound by itself, and right about its transcript."""

import re
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files

import pytest

from meterd.drivers.map_library import head, load_map, shipped
from meterd.drivers.planner import plan
from meterd.drivers.registers import RegisterMap, Row
from meterd.drivers.values import Composed, decode
from meterd.model import units
from meterd.model.quantity import CATALOGUE, INFO, Kind
from tests import transcripts_reader
from tests.drivers import second_opinion
from tests.transcripts_reader import Bank, Case

NAMES = shipped()
PROTOCOL_LIMIT = 125
TYPES = {"u", "s", "f"}
CONFIDENCES = {"high", "medium", "low"}
# What has been collected of meters, one file a model: each is a map. An inverter's file is two.
COLLECTED = """
abb_a43 abb_b21 abb_b23 abb_m2m abb_m4m-20 accuenergy_acuvim-ii acrel_adw300 algodue_upm209
apc_nmc2 artemes_am2 bernecker_mpm3pm bg-etech_ds100 bg-etech_ws100 carlo-gavazzi_em112
carlo-gavazzi_em24 carlo-gavazzi_em24-e1 carlo-gavazzi_em330 carlo-gavazzi_em340
carlo-gavazzi_em511 carlo-gavazzi_em540 ccs_wattnode-mb cet_pmc-330a cet_pmc-340 cet_pmc-350-c
cet_pmc-512-d cet_pmc-53a cet_pmc-53m cet_pmc-d721md cet_pmc-d726m chint_ddsu666
circutor_cvm-c10 contrel_ud3h ddm_ddm18sd dzg_dvh4013 eastron_dcm230 eastron_sdm120
eastron_sdm220 eastron_sdm230 eastron_sdm54 eastron_sdm630 eastron_sdm72dm eastron_sdm72dm-v2
eastron_smart-x96-1a eltako_dsz15d finder_7e78 finder_7m24 finder_7m38 fronius_smart-meter
garo_gnm3d hiking_dds238-2 huawei_sun2000 inepro_pro1 inepro_pro380 janitza_b23 janitza_umg511
janitza_umg604 janitza_umg806 janitza_umg96rm kdk_2pu-ct kws_303l lovato_dmg210 lovato_dmg610
orno_or-we-504 orno_or-we-516-517 orno_or-we-525-526 peacefair_pzem-004t-v3 peacefair_pzem-016
phoenix-contact_eem-350-d-mcb phoenix-contact_eem-em357 phoenix-contact_eem-ma370
powerwalker_vfi pq-plus_umd96 sbc_ald1 sbc_ale3 schneider_iem3150 schneider_iem3155
schneider_pm1200 schneider_pm2220 schneider_pm3255 schneider_pm5110 schneider_pm5560
schneider_pm710 schneider_pm850 seneca_s604 siemens_pac1600 siemens_pac2200 siemens_pac3200
siemens_pac4200 socomec_countis-e14 socomec_countis-e23 socomec_countis-e34 socomec_diris-a10
socomec_diris-a14 socomec_diris-a20 socomec_diris-b30 solaredge_se-mtr-3y victron_vm-3p75ct
wago_879-3000 ziehl_efr4001ip
"""
# Transcripts of other drivers.
NO_METERS = {"megatec", "sunspec"}
SPLIT = {"huawei_sun2000-meter"}
# SunSpec's files are models that its driver walks.
SUNSPEC = """
model-1 model-101 model-102 model-103 model-111 model-112 model-113 model-120 model-122
model-123 model-124 model-201 model-202 model-203 model-204 model-211 model-212 model-213
model-214
"""
# A float32 names its value to half a unit in the last place.
F32 = 2.0**-24
# What multiplying a double by 1000 may add.
F64 = 1e-15


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def register_map(name: str) -> RegisterMap:
    return load_map(name)


@pytest.fixture
def banks(name: str) -> tuple[Bank, ...]:
    return transcripts_reader.read(name)


Register = tuple[int, int, int | None]


def registers(row: Row) -> Iterator[Register]:
    """Function, address and, where a row takes but one, the bit."""
    if row.terms:
        return ((*place, None) for place in row.places())
    return ((row.function, row.address + offset, row.bit) for offset in range(row.words))


def exponent(row: Row, bank: Bank) -> int | None:
    if row.scale_register is None:
        return None
    word = bank.words(row.function, row.scale_register, 1)[0]
    return word - 0x10000 if word > 0x7FFF else word


def value_of(row: Row, case: Case, bank: Bank) -> float | str | None:
    if not row.terms:
        return decode(row, case.words, exponent(row, bank))
    return Composed(row).reading(lambda place: bank.words(*place, 1)[0], exponent(row, bank)).value


def canonical(row: Row, value: float | str | None) -> float | str | None:
    """The value in the unit of the catalogue."""
    if not isinstance(value, float | int):
        return value
    factor = units.factor(row.unit, CATALOGUE[row.quantity].unit)
    assert factor is not None
    return value * factor


def agree(found: float | str | None, case: Case, tolerance: float = F64) -> bool:
    if not isinstance(found, float | int) or not isinstance(case.expected, float):
        return found == case.expected
    return found == pytest.approx(case.expected, rel=tolerance, abs=0)


def test_everything_collected_is_a_map() -> None:
    assert set(NAMES) == {*COLLECTED.split(), *SPLIT}


def test_every_collected_sunspec_model_is_there() -> None:
    folder = files("meterd.drivers.sunspec")
    assert [name for name in SUNSPEC.split() if not (folder / f"{name}.yaml").is_file()] == []


def test_no_transcript_is_left_over() -> None:
    found = {path.stem for path in transcripts_reader.FOLDER.glob("*_*.txt")}
    assert {name for name in found if name.partition("_")[0] not in NO_METERS} == set(NAMES)


def test_no_two_maps_share_an_alias() -> None:
    aliases = Counter(alias for each in NAMES for alias in load_map(each).aliases)
    assert [alias for alias, times in aliases.items() if times > 1] == []


def test_is_listed_as_it_is(name: str, register_map: RegisterMap) -> None:
    found = head(name)
    assert (found.name, found.rows) == (name, len(register_map.rows))
    for key in ("maker", "model", "source", "confidence", "remark"):
        assert getattr(found, key) == getattr(register_map, key)


def test_names_maker_and_model(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9-]+_[a-z0-9-]+", name)


def test_tells_where_its_addresses_come_from(register_map: RegisterMap) -> None:
    assert len(register_map.source) > 20
    assert register_map.maker
    assert register_map.model
    assert register_map.confidence in CONFIDENCES


def test_of_low_confidence_says_what_to_check(register_map: RegisterMap) -> None:
    if register_map.confidence == "low":
        assert re.search(r"verif|check|compare|assum", register_map.remark, re.IGNORECASE)


def test_has_only_quantities_of_the_catalogue(register_map: RegisterMap) -> None:
    names = {row.quantity for row in register_map.rows}
    assert names <= CATALOGUE.keys() | set(INFO)


def test_has_units_that_convert(register_map: RegisterMap) -> None:
    for row in register_map.rows:
        if row.quantity not in INFO:
            known = CATALOGUE[row.quantity]
            assert units.factor(row.unit, known.unit) is not None, row


def test_claims_no_register_twice(register_map: RegisterMap) -> None:
    claimed = [register for row in register_map.rows for register in registers(row)]
    assert [one for one, times in Counter(claimed).items() if times > 1] == []
    wholes = {register[:2] for register in claimed if register[2] is None}
    assert [
        register for register in claimed if register[2] is not None and register[:2] in wholes
    ] == []


def test_names_no_scale_register_as_a_value(register_map: RegisterMap) -> None:
    values = {register[:2] for row in register_map.rows for register in registers(row)}
    scales = {(row.function, row.scale_register) for row in register_map.rows}
    assert not values & scales


def test_reads_texts_once_and_counters_slowly(register_map: RegisterMap) -> None:
    for row in register_map.rows:
        if row.quantity in INFO:
            assert row.tier == "static", row
        elif CATALOGUE[row.quantity].kind is Kind.COUNTER:
            assert row.tier == "slow", row


def test_restarts_only_counters_and_within_their_width(register_map: RegisterMap) -> None:
    for row in register_map.rows:
        if row.wrap is not None:
            assert "_energy" in row.quantity, row
            assert row.type[0] in TYPES, row
            assert row.wrap <= 2 ** (16 * row.words), row


def test_means_absent_by_raw_values_that_fit(register_map: RegisterMap) -> None:
    for row in register_map.rows:
        ranges = [*row.na_ranges, *((raw, raw) for raw in row.na)]
        assert all(0 <= low <= high < 2 ** (16 * row.words) for low, high in ranges), row


def test_plans_requests_that_the_meter_takes(register_map: RegisterMap) -> None:
    blocks = plan(register_map, register_map.rows)
    for block in blocks:
        assert block.words <= min(register_map.max_registers, PROTOCOL_LIMIT), block
        assert block.address % register_map.align == block.words % register_map.align == 0
        for first, last in register_map.unreadable:
            assert last < block.address or block.address + block.words <= first, block
    assert sorted(row.quantity for block in blocks for row in block.rows) == sorted(
        row.quantity for row in register_map.rows
    )


def test_bridges_no_hole_wider_than_its_limit(register_map: RegisterMap) -> None:
    for block in plan(register_map, register_map.rows):
        known = {register for row in block.rows for register in range(row.first, row.last + 1)}
        hole = 0
        for register in range(block.address, block.address + block.words):
            hole = 0 if register in known else hole + 1
            assert hole <= max(register_map.bridge, register_map.align - 1), block


def test_is_found_by_its_aliases(name: str, register_map: RegisterMap) -> None:
    assert not set(register_map.aliases) & set(NAMES)
    for alias in register_map.aliases:
        assert load_map(alias).name == name


def test_has_a_transcript_of_every_row(register_map: RegisterMap, banks: tuple[Bank, ...]) -> None:
    complete = {case.quantity for case in banks[0].cases}
    assert complete == {row.quantity for row in register_map.rows}


def test_has_transcripts_in_units_of_the_catalogue(banks: tuple[Bank, ...]) -> None:
    for case in (case for bank in banks for case in bank.cases):
        if isinstance(case.expected, float):
            assert case.unit == CATALOGUE[case.quantity].unit, case


def test_finds_each_value_where_the_transcript_has_it(
    register_map: RegisterMap, banks: tuple[Bank, ...]
) -> None:
    rows = {row.quantity: row for row in register_map.rows}
    for case in (case for bank in banks for case in bank.cases):
        row = rows[case.quantity]
        assert (row.function, row.address, row.words) == (
            case.function,
            case.address,
            len(case.words),
        ), case


def test_gives_the_values_of_the_transcript(
    register_map: RegisterMap, banks: tuple[Bank, ...]
) -> None:
    rows = {row.quantity: row for row in register_map.rows}
    for bank in banks:
        for case in bank.cases:
            row = rows[case.quantity]
            found = canonical(row, value_of(row, case, bank))
            assert agree(found, case), (bank.name, case, found)


def test_gives_the_values_of_the_transcript_in_whole_blocks(
    register_map: RegisterMap, banks: tuple[Bank, ...]
) -> None:
    rows = {row.quantity: row for row in register_map.rows}
    for bank in banks:
        found: dict[str, float | str | None] = {}
        places = {place for row in rows.values() for place in row.remote_places()}
        far = {(function, at): bank.words(function, at, 1)[0] for function, at in places}
        for block in plan(register_map, register_map.rows):
            words = bank.words(block.function, block.address, block.words)
            data = b"".join(word.to_bytes(2, "big") for word in words)
            found |= {reading.quantity: reading.value for reading in block.decode(data, far)}
        for case in bank.cases:
            value = canonical(rows[case.quantity], found[case.quantity])
            assert agree(value, case), (bank.name, case, value)


def test_means_the_same_to_a_second_decoder(name: str, banks: tuple[Bank, ...]) -> None:
    rows = second_opinion.rows(name)
    for bank in banks:
        for case in bank.cases:
            row = rows[case.quantity]
            found = second_opinion.canonical(row, bank.words)
            value = found if found is None or isinstance(found, str) else float(found)
            tolerance = F32 if row["type"] == "f32" else F64
            assert agree(value, case, tolerance), (bank.name, case, found)
