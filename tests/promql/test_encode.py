"""Numbers and answers as Go and Prometheus write them."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterd.promql.encode import encode, encode_json, number
from meterd.promql.result import Result, ResultSeries


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "-0"), (1.0, "1"), (-1.0, "-1"), (569.31, "569.31"), (0.1, "0.1"),
        (0.1 + 0.2, "0.30000000000000004"), (1e15, "1000000000000000"), (1e16, "10000000000000000"),
        (1e20, "100000000000000000000"), (1e21, "1e+21"), (1.5e300, "1.5e+300"),
        (123456789012345680.0, "123456789012345680"), (1e-4, "0.0001"), (1e-5, "0.00001"),
        (1.5e-6, "0.0000015"), (1e-6, "0.000001"), (9.9e-7, "9.9e-07"), (1e-7, "1e-07"),
        (5e-324, "5e-324"), (-1e-10, "-1e-10"), (math.nan, "NaN"), (math.inf, "+Inf"),
        (-math.inf, "-Inf"), (1760000000.123, "1760000000.123"), (2**53, "9007199254740992"),
    ],
)  # fmt: skip
def test_a_number_is_written_as_go_does(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1e21, "1000000000000000000000"), (1e-7, "0.0000001"), (2.5, "2.5")]
)
def test_plain_numbers_have_no_exponent(value: float, text: str) -> None:
    assert number(value, plain=True) == text


@given(st.floats(allow_nan=False))
def test_every_number_reads_back_the_same(value: float) -> None:
    assert float(number(value)) == value
    assert float(number(value, plain=True)) == value


def _matrix(times: list[int], values: list[float]) -> Result:
    row = ResultSeries({"__name__": "x", "a": 'quo"te'}, np.array(times), np.array(values))
    return Result("matrix", (row,))


@given(st.lists(st.tuples(st.integers(-(10**14), 10**14), st.floats()), min_size=1, max_size=20))
def test_the_fast_way_writes_what_the_plain_way_does(points: list[tuple[int, float]]) -> None:
    times, values = [time for time, _ in points], [value for _, value in points]
    result = _matrix(times, values)
    assert json.loads(encode_json(result)) == json.loads(json.dumps(encode(result)))


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.5, 2.0], [0.0, 1.0], [1e-5, 1e16], [1e14, 0.3]])
def test_each_kind_of_column_is_written_alike(values: list[float]) -> None:
    result = _matrix([1_000, 2_000], values)
    assert json.loads(encode_json(result)) == json.loads(json.dumps(encode(result)))


def test_a_matrix_has_values() -> None:
    assert encode(_matrix([1_760_000_000_000, 1_760_000_000_123], [1.0, 2.5])) == {
        "resultType": "matrix",
        "result": [
            {
                "metric": {"__name__": "x", "a": 'quo"te'},
                "values": [[1_760_000_000, "1"], [1_760_000_000.123, "2.5"]],
            }
        ],
    }


def test_a_vector_has_one_value_each() -> None:
    row = ResultSeries({"a": "b"}, np.array([4_000]), np.array([math.inf]))
    assert encode(Result("vector", (row,), 4_000)) == {
        "resultType": "vector",
        "result": [{"metric": {"a": "b"}, "value": [4, "+Inf"]}],
    }


def test_scalars_and_strings_stand_alone() -> None:
    row = ResultSeries({}, np.array([4_000]), np.array([2.0]))
    assert encode(Result("scalar", (row,), 4_000)) == {"resultType": "scalar", "result": [4, "2"]}
    assert encode(Result("string", "a", 4_500)) == {"resultType": "string", "result": [4.5, "a"]}


def test_nothing_is_an_empty_list() -> None:
    assert encode_json(Result("matrix", ())) == b'{"resultType":"matrix","result":[]}'
    assert encode_json(Result("vector", ())) == b'{"resultType":"vector","result":[]}'
