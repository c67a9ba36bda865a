"""Every table in tests/promql/cases is answered as written there."""

import math
from pathlib import Path

import pytest

from meterd.promql.engine import QueryError, Result, instant, query_range
from meterd.promql.result import ResultSeries
from tests.promql.reader import Case, read, series

CASES = [case for path in sorted(Path(__file__).parent.glob("cases/*.txt")) for case in read(path)]
_WORDS = ("fails ", "warns ", "informs ", "scalar ", "string ")


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 300


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name} {case.query[:50]}")
def test_case(case: Case) -> None:
    fails = [line for line in case.expected if line.startswith("fails ")]
    if not fails:
        _check(case, _run(case))
        return
    kind, _, text = fails[0].removeprefix("fails ").partition(": ")
    with pytest.raises(QueryError) as caught:
        _run(case)
    assert (caught.value.code, text in str(caught.value)) == (kind, True), str(caught.value)


def _run(case: Case) -> Result:
    if len(case.times) == 1:
        return instant(case.source, case.query, case.times[0])
    return query_range(case.source, case.query, *case.times)


def _check(case: Case, result: Result) -> None:
    for word, notes in (("warns ", result.warnings), ("informs ", result.infos)):
        wanted = [line.removeprefix(word) for line in case.expected if line.startswith(word)]
        assert all(any(text in note for note in notes) for text in wanted), notes
        assert bool(wanted) or word != "warns " or not notes, notes
    rows = [line for line in case.expected if not line.startswith(_WORDS)]
    assert case.expected, f"{case.name} expects nothing at all; say 'nothing' if it is empty"
    single = [line for line in case.expected if line.startswith(("scalar ", "string "))]
    if single:
        _one(single[0], result)
        return
    assert not isinstance(result.data, str)
    _vectors(case, rows, list(result.data))


def _one(line: str, result: Result) -> None:
    kind, _, value = line.partition(" ")
    assert result.type == kind
    if isinstance(result.data, str):
        assert result.data == value
        return
    assert _near(float(result.data[0].values[0]), float(value)), result.data[0].values


def _vectors(case: Case, rows: list[str], found: list[ResultSeries]) -> None:
    ordered = "ordered" in rows
    wanted = [series(row) for row in rows if row not in ("ordered", "nothing")]
    names = [sorted(labels.items()) for labels, _ in wanted]
    got = [sorted(each.labels.items()) for each in found]
    if ordered:
        assert got == names
    assert sorted(got) == sorted(names), found
    values = {tuple(sorted(each.labels.items())): each for each in found}
    for labels, words in wanted:
        _points(case, words, values[tuple(sorted(labels.items()))])


def _points(case: Case, words: list[str], found: ResultSeries) -> None:
    if len(case.times) == 1:
        expected = [float(word) for word in words]
        assert len(found.values) == len(expected), found
    else:
        start, _, step = case.times
        places = [place for place, word in enumerate(words) if word != "_"]
        assert found.times.tolist() == [start + step * place for place in places]
        expected = [float(words[place]) for place in places]
    pairs = zip(found.values.tolist(), expected, strict=True)
    assert all(_near(value, want) for value, want in pairs), (found.values, expected)


def _near(value: float, wanted: float) -> bool:
    if math.isnan(wanted):
        return math.isnan(value)
    return math.isclose(value, wanted, rel_tol=1e-9, abs_tol=1e-12)
