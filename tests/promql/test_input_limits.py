"""What must never reach the parser, and what its errors become."""

import threading

import pytest

from meterd.promql.engine import QueryError, instant
from meterd.promql.input_limits import MAX_DEPTH, MAX_LENGTH, MAX_OPERATORS, mapped_errors, parse
from meterd.promql.lexer import tokenize
from meterd.promql.plan import plan
from meterd.promql.select import parse_selector
from tests.promql.memory import Memory


def _refusal(query: str) -> QueryError:
    with pytest.raises(QueryError) as caught:
        plan(query)
    assert caught.value.code == "bad_data"
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

    with pytest.raises(QueryError), mapped_errors("x"):
        raise PanicException


def test_an_interrupt_stays_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), mapped_errors("x"):
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
    assert [token.text for token in tokenize('x:y{a=~"b"}[5m:30s] # end')] == [
        "x:y", "{", "a", "=~", '"b"', "}", "[", "5m", ":", "30s", "]",
    ]  # fmt: skip


def test_a_regex_that_would_backtrack_is_answered_at_once() -> None:
    source = Memory()
    source.add({"__name__": "x", "a": "a" * 40}, [0], [1.0])
    assert instant(source, 'x{a=~"(a+)+b"}', 0).data == ()


@pytest.mark.parametrize(
    ("query", "matchers"),
    [
        ('{device!=""}', [("device", "!=", "")]),
        ('{__name__!=""}', [("__name__", "!=", "")]),
        ('{device!~".*"}', [("device", "!~", ".*")]),
        ('{"odd.name"!=""}', [("odd.name", "!=", "")]),
        ('{"volts", device!=""}', [("__name__", "=", "volts"), ("device", "!=", "")]),
        ("x{}", [("__name__", "=", "x")]),
        ('{a="\\ue001"}', [("a", "=", "\ue001")]),
        ('{__given__="b", by!=""}', [("__given__", "=", "b"), ("by", "!=", "")]),
    ],
)
def test_a_selector_has_the_matchers_that_were_written(
    query: str, matchers: list[tuple[str, str, str]]
) -> None:
    found = parse_selector(query)
    assert [(each.name, each.op, each.value) for each in found] == matchers


@pytest.mark.parametrize(
    "query",
    ["{}", '{a=""}', '{a=~".*"}', '{a!="b"}', '{a!~".+"}', '{""}', "{__name__=~`x?`}", '{a=~"|b"}'],
)
def test_a_selector_that_takes_series_without_labels_is_refused(query: str) -> None:
    assert "at least one non-empty matcher" in str(_refusal(query))


def test_words_of_the_language_are_labels_all_the_same() -> None:
    for word in ("or", "and", "offset", "by", "on", "bool", "sum", "inf"):
        assert parse_selector(f'{{{word}!=""}}')[0].name == word


def test_an_offset_of_nothing_is_one_offset() -> None:
    assert plan("x offset 0") == plan("x")
    for query in ("x offset 0 offset 0s", "1 offset 0", "sum(x) offset 0"):
        assert "offset" in str(_refusal(query))


def test_a_name_is_given_once_however_it_is_quoted() -> None:
    for query in ('x{__name__="y"}', 'x{"__name__"="y"}', "x{'__name__'!=`y`}", 'x{"y"}'):
        assert str(_refusal(query)).endswith('metric name must not be set twice: "x" or "y"')


@pytest.mark.parametrize(
    ("query", "at"),
    [("x[1e30]", 3), ("x[5m:1e30]", 6), ("x[99999999999999s]", 3), ("x offset inf", 10)],
)
def test_a_length_beyond_all_bounds_never_meets_the_parser(
    query: str, at: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert str(_refusal(query)) == f"1:{at}: parse error: duration out of range"
    assert capfd.readouterr().err == ""
