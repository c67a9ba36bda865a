"""The differential test is worth no more than what tells two answers apart."""

from typing import Any

import pytest

from tests.promql.differential.compare import differences


def matrix(*series: tuple[str, list[list[Any]]]) -> Any:
    result = [{"metric": {"device": name}, "values": points} for name, points in series]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


def scalar(text: str) -> Any:
    return {"status": "success", "data": {"resultType": "scalar", "result": [4, text]}}


def error(kind: str) -> Any:
    return {"status": "error", "errorType": kind, "error": "no"}


SAME = matrix(("a", [[1, "1"], [2, "NaN"], [3, "1000"]]))


def test_the_same_answers_do_not_differ() -> None:
    assert differences(SAME, SAME) == []
    assert differences(error("execution"), error("execution")) == []


def test_the_last_digits_may_differ() -> None:
    close = matrix(("a", [[1, "1.00000000000001"], [2, "NaN"], [3, "1000"]]))
    assert differences(close, SAME) == []


@pytest.mark.parametrize(
    "other",
    [
        matrix(("a", [[1, "1.00001"], [2, "NaN"], [3, "1000"]])),
        matrix(("a", [[1, "1"], [2, "0"], [3, "1000"]])),
        matrix(("a", [[1, "1"], [2, "NaN"]])),
        matrix(("a", [[1, "1"], [2.5, "NaN"], [3, "1000"]])),
        matrix(("a", [[1, "1"], [2, "NaN"], [3, "1000.0"]])),
        matrix(("a", [[1, "1"], [2, "NaN"], [3, "+Inf"]])),
        matrix(("b", [[1, "1"], [2, "NaN"], [3, "1000"]])),
        matrix(),
        matrix(*[("a", [[1, "1"], [2, "NaN"], [3, "1000"]])] * 2),
        scalar("1"),
        error("execution"),
    ],
)
def test_whatever_else_differs_is_found(other: Any) -> None:
    assert differences(other, SAME)
    assert differences(SAME, other)


def test_classes_of_errors_and_the_order_where_it_matters_are_compared() -> None:
    assert differences(error("bad_data"), error("execution"))
    first, second = ("a", [[1, "1"]]), ("b", [[1, "2"]])
    turned = matrix(second, first)
    assert differences(turned, matrix(first, second)) == []
    assert differences(turned, matrix(first, second), ordered=True)
    assert differences(scalar("-0"), scalar("0"))
