"""Bounds a query's length, nesting and operators, rewrites it for promql-parser, maps its errors.

promql-parser overflows the stack on deep nesting (which ends the process), takes durations and
`@` times only within datetime's range, unescapes back quotes wrongly, and checks regexes with
another engine. So it gets a rewritten text: strings are replaced by placeholders, `@` times and
offsets by indices into tables, and all are looked up again when the tree is read.

Checks of a string's content are made when the tree is read (plan.py), never by the parser, which
sees placeholders. It refuses a selector all of whose matchers seem to match the empty string:
a matcher that does not (SENTINEL_VALUE) is put into each pair of braces, and removed by plan.py.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from meterd.promql.durations import LONGEST_MS, milliseconds
from meterd.promql.error_position import find_syntax_error
from meterd.promql.lexer import Token, parse_error, tokenize, unquote
from meterd.promql.result import PromErrorType, QueryError

MAX_LENGTH = 32_768  # characters of a query
MAX_DEPTH = 64  # brackets within brackets
MAX_OPERATORS = 200  # binary and unary: a chain of n operators is a tree n deep
MAX_TIME_MS = 1 << 53  # beyond it a float64 does not hold every millisecond

_PLACEHOLDER_PREFIX = (
    "\ue000"  # private use: stands before a string's number; queries cannot bring it in
)
SENTINEL_VALUE = "\ue001"  # the value of the matcher that is put into each pair of braces
_SENTINEL_MATCHER = f'__given__="{SENTINEL_VALUE}"'
_PLACEHOLDER = re.compile(_PLACEHOLDER_PREFIX + r"(\d+)")
# The message where the parser reports neither a cause nor a position.
_NO_POSITION = "parse error: syntax error: these words and signs make no expression in this order"
_OCTAL = re.compile(r"0[0-7]+")  # as Go reads whole numbers
_CLOSING_BRACKET = {"(": ")", "[": "]", "{": "}"}
_BRACKET_NAMES = {"(": "parenthesis", "[": "bracket", "{": "brace"}
_OPERATORS = frozenset(
    ["+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">=", "<=", "and", "or", "unless", "atan2"]
)
_MATCH_OPERATORS = ("=", "!=", "=~", "!~")
_TYPE_NAME = re.compile(r"(?<= )(type|got:?|on|or) (matrix|vector)\b")
_TYPE_NAMES = {"matrix": "range vector", "vector": "instant vector"}


@dataclass(frozen=True, slots=True)
class Parsed:
    """promql-parser's tree, and the values of its placeholders: strings, `@` times, offsets."""

    query: str
    tree: Any
    texts: tuple[str, ...]
    moments: tuple[float, ...]
    offsets: tuple[int, ...]

    def text(self, text: str) -> str:
        """The string that a placeholder stands for; any other text unchanged."""
        match = _PLACEHOLDER.fullmatch(text)
        return self.texts[int(match[1])] if match else text

    def moment(self, index: int) -> int:
        """An `@` time in ms, rounded as in Prometheus. Raises QueryError beyond MAX_TIME_MS."""
        seconds = self.moments[index]
        if not math.isfinite(seconds) or abs(seconds) * 1000 > MAX_TIME_MS:
            raise parse_error(self.query, 0, f"timestamp out of bounds for @ modifier: {seconds}")
        return math.floor(seconds * 1000 + 0.5)

    def offset(self, index: int) -> int:
        """The `offset` in ms."""
        return self.offsets[index]


def parse(query: str) -> Parsed:
    """Parses a query within the limits above. Raises QueryError (bad_data)."""
    import promql_parser

    if len(query) > MAX_LENGTH:
        message = f"the query has {len(query)} characters, {MAX_LENGTH} are the limit"
        raise parse_error(query, MAX_LENGTH, message)
    tokens = list(tokenize(query))
    if not tokens:
        raise QueryError(
            PromErrorType.BAD_DATA, "unknown position: parse error: no expression found in input"
        )
    _check_limits(query, tokens)
    parser_input = _ParserInput(query)
    with mapped_errors(query):
        text = parser_input.clean(tokens)
    texts = tuple(parser_input.texts)
    try:
        with mapped_errors(query, texts):
            tree = promql_parser.parse(text)
    except QueryError as error:
        positioned = find_syntax_error(query, tokens) if str(error) == _NO_POSITION else None
        raise positioned or error from error
    return Parsed(query, tree, texts, tuple(parser_input.moments), tuple(parser_input.offsets))


@contextmanager
def mapped_errors(query: str, texts: tuple[str, ...] = ()) -> Iterator[None]:
    """Maps what promql-parser raises to QueryError with Prometheus' messages.

    Reading its tree may panic in Rust: pyo3's PanicException is a BaseException, no Exception.
    """
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise _locate_error(
            query, _PLACEHOLDER.sub(lambda match: texts[int(match[1])], str(error))
        ) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise QueryError(
            PromErrorType.BAD_DATA, "parse error: a number in it is out of bounds"
        ) from error


def _locate_error(query: str, text: str) -> QueryError:
    """The parser's message as Prometheus words it, with the position of the function it names."""
    message = re.sub(r"'([^']*)'", r'"\1"', text)
    message = _TYPE_NAME.sub(lambda match: f"{match[1]} {_TYPE_NAMES[match[2]]}", message)
    if message == "invalid promql query":
        return QueryError(PromErrorType.BAD_DATA, _NO_POSITION)
    function = re.search(r'function (?:with name )?"([\w:]+)"', message)
    position = function and re.search(rf"\b{re.escape(function[1])}\b", query)
    if position:
        return parse_error(query, position.start(), message)
    return QueryError(PromErrorType.BAD_DATA, f"parse error: {message}")


def _check_limits(query: str, tokens: list[Token]) -> None:
    opened: list[str] = []
    operators = 0
    for token in tokens:
        operators += token.kind in ("mark", "word") and token.text.lower() in _OPERATORS
        if token.kind == "mark":
            _check_brackets(query, token, opened)
        if len(opened) > MAX_DEPTH:
            message = f"brackets are nested deeper than {MAX_DEPTH}"
            raise parse_error(query, token.at, message)
        if operators > MAX_OPERATORS:
            raise parse_error(query, token.at, f"more than {MAX_OPERATORS} operators")
    if opened:
        raise parse_error(query, len(query), f"unclosed left {_BRACKET_NAMES[opened[-1]]}")


def _check_brackets(query: str, token: Token, opened: list[str]) -> None:
    if token.text in _CLOSING_BRACKET:
        opened.append(token.text)
    elif token.text in ")]}":
        if not opened or _CLOSING_BRACKET[opened[-1]] != token.text:
            name = next(_BRACKET_NAMES[o] for o, c in _CLOSING_BRACKET.items() if c == token.text)
            raise parse_error(query, token.at, f"unexpected right {name} {token.text!r}")
        opened.pop()


class _ParserInput:
    """Rewrites tokens for the parser; tables take strings, `@` times (s) and offsets (ms)."""

    def __init__(self, query: str) -> None:
        self._query = query
        self.texts: list[str] = []
        self.moments: list[float] = []
        self.offsets: list[int] = []

    def clean(self, tokens: list[Token]) -> str:
        words: list[str] = []
        index = 0
        while index < len(tokens):
            words.append(self._or_label(tokens, index) or self._word(tokens[index]))
            if tokens[index].text == "{":
                is_empty = index + 1 < len(tokens) and tokens[index + 1].text == "}"
                words.append(_SENTINEL_MATCHER if is_empty else f"{_SENTINEL_MATCHER},")
            if tokens[index].text in ("[", ":"):
                self._check_range(tokens, index + 1)
            index = self._modifier(tokens, index, words)
        return " ".join(words)

    def _or_label(self, tokens: list[Token], index: int) -> str:
        """A placeholder for a label named `or`, an operator to the parser; else the empty text."""
        if tokens[index].text.lower() != "or" or index + 1 == len(tokens):
            return ""
        return (
            self._placeholder(tokens[index].text)
            if tokens[index + 1].text in _MATCH_OPERATORS
            else ""
        )

    def _placeholder(self, text: str) -> str:
        self.texts.append(text)
        return f'"{_PLACEHOLDER_PREFIX}{len(self.texts) - 1}"'

    def _check_range(self, tokens: list[Token], place: int) -> None:
        """Refuses a range or step beyond LONGEST_MS: the parser panics where seconds overflow."""
        number, _ = _signed_number(tokens, place)
        if number is not None and not abs(number) * 1000 <= LONGEST_MS:
            raise parse_error(self._query, tokens[place].at, "duration out of range")

    def _modifier(self, tokens: list[Token], index: int, words: list[str]) -> int:
        """Moves the number after `@` or `offset` into its table; returns the next token's index."""
        name, next_index = tokens[index].text.lower(), index + 1
        if name not in ("@", "offset"):
            return next_index
        number, end = _signed_number(tokens, next_index)
        if number is None:
            return next_index
        if name == "@":
            self.moments.append(number)
            words.append(str(len(self.moments) - 1))
            return end
        if not abs(number) * 1000 <= LONGEST_MS:
            raise parse_error(self._query, tokens[next_index].at, "duration out of range")
        # The index + 1, so never 0: the parser refuses an offset of 0, Prometheus 3 allows it.
        self.offsets.append(round(number * 1000))
        words.append(f"{len(self.offsets)}ms")
        return end

    def _word(self, token: Token) -> str:
        if token.kind == "text":
            return self._placeholder(unquote(self._query, token))
        if token.kind == "number":
            digits = token.text.replace("_", "")
            return str(int(digits, 8)) if _OCTAL.fullmatch(digits) else digits
        return token.text


def _signed_number(tokens: list[Token], start: int) -> tuple[float | None, int]:
    """The signed number or duration (s) at `start`, or None, and the index after it."""
    sign, index = 1.0, start
    while index < len(tokens) and tokens[index].text in ("+", "-"):
        sign = -sign if tokens[index].text == "-" else sign
        index += 1
    if index >= len(tokens):
        return None, start
    token = tokens[index]
    word = token.text.replace("_", "").lower()
    if token.kind == "number":
        return sign * (float(int(word, 16)) if word.startswith("0x") else float(word)), index + 1
    if token.kind == "length":
        return sign * milliseconds(word) / 1000, index + 1
    if token.kind == "word" and word in ("inf", "nan"):
        return sign * float(word), index + 1
    return None, start
