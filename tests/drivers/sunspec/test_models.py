"""The model files, against what the SunSpec documents say of each model's extent."""

import pytest

from meterd.drivers.registers import PROTOCOL_LIMIT
from meterd.drivers.sunspec.models import MODELS, ModelKind, rows
from meterd.model.quantity import INFO, describe

FUNCTION = 3
INVERTERS = (101, 102, 103, 111, 112, 113)
METERS = (201, 202, 203, 204, 211, 212, 213, 214)
SHIPPED = (1, *INVERTERS, 120, 122, 123, 124, *METERS)


def test_all_models_of_the_facts_are_there() -> None:
    assert tuple(MODELS) == SHIPPED


@pytest.mark.parametrize("number", MODELS)
def test_no_row_reaches_beyond_its_model(number: int) -> None:
    length = min(MODELS[number].lengths)
    found = rows(number, 0, FUNCTION)
    assert min(row.first for row in found) >= 2
    assert max(row.last for row in found) < length + 2


@pytest.mark.parametrize("number", MODELS)
def test_one_request_fetches_a_model(number: int) -> None:
    found = rows(number, 0, FUNCTION)
    # From the length register on: the ID is left out where 125 registers are not enough.
    assert max(row.last for row in found) <= PROTOCOL_LIMIT


@pytest.mark.parametrize("number", MODELS)
def test_no_register_means_two_things(number: int) -> None:
    found = rows(number, 0, FUNCTION)
    values = [at for row in found for at in range(row.address, row.address + row.words)]
    scales = {row.scale_register for row in found}
    assert len(values) == len(set(values))
    assert not scales & set(values)


@pytest.mark.parametrize("number", MODELS)
def test_quantities_are_known_and_addresses_move_with_the_model(number: int) -> None:
    here, there = rows(number, 0, FUNCTION), rows(number, 40069, 4)
    for row, moved in zip(here, there, strict=True):
        assert row.quantity in INFO or describe(row.quantity, row.unit)
        assert (moved.function, moved.address) == (4, row.address + 40069)
        if row.scale_register is not None:
            assert moved.scale_register == row.scale_register + 40069


@pytest.mark.parametrize("number", MODELS)
def test_only_inverters_are_turned_round(number: int) -> None:
    turned = {row.quantity for row in rows(number, 0, FUNCTION) if row.scale * row.scale_factor < 0}
    generates = MODELS[number].kind is ModelKind.INVERTER
    assert turned == ({"active_power", "reactive_power"} if generates else set())


@pytest.mark.parametrize("number", MODELS)
def test_0_of_an_accumulator_counts_only_where_the_point_is_mandatory(number: int) -> None:
    accumulators = [
        row
        for row in rows(number, 0, FUNCTION)
        if "_energy." in row.quantity and row.type[0] == "u"
    ]
    assert all((row.na == (0,)) == row.optional for row in accumulators)
    assert accumulators or number not in (101, 102, 103, 122, 201, 202, 203, 204)
