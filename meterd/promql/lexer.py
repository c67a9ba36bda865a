"""Words, strings, numbers and marks of a query, cut before any parser sees it.

The cutting costs one pass and no recursion, so that a bound on depth and operators is known to
hold before the real parser, which dies of deep nesting, gets the text.
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
_SIMPLE = {
    "a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the query; kind is text, number, length, word or mark; `at` its place."""

    kind: str
    text: str
    at: int


def parse_error(query: str, at: int, what: str) -> QueryError:
    """Prometheus' way to say where: line and column from 1."""
    line = query.count("\n", 0, at) + 1
    column = at - query.rfind("\n", 0, at)
    return QueryError(PromErrorType.BAD_DATA, f"{line}:{column}: parse error: {what}")


def tokens(query: str) -> Iterator[Token]:
    """The pieces without blanks and comments. Raises QueryError at what can be none."""
    at = 0
    while at < len(query):
        found = _TOKEN.match(query, at)
        if found is None:
            raise parse_error(query, at, f"unexpected character: {_quoted(query[at])}")
        kind = found.lastgroup or ""
        if kind == "open_text":
            raise parse_error(query, at, "unterminated quoted string")
        if kind != "space":
            yield Token(kind, found[0], at)
        at = found.end()


def _quoted(character: str) -> str:
    return f"'{character}'" if character.isprintable() else f"U+{ord(character):04X}"


def unquote(query: str, token: Token) -> str:
    """What a string literal says, with Go's escapes; back quotes take no escapes.

    Raises QueryError for an unknown escape and for bytes that are no UTF-8.
    """
    body = token.text[1:-1]
    if token.text[0] == "`":
        return body
    parts: list[bytes] = []
    last = 0
    for found in _ESCAPE.finditer(body):
        parts += (body[last : found.start()].encode("utf-8", "surrogatepass"), _escape(found))
        if not parts[-1]:
            raise parse_error(query, token.at, f"unknown escape sequence {found[0]!r}")
        last = found.end()
    parts.append(body[last:].encode("utf-8", "surrogatepass"))
    try:
        return b"".join(parts).decode("utf-8")
    except UnicodeDecodeError as error:
        raise parse_error(query, token.at, "invalid UTF-8 in quoted string") from error


def _escape(found: re.Match[str]) -> bytes:
    """The bytes of one escape; none where it is unknown."""
    byte, short, long, octal, simple = found.groups()
    if byte:
        return bytes([int(byte, 16)])
    if octal:
        return bytes([int(octal, 8)]) if int(octal, 8) < 256 else b""
    if short or long:
        code = int(short or long, 16)
        return chr(code).encode("utf-8", "replace") if code <= 0x10FFFF else b""
    return bytes([_SIMPLE[simple]]) if simple in _SIMPLE else b""
