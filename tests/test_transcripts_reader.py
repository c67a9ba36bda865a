"""The reader of transcripts itself: what it takes, and what it refuses."""

import pytest

from tests.transcripts_reader import Bank, Case, parse

TEXT = """\
# a meter
bank usual
row voltage.l1 = 230.1 V
words 4:0 4366 199A
row current.l1 = 5.25 A
words 3:40071 0834
words 3:40075 FFFE
row info.model = "B 23"
words 3:9 4220 3233

bank absent
row voltage.l1 = null
words 4:0 7FC0 0000
"""


def banks(text: str = TEXT) -> tuple[Bank, ...]:
    return tuple(parse(text))


def test_a_row_has_its_words_and_its_value() -> None:
    usual = banks()[0]
    assert usual.name == "usual"
    assert usual.cases[0] == Case("voltage.l1", 230.1, "V", 4, 0, (0x4366, 0x199A))
    assert usual.cases[2].expected == "B 23"


def test_further_words_are_only_registers() -> None:
    usual = banks()[0]
    assert usual.cases[1].words == (0x0834,)
    assert usual.words(3, 40075, 1) == [0xFFFE]


def test_a_later_bank_starts_from_the_first() -> None:
    absent = banks()[1]
    assert [case.expected for case in absent.cases] == [None]
    assert absent.words(4, 0, 2) == [0x7FC0, 0]
    assert absent.words(3, 40071, 1) == [0x0834]


def test_registers_of_no_row_hold_the_filler() -> None:
    assert banks()[0].words(4, 1, 3) == [0x199A, 0xABCD, 0xABCD]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("words 4:1 0000", "two contents"),
        ("words 4:0 12", "no bank, row or words"),
        ("row voltage.l1", "no bank, row or words"),
    ],
)
def test_a_wrong_line_is_named(line: str, what: str) -> None:
    with pytest.raises(ValueError, match=rf"line 5: .*{what}"):
        banks("\n".join([*TEXT.splitlines()[:4], line]))
