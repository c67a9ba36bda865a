"""Which models make one device, and how one of several is chosen."""

import pytest

from meterd.drivers.sunspec.discovery import FoundModel, ModelAddress, ModelSurvey
from meterd.drivers.sunspec.models import MODELS
from meterd.drivers.sunspec.parts import choose, parts
from meterd.errors import DeviceError


def holding(*numbers: int) -> ModelSurvey:
    """A device with these models; each has its number's place in the list as address."""
    found = [FoundModel(n, i, MODELS[n].lengths[0], MODELS[n]) for i, n in enumerate(numbers)]
    return ModelSurvey(ModelAddress(40000, 3), tuple(found))


def grouped(*numbers: int) -> list[tuple[int | None, list[int]]]:
    """By part: where its identity is, and its models."""
    return [
        (part.identity.address if part.identity else None, [one.number for one in part.models])
        for part in parts(holding(*numbers))
    ]


def chosen(survey: ModelSurvey, part: str | int | None = None, index: int = 1) -> list[int]:
    return [one.address for one in choose(survey, part, index).models]


def test_an_inverter_takes_the_additions_behind_it() -> None:
    assert grouped(1, 103, 120, 122, 123, 124) == [(0, [103, 120, 122, 123, 124])]


def test_additions_stay_with_the_inverter_across_a_meter() -> None:
    assert grouped(1, 103, 203, 120) == [(0, [103, 120]), (0, [203])]


def test_additions_without_an_inverter_make_one_part() -> None:
    assert grouped(1, 120, 124) == [(0, [120, 124])]


def test_an_identity_belongs_to_what_follows_it() -> None:
    assert grouped(1, 103, 1, 203, 1, 203) == [(0, [103]), (2, [203]), (4, [203])]


def test_a_chain_without_identity_has_parts_without_one() -> None:
    assert grouped(213) == [(None, [213])]


def test_the_meter_is_what_is_meant_unless_there_is_none() -> None:
    assert chosen(holding(1, 103, 203)) == [2]
    assert chosen(holding(1, 103, 122)) == [1, 2]


def test_part_and_index_choose() -> None:
    two = holding(1, 103, 1, 203, 1, 213)
    assert chosen(two, "inverter") == [1]
    assert chosen(two, "meter", 2) == [5]
    assert chosen(two, 213) == [5]
    assert chosen(holding(1, 113, 124), 124) == [1, 2]


@pytest.mark.parametrize(("part", "index"), [("meter", 2), (201, 1), ("inverter", 2), (203, 2)])
def test_what_is_not_there_is_refused_with_a_list_of_what_is(part: str | int, index: int) -> None:
    with pytest.raises(DeviceError, match=r"model 103 .*; meter: model 203") as told:
        choose(holding(1, 103, 203), part, index)
    assert told.value.code == "no_part"


def test_a_device_with_nothing_known_says_what_was_skipped_and_why_it_ended() -> None:
    odd = (FoundModel(160, 5, 48, None), FoundModel(203, 55, 9, None))
    with pytest.raises(DeviceError) as told:
        choose(ModelSurvey(ModelAddress(0, 3), odd, "cut off"), None, 1)
    for said in ("101, 102", "model 160 (not known", "length 9 instead of 105", "cut off"):
        assert said in str(told.value)
