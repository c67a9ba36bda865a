"""Between people's queries and the parser: bounds first, every one of its errors mapped after.

promql-parser overflows the stack on deep nesting (which ends the process), takes durations and
`@` times only as far as datetime goes, reads back quotes wrongly, and checks regexes by another
engine. So it gets a cleaned text: strings are replaced by place holders, `@` times and offsets by
numbers of places in a table, and all are looked up again when the tree is read.

Whatever is judged by what a string says is judged when the tree is read (plan), never by the
parser, which sees place holders. It refuses a selector of which it believes that every matcher
takes the empty text: a matcher that surely does not (GIVEN) stands in each pair of braces, and is
taken out again.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from meterd.promql.durations import LONGEST_MS, milliseconds
from meterd.promql.error_position import astray
from meterd.promql.lexer import Token, parse_error, tokens, unquote
from meterd.promql.result import PromErrorType, QueryError

MAX_LENGTH = 32_768  # characters of a query
MAX_DEPTH = 64  # brackets within brackets
MAX_OPERATORS = 200  # binary and unary ones; a chain of them is as deep as it is long
MAX_TIME_MS = 1 << 53  # times, offsets and ranges beyond it are no whole milliseconds

_PLACE = "\ue000"  # private use: stands before a string's number; queries cannot bring it in
GIVEN = "\ue001"  # the value of the matcher that is put into each pair of braces
_GIVEN_MATCHER = f'__given__="{GIVEN}"'
_HELD = re.compile(_PLACE + r"(\d+)")
# What is left to say where the parser says no more than no.
_VAGUE = "parse error: syntax error: these words and signs make no expression in this order"
_OCTAL = re.compile(r"0[0-7]+")  # as Go reads whole numbers
_CLOSER = {"(": ")", "[": "]", "{": "}"}
_BRACKET = {"(": "parenthesis", "[": "bracket", "{": "brace"}
_OPERATORS = frozenset(
    ["+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">=", "<=", "and", "or", "unless", "atan2"]
)
_MATCH = ("=", "!=", "=~", "!~")
_TYPE = re.compile(r"(?<= )(type|got:?|on|or) (matrix|vector)\b")
_TYPES = {"matrix": "range vector", "vector": "instant vector"}


@dataclass(frozen=True, slots=True)
class Parsed:
    """promql-parser's tree, and what the place holders in it stand for."""

    query: str
    tree: Any
    texts: tuple[str, ...]
    moments: tuple[float, ...]
    offsets: tuple[int, ...]

    def text(self, held: str) -> str:
        """The text itself for a place holder, anything else as it is."""
        found = _HELD.fullmatch(held)
        return self.texts[int(found[1])] if found else held

    def moment(self, place: int) -> int:
        """The ms of an `@`, rounded as Prometheus does. Raises QueryError beyond what fits."""
        seconds = self.moments[place]
        if not math.isfinite(seconds) or abs(seconds) * 1000 > MAX_TIME_MS:
            raise parse_error(self.query, 0, f"timestamp out of bounds for @ modifier: {seconds}")
        return math.floor(seconds * 1000 + 0.5)

    def offset(self, place: int) -> int:
        """The ms of an `offset`."""
        return self.offsets[place]


def parse(query: str) -> Parsed:
    """The tree of a query that is short, shallow and well formed. Raises QueryError (bad_data)."""
    import promql_parser

    if len(query) > MAX_LENGTH:
        what = f"the query has {len(query)} characters, {MAX_LENGTH} are the limit"
        raise parse_error(query, MAX_LENGTH, what)
    pieces = list(tokens(query))
    if not pieces:
        raise QueryError(
            PromErrorType.BAD_DATA, "unknown position: parse error: no expression found in input"
        )
    _bound(query, pieces)
    cleaned = _Cleaned(query)
    with mapped(query):
        text = cleaned.of(pieces)
    texts = tuple(cleaned.texts)
    try:
        with mapped(query, texts):
            tree = promql_parser.parse(text)
    except QueryError as error:
        found = astray(query, pieces) if str(error) == _VAGUE else None
        raise found or error from error
    return Parsed(query, tree, texts, tuple(cleaned.moments), tuple(cleaned.offsets))


@contextmanager
def mapped(query: str, texts: tuple[str, ...] = ()) -> Iterator[None]:
    """Everything promql-parser raises becomes a QueryError with Prometheus' words.

    Reading its tree may panic in Rust, which arrives as a BaseException that is no Exception.
    """
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise _located(query, _HELD.sub(lambda held: texts[int(held[1])], str(error))) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise QueryError(
            PromErrorType.BAD_DATA, "parse error: a number in it is out of bounds"
        ) from error


def _located(query: str, text: str) -> QueryError:
    """A parser's complaint in Prometheus' words, with the place of the name it is about."""
    what = re.sub(r"'([^']*)'", r'"\1"', text)
    what = _TYPE.sub(lambda found: f"{found[1]} {_TYPES[found[2]]}", what)
    if what == "invalid promql query":
        return QueryError(PromErrorType.BAD_DATA, _VAGUE)
    named = re.search(r'function (?:with name )?"([\w:]+)"', what)
    places = named and re.search(rf"\b{re.escape(named[1])}\b", query)
    if places:
        return parse_error(query, places.start(), what)
    return QueryError(PromErrorType.BAD_DATA, f"parse error: {what}")


def _bound(query: str, pieces: list[Token]) -> None:
    opened: list[str] = []
    operators = 0
    for piece in pieces:
        operators += piece.kind in ("mark", "word") and piece.text.lower() in _OPERATORS
        if piece.kind == "mark":
            _nest(query, piece, opened)
        if len(opened) > MAX_DEPTH:
            what = f"brackets are nested deeper than {MAX_DEPTH}"
            raise parse_error(query, piece.at, what)
        if operators > MAX_OPERATORS:
            raise parse_error(query, piece.at, f"more than {MAX_OPERATORS} operators")
    if opened:
        raise parse_error(query, len(query), f"unclosed left {_BRACKET[opened[-1]]}")


def _nest(query: str, piece: Token, opened: list[str]) -> None:
    if piece.text in _CLOSER:
        opened.append(piece.text)
    elif piece.text in ")]}":
        if not opened or _CLOSER[opened[-1]] != piece.text:
            kind = next(_BRACKET[o] for o, c in _CLOSER.items() if c == piece.text)
            raise parse_error(query, piece.at, f"unexpected right {kind} {piece.text!r}")
        opened.pop()


class _Cleaned:
    """The text for the parser, while strings, `@` times and offsets are put into tables."""

    def __init__(self, query: str) -> None:
        self._query = query
        self.texts: list[str] = []
        self.moments: list[float] = []
        self.offsets: list[int] = []

    def of(self, pieces: list[Token]) -> str:
        words: list[str] = []
        place = 0
        while place < len(pieces):
            words.append(self._label_or(pieces, place) or self._word(pieces[place]))
            if pieces[place].text == "{":
                is_empty = place + 1 < len(pieces) and pieces[place + 1].text == "}"
                words.append(_GIVEN_MATCHER if is_empty else f"{_GIVEN_MATCHER},")
            if pieces[place].text in ("[", ":"):
                self._need_in_reach(pieces, place + 1)
            place = self._modifier(pieces, place, words)
        return " ".join(words)

    def _label_or(self, pieces: list[Token], place: int) -> str:
        """A label with the name `or`, which the parser takes for the operator; else nothing."""
        if pieces[place].text.lower() != "or" or place + 1 == len(pieces):
            return ""
        return self._held(pieces[place].text) if pieces[place + 1].text in _MATCH else ""

    def _held(self, text: str) -> str:
        self.texts.append(text)
        return f'"{_PLACE}{len(self.texts) - 1}"'

    def _need_in_reach(self, pieces: list[Token], place: int) -> None:
        """The parser's clock panics at seconds that it cannot hold."""
        number, _ = _signed(pieces, place)
        if number is not None and not abs(number) * 1000 <= LONGEST_MS:
            raise parse_error(self._query, pieces[place].at, "duration out of range")

    def _modifier(self, pieces: list[Token], place: int, words: list[str]) -> int:
        """Takes the number after an @ or an offset; gives the next place."""
        name, after = pieces[place].text.lower(), place + 1
        if name not in ("@", "offset"):
            return after
        number, beyond = _signed(pieces, after)
        if number is None:
            return after
        if name == "@":
            self.moments.append(number)
            words.append(str(len(self.moments) - 1))
            return beyond
        if not abs(number) * 1000 <= LONGEST_MS:
            raise parse_error(self._query, pieces[after].at, "duration out of range")
        # Never 0, which the parser refuses and Prometheus 3 allows.
        self.offsets.append(round(number * 1000))
        words.append(f"{len(self.offsets)}ms")
        return beyond

    def _word(self, piece: Token) -> str:
        if piece.kind == "text":
            return self._held(unquote(self._query, piece))
        if piece.kind == "number":
            digits = piece.text.replace("_", "")
            return str(int(digits, 8)) if _OCTAL.fullmatch(digits) else digits
        return piece.text


def _signed(pieces: list[Token], place: int) -> tuple[float | None, int]:
    """The signed number that starts at a place, and the place after it; None if none does."""
    sign, here = 1.0, place
    while here < len(pieces) and pieces[here].text in ("+", "-"):
        sign = -sign if pieces[here].text == "-" else sign
        here += 1
    if here >= len(pieces):
        return None, place
    piece = pieces[here]
    word = piece.text.replace("_", "").lower()
    if piece.kind == "number":
        return sign * (float(int(word, 16)) if word.startswith("0x") else float(word)), here + 1
    if piece.kind == "length":
        return sign * milliseconds(word) / 1000, here + 1
    if piece.kind == "word" and word in ("inf", "nan"):
        return sign * float(word), here + 1
    return None, place
