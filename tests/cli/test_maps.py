"""`meterd maps`: lists, finds, shows and judges register maps."""

import json
from pathlib import Path

import pytest

from meterd.drivers.map_library import shipped
from tests.cli.inside import inside

BAD = """\
source: Acme manual
confidence: high
maker: Acme
model: A
rows:
  voltage.l1: {function: 9, address: 0, type: f32, unit: V}
  volts: {function: 4, address: 2, type: f32, unit: V}
"""
GOOD = BAD.replace("9", "4").replace("volts", "voltage.l2")
CONFIG = 78


def test_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = inside(capsys, "maps").out.splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == shipped()


@pytest.mark.parametrize(
    ("word", "has", "lacks"),
    [
        ("sdm", "eastron_sdm630", "janitza_umg604"),
        ("SDM630", "eastron_sdm630", "eastron_sdm120"),
        ("carlo em24", "carlo-gavazzi_em24", "eastron_sdm630"),
        ("schneider pm5", "schneider_pm5110", "schneider_pm710"),
    ],
)
def test_words_find_maps(
    word: str, has: str, lacks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [
        row["name"]
        for row in json.loads(inside(capsys, "maps", "--find", word, "--format", "json").out)
    ]
    assert has in found
    assert lacks not in found


def test_nothing_found_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, "maps", "--find", "frobnicator")
    assert "no map has 'frobnicator'" in done.err
    assert done.code == 0


def test_low_confidence_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    table = inside(capsys, "maps", "--find", "kws", "--format", "table").out
    assert "low (compare with the display)" in table
    assert "low (compare with the display)" in inside(capsys, "maps", "kws_303l").err
    assert "compare" not in inside(capsys, "maps", "--find", "sdm630", "--format", "table").out


def test_a_bit_is_shown_with_its_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert "bits[4]" in inside(capsys, "maps", "apc_nmc2").out


def test_several_bits_and_an_offset_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.yaml"
    row = "{function: 4, address: 0, type: bits, bit: [8, 15], scale: 0.5, offset: -40, unit: °C}"
    own.write_text(f"rows:\n  temperature: {row}\n")
    out = inside(capsys, "maps", str(own)).out
    assert "bits[8..15]" in out
    assert "0.5-40" in out


def test_mistakes_end_with_the_code_of_bad_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(BAD)
    done = inside(capsys, "maps", "--check", str(own))
    assert (done.code, done.out) == (CONFIG, "")
    assert f"{own}:6:16: error[M003]: voltage.l1: function is 9, allowed 1..4" in done.err
    assert f"{own}:7:3: error[M004]: unknown quantity volts" in done.err


def test_a_row_that_no_request_can_read_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(f"{GOOD}limits: {{max_registers: 1}}\n")
    done = inside(capsys, "maps", "--check", str(own))
    assert (done.code, done.out) == (CONFIG, "")
    assert done.err.count("error[M006]") == 2


def test_a_map_without_mistakes_gets_doubts_and_a_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(GOOD)
    done = inside(capsys, "maps", "--check", str(own))
    assert done.code == 0
    assert done.out.splitlines()[1:] == ["poll\t4\t0\t3\t4\tvoltage.l1 voltage.l2"]
    assert "warning[W104]" in done.err
    assert "no mistakes, 1 warnings, 2 rows in 1 reads of 4 registers" in done.err
    document = json.loads(inside(capsys, "maps", "--check", str(own), "--format", "json").out)
    assert document["plan"][0]["rows"] == ["voltage.l1", "voltage.l2"]
    assert len(document["warnings"]) == 1


@pytest.mark.parametrize("what", ["missing.yaml", "."])
def test_no_file_is_said(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, "maps", "--check", str(tmp_path / what))
    assert (done.code, done.out) == (CONFIG, "")
    assert "register map" in done.err


def test_two_questions_at_once_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert inside(capsys, "maps", "eastron_sdm630", "--find", "sdm").code == 2


def test_what_limits_would_save_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(GOOD.replace("address: 2", "address: 6"))
    done = inside(capsys, "maps", "--check", str(own))
    assert "2 rows in 2 reads of 4 registers" in done.err
    assert "limits: {bridge: 16} makes 1 reads of them" in done.err


def test_a_shipped_map_is_checked_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, "maps", "--check", "schneider_pm850")
    assert done.code == 0
    assert "schneider_pm850: no mistakes" in done.err
    assert "@3208" in done.out


def test_what_is_too_long_for_a_map_is_not_read(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("maps", "--check", "/dev/zero"), ("maps", "/dev/zero")):
        done = inside(capsys, *words)
        assert done.code == CONFIG
        assert "is larger than 1024 KiB" in done.err


def test_registers_and_ratios_of_composed_rows_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "split.yaml"
    file.write_text(
        "rows:\n"
        "  active_power: {function: 3, words: [625, 690], word_order: little, type: s32, unit: W}\n"
        "  active_energy.import: {function: 3, type: u16, unit: kWh,"
        " sum: [{address: 3500}, {address: 3501, unit: MWh}]}\n"
        "  current.l1: {function: 3, address: 8, type: u16, scale: 0.01, unit: A,"
        ' sign: 9, multiply: "@40", divide: "@41"}\n'
    )
    lines = inside(capsys, "maps", str(file)).out.splitlines()
    assert [line.split("\t")[2:6] for line in lines[1:]] == [
        ["625 690", "s32", "W", "1"],
        ["3500 3501", "sum", "kWh", "1"],
        ["8 9 40 41", "u16", "A", "0.01 sign @9 x @40 / @41"],
    ]


def test_places_that_are_not_listed_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, "maps", "--quantities")
    assert "ch1 to ch999" in done.err
    assert "t1 to t99" in done.err


def test_a_device_whose_map_may_have_half_a_number_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is polled with such a map looks good, and may be -23536 W for 42000 W."""
    half = "active_power: {function: 3, address: 625, type: s16, unit: W, note: high word at 690}"
    (tmp_path / "own.yaml").write_text(f"rows:\n  {half}\n")
    config = tmp_path / "meterd.yaml"
    config.write_text(
        "site: {name: Home, timezone: UTC}\n"
        "devices:\n"
        "  main: {driver: modbus, map: ./own.yaml, link: tcp://127.0.0.1:1, unit: 1}\n"
    )
    done = inside(capsys, "check", "-c", str(config))
    assert "register map own: perhaps not the whole number: active_power" in done.err
    assert "meterd maps --check" in done.err
