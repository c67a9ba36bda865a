"""What must never reach the parser, and what its errors become."""

import threading

import pytest

from meterd.promql.engine import QueryError, instant
from meterd.promql.guard import MAX_DEPTH, MAX_LENGTH, MAX_OPERATORS, mapped, parse
from meterd.promql.lexer import tokens
from meterd.promql.plan import plan
from tests.promql.memory import Memory


def _refusal(query: str) -> QueryError:
    with pytest.raises(QueryError) as caught:
        plan(query)
    assert caught.value.kind == "bad_data"
    return caught.value


@pytest.mark.parametrize(
    "query",
    [
        "(" * 8_192,
        "(" * 4_000 + "1" + ")" * 4_000,
        "+".join("1" * 4_200),
        "-" * 8_000 + "1",
        "x" + "[5m:1m]" * 4_000,
        "sum(" * 2_000 + "x" + ")" * 2_000,
        "{" * 9_000,
        " or ".join("x" * 3_000),
        "x" * 100_000,
        '"' + "a" * 100_000 + '"',
        "1" + " + 1" * 30_000,
        "x" + " offset 5m" * 3_000,
        "x" + " @ 1" * 3_000,
    ],
    ids=lambda query: query[:12],
)
def test_what_would_overflow_the_parsers_stack_is_refused(query: str) -> None:
    _refusal(query)


def test_the_bounds_say_what_they_are() -> None:
    assert str(MAX_LENGTH) in str(_refusal("x" * (MAX_LENGTH + 1)))
    assert f"deeper than {MAX_DEPTH}" in str(_refusal("(" * 65 + "1" + ")" * 65))
    assert f"more than {MAX_OPERATORS} operators" in str(_refusal("1" + "+1" * 201))


def _everything_at_its_bound() -> str:
    inner = "abs(" * MAX_DEPTH + "x" + ")" * MAX_DEPTH
    return inner + " + 1" * MAX_OPERATORS


@pytest.mark.parametrize(
    "query",
    [
        _everything_at_its_bound(),
        "1 + (" * MAX_DEPTH + "1" + ")" * MAX_DEPTH,
        "sum(" * MAX_DEPTH + "x" + ")" * MAX_DEPTH,
        "-" * MAX_OPERATORS + "x",
        "1 ^ " * MAX_OPERATORS + "1",
        "x or " * MAX_OPERATORS + "x",
        "max_over_time(" * 30 + "x" + "[5m:1m])" * 30,
    ],
    ids=lambda query: query[:12],
)
def test_what_is_within_the_bounds_is_answered_even_on_a_small_stack(query: str) -> None:
    source = Memory()
    source.add({"__name__": "x"}, [0], [1.0])
    answers: list[object] = []
    old = threading.stack_size(512 * 1024)
    try:
        worker = threading.Thread(target=lambda: answers.append(instant(source, query, 0)))
        worker.start()
        worker.join()
    finally:
        threading.stack_size(old)
    assert len(answers) == 1


def test_brackets_and_operators_in_strings_and_comments_do_not_count() -> None:
    plan('x{a="' + "(((+" * 1_000 + '"} # ' + "((((" * 1_000)


def test_a_panic_of_the_parser_is_a_query_error() -> None:
    class PanicException(BaseException):
        pass

    with pytest.raises(QueryError), mapped("x"):
        raise PanicException


def test_an_interrupt_stays_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), mapped("x"):
        raise KeyboardInterrupt


def test_a_negative_moment_is_no_panic() -> None:
    parsed = parse("x @ -10.5 + x @ 1e3 + x @ +0x10")
    assert [parsed.moment(place) for place in range(3)] == [-10_500, 1_000_000, 16_000]


def test_errors_tell_line_and_column() -> None:
    assert str(_refusal("1 +\n  nosuch(x)")).startswith("2:3: parse error: unknown function")


@pytest.mark.parametrize("query", ["\x00", "x\x00", "x{a=\x00}", "\ue0000", "é", "x{é='1'}"])
def test_odd_characters_are_refused_with_their_place(query: str) -> None:
    assert "unexpected character" in str(_refusal(query))


def test_a_private_use_character_in_a_string_is_only_itself() -> None:
    source = Memory()
    source.add({"__name__": "x", "a": "\ue0000"}, [0], [1.0])
    result = instant(source, 'x{a="\ue0000"} and on() label_replace(x, "b", "c", "", "")', 0)
    assert [dict(each.labels)["a"] for each in result.data if not isinstance(each, str)] == [
        "\ue0000"
    ]


def test_tokens_are_cut_in_one_pass_over_the_text() -> None:
    assert [token.text for token in tokens('x:y{a=~"b"}[5m:30s] # end')] == [
        "x:y", "{", "a", "=~", '"b"', "}", "[", "5m", ":", "30s", "]",
    ]  # fmt: skip


def test_a_regex_that_would_backtrack_is_answered_at_once() -> None:
    source = Memory()
    source.add({"__name__": "x", "a": "a" * 40}, [0], [1.0])
    assert instant(source, 'x{a=~"(a+)+b"}', 0).data == ()
