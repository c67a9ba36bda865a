"""Where a query that the parser refused ceases to be an expression: it does not say so itself.

    sum by (a) x      values and operators take turns; a second value in a row is out of place
               ^
Whether a query is right is the parser's business: this is asked only when it said no.
"""

from collections.abc import Sequence

from meterd.promql.lexer import Token, parse_error
from meterd.promql.result import QueryError

_OPERATORS = frozenset(["and", "or", "unless", "atan2"])
_MARKS = frozenset(["+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">=", "<="])
_SIGNS = ("+", "-")
_CLOSER = {"(": ")", "{": "}", "[": "]"}
_MATCHING = frozenset(["on", "ignoring", "group_left", "group_right"])
_GROUPING = frozenset(["by", "without"])
_KINDS = {"word": "identifier", "text": "string", "number": "number", "length": "duration"}


def astray(query: str, pieces: Sequence[Token]) -> QueryError | None:
    """The complaint about the first piece that cannot stand where it does; None: all may."""
    place = _TokenReader(pieces).first_wrong()
    if place is None:
        return None
    if place == len(pieces):
        return parse_error(query, len(query), "unexpected end of input")
    return parse_error(query, pieces[place].at, f"unexpected {_described(pieces[place])}")


def _described(piece: Token) -> str:
    word = piece.text.lower()
    if word in _MARKS | _OPERATORS:
        return f"<op:{piece.text}>"
    if word in _MATCHING | _GROUPING | {"bool", "offset"}:
        return f"<{word}>"
    quoted = piece.text.replace("\\", "\\\\").replace('"', '\\"')
    return f'{_KINDS[piece.kind]} "{quoted}"' if piece.kind in _KINDS else f'"{quoted}"'


class _TokenReader:
    """Goes from value to operator to value; `_at` is the piece that is looked at."""

    def __init__(self, pieces: Sequence[Token]) -> None:
        self._pieces = pieces
        self._at = 0
        self._opened = 0
        self._is_grouped = False  # right behind the list of a `by` or `without`

    def first_wrong(self) -> int | None:
        """The place of the first piece that is wrong; that after the last where one lacks."""
        wants_value = True
        while self._at < len(self._pieces):
            step = self._value() if wants_value else self._after_value()
            if step is None:
                return self._at
            wants_value = step
        return self._at if wants_value else None

    def _text(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._pieces[at].text.lower() if at < len(self._pieces) else ""

    def _value(self) -> bool | None:
        """One piece where a value has to stand: whether one is still wanted; None: wrong."""
        text, kind = self._text(), self._pieces[self._at].kind
        if text in _SIGNS:
            self._at += 1
            return True
        if text == "(":
            self._open()
            return True
        if text == "{":
            self._skip_brackets()
            return False
        if text == ")" and self._opened and self._text(-1) == "(" and self._at >= 2:
            return self._close()
        if kind == "mark" or text in _OPERATORS | _MATCHING or text == "bool":
            return None
        self._at += 1
        return False

    def _after_value(self) -> bool | None:
        """One piece after a value: whether a value has to follow; None: it is wrong."""
        text = self._text()
        if text in _MARKS or text in _OPERATORS:
            self._operator()
            return True
        if text in (")", ","):
            return (self._close() if text == ")" else self._next()) if self._opened else None
        if text in ("{", "["):
            self._skip_brackets()
            return False
        is_named = self._pieces[self._at - 1].kind == "word" or self._is_grouped
        if text == "(" and is_named:
            self._open()
            return True
        if text in _GROUPING and self._text(1) == "(":
            self._at += 1
            self._skip_brackets()
            self._is_grouped = True
            return False
        return self._modifier(text)

    def _modifier(self, text: str) -> bool | None:
        if text not in ("offset", "@"):
            return None
        self._at += 1
        while self._text() in _SIGNS:
            self._at += 1
        if self._at == len(self._pieces) or self._pieces[self._at].kind in ("mark", "text"):
            return None
        self._at += 1
        if text == "@" and self._text() == "(":
            self._skip_brackets()
        return False

    def _operator(self) -> None:
        """An operator with what may belong to it: bool, on (…), group_left (…)."""
        self._at += 1
        while self._text() in _MATCHING or self._text() == "bool":
            self._at += 1
            if self._text() == "(" and self._text(-1) != "bool":
                self._skip_brackets()

    def _open(self) -> None:
        self._opened += 1
        self._is_grouped = False
        self._at += 1

    def _close(self) -> bool:
        self._opened -= 1
        self._at += 1
        return False

    def _next(self) -> bool:
        self._at += 1
        return True

    def _skip_brackets(self) -> None:
        """Beyond the bracket that closes the one here; what is inside is not looked at."""
        closer, opener, depth = _CLOSER[self._text()], self._text(), 0
        while self._at < len(self._pieces):
            depth += (self._text() == opener) - (self._text() == closer)
            self._at += 1
            if not depth:
                return
