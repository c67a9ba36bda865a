"""Readings as columns read as the readings that they stand for."""

import pytest

from meterd.model.columns import Columns
from meterd.model.sample import Quality, Reading

VOLTAGE = Reading("voltage.l1", 230.1, "V")
ABSENT = Reading("voltage.l2", None, "V", "not available")
GUESSED = Reading("battery.charge", 69.0, "%", "from the voltage", Quality.ESTIMATED)
TEXT = Reading("info.model", "SDM630", "")
ALL = [VOLTAGE, ABSENT, GUESSED, TEXT]


def test_what_goes_in_comes_out() -> None:
    columns = Columns.of(ALL)
    assert columns == ALL
    assert columns != ALL[:3]
    assert list(columns) == ALL
    assert (len(columns), columns[0], columns[-1]) == (4, VOLTAGE, TEXT)
    assert columns[1:3] == [ABSENT, GUESSED]
    with pytest.raises(IndexError):
        columns[4]


def test_only_a_good_float_goes_without_a_remark() -> None:
    whole = Reading("voltage.l3", 230, "V")
    assert sorted(Columns.of([*ALL, whole]).remarks) == [1, 2, 3, 4]


def test_the_same_columns_have_one_shape() -> None:
    one = Columns.of(ALL).shape
    assert Columns.of([reading._replace(value=1.0) for reading in ALL]).shape is one
    assert Columns.of([reading._replace(unit="kV") for reading in ALL]).shape is not one


def test_parts_are_joined_with_their_remarks() -> None:
    parts = [Columns.of(ALL[:2]), Columns.of([]), Columns.of(ALL[2:])]
    joined = Columns.joined(parts)
    assert joined == ALL
    assert joined.shape is Columns.of(ALL).shape
    assert Columns.joined(parts[:1]) is parts[0]
    assert Columns.joined([]) == []
