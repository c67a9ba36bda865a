from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from meterd.promql import encode, engine
from meterd.promql.result import QueryError, Result
from tests.promql.differential import reference, samples
from tests.promql.differential.compare import differences
from tests.promql.differential.composed import composed
from tests.promql.differential.queries import DIFFERENT, GROUPS, Question

# Where the samples have just been lost, where they are back, and past the last one.
MOMENTS = (samples.START + 2_460_000, samples.START + 4_020_000, samples.END + 60_000)
RANGE = (samples.START + 60_000, samples.END - 60_000, 240_000)
# Fewer questions than that would be no proof.
LEAST = 1000
ALL = {**GROUPS, "composed": composed}


@dataclass(frozen=True, slots=True)
class Sides:
    """Both engines, with the same samples in them."""

    prometheus: reference.Reference
    source: samples.ArraySource

    def instant(self, question: Question, time: int) -> list[str]:
        ours = _answer(lambda: engine.instant(self.source, question.text, time))
        asked = {"query": question.theirs or question.text, "time": time / 1000}
        theirs = self.prometheus.ask("query", asked)
        return differences(ours, theirs, ordered=question.ordered)

    def range(self, question: Question) -> list[str]:
        start, end, step = RANGE
        ours = _answer(lambda: engine.query_range(self.source, question.text, start, end, step))
        times = {"start": start / 1000, "end": end / 1000, "step": step / 1000}
        asked = {"query": question.theirs or question.text, **times}
        return differences(ours, self.prometheus.ask("query_range", asked))


def _answer(ask: Callable[[], Result]) -> Any:
    try:
        result = ask()
    except QueryError as error:
        return {"status": "error", "errorType": error.code, "error": str(error)}
    return {"status": "success", "data": orjson.loads(encode.encode_json(result))}


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    series = samples.everything()
    folder: Path = tmp_path_factory.mktemp("prometheus")
    with reference.running(folder) as prometheus:
        prometheus.write(series)
        yield Sides(prometheus, samples.ArraySource(series))


def _questions(group: str) -> list[Question]:
    return [question for question in ALL[group]() if question.text not in DIFFERENT]


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize("group", ALL)
def test_instant_answers_are_those_of_prometheus(sides: Sides, group: str) -> None:
    found = [
        f"{question.text} @{moment}: {what}"
        for question in _questions(group)
        for moment in MOMENTS
        for what in sides.instant(question, moment)
    ]
    assert found == []


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize("group", ALL)
def test_range_answers_are_those_of_prometheus(sides: Sides, group: str) -> None:
    found = [
        f"{question.text}: {what}"
        for question in _questions(group)
        for what in sides.range(question)
    ]
    assert found == []


@pytest.mark.needs("prometheus")
def test_most_questions_have_an_answer(sides: Sides) -> None:
    start, end, step = RANGE
    times = {"start": start / 1000, "end": end / 1000, "step": step / 1000}
    asked = [question for group in ALL if group != "refusals" for question in _questions(group)]
    answers = [
        sides.prometheus.ask("query_range", {"query": one.theirs or one.text, **times})
        for one in asked
    ]
    empty = sum(not answer.get("data", {}).get("result") for answer in answers)
    assert empty / len(asked) < 0.1


def test_there_are_enough_questions_and_few_that_are_left_out() -> None:
    texts = {question.text for group in ALL for question in _questions(group)}
    assert len(texts) >= LEAST
    asked = {question.text for make in GROUPS.values() for question in make()}
    assert asked.issuperset(DIFFERENT), "what is left out has to be a question"
    assert len(DIFFERENT) <= 20


def test_no_sample_lies_where_open_and_closed_windows_differ() -> None:
    for series in samples.everything():
        assert (series.times % 1000 != 0).all()
        assert (series.times[1:] > series.times[:-1]).all()
