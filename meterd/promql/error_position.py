"""Finds the position of a syntax error in a query that promql-parser refused without one.

    sum by (a) x      operands and operators alternate; a second operand in a row is unexpected
               ^
It does not decide whether a query is valid: only the parser does.
"""

from collections.abc import Sequence

from meterd.promql.lexer import Token, parse_error
from meterd.promql.result import QueryError

_OPERATORS = frozenset(["and", "or", "unless", "atan2"])
_OPERATOR_MARKS = frozenset(["+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">=", "<="])
_SIGNS = ("+", "-")
_CLOSING_BRACKET = {"(": ")", "{": "}", "[": "]"}
_MATCHING = frozenset(["on", "ignoring", "group_left", "group_right"])
_GROUPING = frozenset(["by", "without"])
_KINDS = {"word": "identifier", "text": "string", "number": "number", "length": "duration"}


def find_syntax_error(query: str, tokens: Sequence[Token]) -> QueryError | None:
    """The parse error at the first token that is unexpected; None where this grammar finds none."""
    index = _TokenReader(tokens).first_misplaced()
    if index is None:
        return None
    if index == len(tokens):
        return parse_error(query, len(query), "unexpected end of input")
    return parse_error(query, tokens[index].at, f"unexpected {_describe(tokens[index])}")


def _describe(token: Token) -> str:
    word = token.text.lower()
    if word in _OPERATOR_MARKS | _OPERATORS:
        return f"<op:{token.text}>"
    if word in _MATCHING | _GROUPING | {"bool", "offset"}:
        return f"<{word}>"
    quoted = token.text.replace("\\", "\\\\").replace('"', '\\"')
    return f'{_KINDS[token.kind]} "{quoted}"' if token.kind in _KINDS else f'"{quoted}"'


class _TokenReader:
    """A reader that alternates between operands and operators; `_index` is the current token."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._index = 0
        self._depth = 0
        self._is_grouped = False  # directly after the label list of `by` or `without`

    def first_misplaced(self) -> int | None:
        """The index of the first unexpected token; len(tokens) if the last operand is missing."""
        wants_value = True
        while self._index < len(self._tokens):
            needs_value = self._value() if wants_value else self._after_value()
            if needs_value is None:
                return self._index
            wants_value = needs_value
        return self._index if wants_value else None

    def _text(self, ahead: int = 0) -> str:
        index = self._index + ahead
        return self._tokens[index].text.lower() if index < len(self._tokens) else ""

    def _value(self) -> bool | None:
        """Reads a token of an operand; whether an operand must follow, None if it is unexpected."""
        word, kind = self._text(), self._tokens[self._index].kind
        if word in _SIGNS:
            self._index += 1
            return True
        if word == "(":
            self._open()
            return True
        if word == "{":
            self._skip_brackets()
            return False
        if word == ")" and self._depth and self._text(-1) == "(" and self._index >= 2:
            return self._close()
        if kind == "mark" or word in _OPERATORS | _MATCHING or word == "bool":
            return None
        self._index += 1
        return False

    def _after_value(self) -> bool | None:
        """Reads a token after an operand; whether an operand must follow, None if unexpected."""
        word = self._text()
        if word in _OPERATOR_MARKS or word in _OPERATORS:
            self._operator()
            return True
        if word in (")", ","):
            return (self._close() if word == ")" else self._skip_comma()) if self._depth else None
        if word in ("{", "["):
            self._skip_brackets()
            return False
        is_named = self._tokens[self._index - 1].kind == "word" or self._is_grouped
        if word == "(" and is_named:
            self._open()
            return True
        if word in _GROUPING and self._text(1) == "(":
            self._index += 1
            self._skip_brackets()
            self._is_grouped = True
            return False
        return self._modifier(word)

    def _modifier(self, word: str) -> bool | None:
        if word not in ("offset", "@"):
            return None
        self._index += 1
        while self._text() in _SIGNS:
            self._index += 1
        if self._index == len(self._tokens) or self._tokens[self._index].kind in ("mark", "text"):
            return None
        self._index += 1
        if word == "@" and self._text() == "(":
            self._skip_brackets()
        return False

    def _operator(self) -> None:
        """Reads an operator and its modifiers: bool, on (…), ignoring (…), group_left (…)."""
        self._index += 1
        while self._text() in _MATCHING or self._text() == "bool":
            self._index += 1
            if self._text() == "(" and self._text(-1) != "bool":
                self._skip_brackets()

    def _open(self) -> None:
        self._depth += 1
        self._is_grouped = False
        self._index += 1

    def _close(self) -> bool:
        self._depth -= 1
        self._index += 1
        return False

    def _skip_comma(self) -> bool:
        self._index += 1
        return True

    def _skip_brackets(self) -> None:
        """Moves past the bracket that closes the current one; the content is not checked."""
        closer, opener, depth = _CLOSING_BRACKET[self._text()], self._text(), 0
        while self._index < len(self._tokens):
            depth += (self._text() == opener) - (self._text() == closer)
            self._index += 1
            if not depth:
                return
