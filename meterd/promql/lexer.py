"""Lexer for PromQL: words, strings, numbers, durations and punctuation of a query.

One pass and no recursion: input_limits.py bounds nesting and operators on the tokens, before
promql-parser, which overflows the stack on deep nesting, gets the text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from meterd.promql.result import PromErrorType, QueryError

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|\#[^\n]*)
    | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
    | (?P<open_text>["'`])
    | (?P<number>(?:0[xX][0-9a-fA-F_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?)(?![\w.]))
    | (?P<length>\d\w*)
    | (?P<word>[A-Za-z_][A-Za-z0-9_:]*|:[A-Za-z_:][A-Za-z0-9_:]*)
    | (?P<mark>==|!=|=~|!~|>=|<=|[-+*/%^<>=@,:(){}\[\]])
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL
)
# Go's single-character escapes and their bytes.
_SIMPLE_ESCAPES = {
    "a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Token:
    """A token at offset `at`; kind: text (string), number, length (duration), word, mark."""

    kind: str
    text: str
    at: int


def parse_error(query: str, at: int, message: str) -> QueryError:
    """A bad_data error at a character offset, as Prometheus writes it: line and column from 1."""
    line = query.count("\n", 0, at) + 1
    column = at - query.rfind("\n", 0, at)
    return QueryError(PromErrorType.BAD_DATA, f"{line}:{column}: parse error: {message}")


def tokenize(query: str) -> Iterator[Token]:
    """The tokens without white space and comments. Raises QueryError (bad_data)."""
    at = 0
    while at < len(query):
        match = _TOKEN.match(query, at)
        if match is None:
            raise parse_error(query, at, f"unexpected character: {_quoted(query[at])}")
        kind = match.lastgroup or ""
        if kind == "open_text":
            raise parse_error(query, at, "unterminated quoted string")
        if kind != "space":
            yield Token(kind, match[0], at)
        at = match.end()


def _quoted(character: str) -> str:
    return f"'{character}'" if character.isprintable() else f"U+{ord(character):04X}"


def unquote(query: str, token: Token) -> str:
    """The value of a string literal, with Go's escapes; none within back quotes.

    Raises QueryError (bad_data) for an unknown escape and for bytes that are not UTF-8.
    """
    body = token.text[1:-1]
    if token.text[0] == "`":
        return body
    parts: list[bytes] = []
    last = 0
    for match in _ESCAPE.finditer(body):
        parts += (body[last : match.start()].encode("utf-8", "surrogatepass"), _escape(match))
        if not parts[-1]:
            raise parse_error(query, token.at, f"unknown escape sequence {match[0]!r}")
        last = match.end()
    parts.append(body[last:].encode("utf-8", "surrogatepass"))
    try:
        return b"".join(parts).decode("utf-8")
    except UnicodeDecodeError as error:
        raise parse_error(query, token.at, "invalid UTF-8 in quoted string") from error


def _escape(match: re.Match[str]) -> bytes:
    """The bytes of one escape sequence; empty where it is unknown."""
    byte, short, long, octal, simple = match.groups()
    if byte:
        return bytes([int(byte, 16)])
    if octal:
        return bytes([int(octal, 8)]) if int(octal, 8) < 256 else b""
    if short or long:
        code = int(short or long, 16)
        return chr(code).encode("utf-8", "replace") if code <= 0x10FFFF else b""
    return bytes([_SIMPLE_ESCAPES[simple]]) if simple in _SIMPLE_ESCAPES else b""
