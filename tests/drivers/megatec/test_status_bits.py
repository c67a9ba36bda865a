"""The eight status characters, and when they lie."""

import pytest

from meterd.drivers.megatec import MegatecUps
from meterd.testing import ScriptedLink
from tests.drivers.megatec.units import LINE, letters, named, options, read, scripted


@pytest.mark.parametrize(
    ("bits", "source", "output", "load", "expected"),
    [
        ("00001000", "230.0", "230.0", "014", "ol"),
        ("10001001", "004.0", "230.0", "014", "ob"),
        ("10001001", "230.0", "230.0", "014", "ob"),
        ("11001000", "004.0", "230.0", "014", "ob lb"),
        ("01001000", "230.0", "230.0", "014", "ol lb"),
        ("00101000", "250.0", "230.0", "014", "ol trim"),
        ("00101000", "230.0", "230.0", "014", "ol bypass"),
        ("00101000", "200.0", "230.0", "014", "ol boost"),
        ("00101000", "200.0", "190.0", "014", "ol bypass"),
        ("00101000", "200.0", "210.0", "014", "ol boost"),
        ("00101000", "200.0", "100.0", "014", "ol trim"),
        ("00101000", "200.0", "300.0", "014", "ol trim? bypass? boost?"),
        ("00101000", "230.0", "100.0", "014", "ol trim? bypass? boost?"),
        ("00101000", "100.0", "230.0", "014", "ol trim? bypass? boost?"),
        ("00101000", "000.0", "230.0", "014", "ol trim? bypass? boost?"),
        ("00101000", "---.-", "230.0", "014", "ol trim? bypass? boost?"),
        ("10101000", "000.0", "230.0", "014", "ob"),
        ("00011000", "230.0", "230.0", "014", "ol alarm"),
        ("00001100", "230.0", "230.0", "014", "ol cal test"),
        ("10001100", "230.0", "230.0", "014", "ob cal test"),
        ("00001000", "230.0", "000.0", "000", "ol off"),
        ("00001000", "230.0", "009.9", "000", "ol off"),
        ("00001000", "230.0", "010.0", "000", "ol"),
        ("00001000", "230.0", "@@@.@", "000", "ol off?"),
        ("10001000", "000.0", "000.0", "000", "ob off?"),
        ("00001000", "230.0", "230.0", "101", "ol over"),
        ("00001000", "230.0", "230.0", "100", "ol"),
        ("00001000", "230.0", "230.0", "---", "ol over?"),
        ("00000000", "230.0", "230.0", "014", "ol"),
    ],
)
async def test_letters(bits: str, source: str, output: str, load: str, expected: str) -> None:
    line = f"({source} 195.0 {output} {load} 50.0 13.5 30.0 {bits}"
    assert letters(await read(scripted(line))) == expected


async def fsd(link: ScriptedLink, ups: MegatecUps) -> float | str | None:
    return named(await ups.read())["ups.status.fsd"].value


CLEAR = LINE
SET = LINE.replace("00001000", "00001010")


async def test_a_shutdown_bit_that_falls_first_counts_when_it_rises() -> None:
    link = scripted(SET, CLEAR, SET, SET, CLEAR)
    ups = MegatecUps(link, options())
    assert [await fsd(link, ups) for _ in range(5)] == [None, 0.0, 1.0, 1.0, 0.0]


async def test_a_shutdown_goes_on_across_a_reopening() -> None:
    link = scripted(CLEAR, SET, SET)
    ups = MegatecUps(link, options())
    assert [await fsd(link, ups) for _ in range(2)] == [0.0, 1.0]
    link.reopen()
    assert await fsd(link, ups) == 1.0


async def test_another_unit_with_a_stuck_bit_shuts_nothing_down() -> None:
    link = scripted(CLEAR, SET)
    ups = MegatecUps(link, options())
    assert await fsd(link, ups) == 0.0
    link.reopen()
    assert await fsd(link, ups) is None


async def test_after_the_shutdown_mains_with_no_output_is_off_not_fsd() -> None:
    off = "(228.3 228.3 000.0 000 00.0 13.2 30.0 00001010"
    assert letters(await read(scripted(off))) == "ol off"
