"""YAML text as a tree with the position of each key and value.

It is built from ruamel's parser events, not by its constructor: so all duplicate keys are
reported, limits apply before memory is allocated, and plain scalars are resolved by YAML
1.2's core schema and nothing else (no octal 010, no dates, no sexagesimal 22:30).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from meterd.config.codes import Code
from meterd.config.problems import FilePosition, Problems, excerpt

MAX_DEPTH = 32
# An alias counts as many values as its anchor has. Where none is used a text has fewer values than
# characters, and so a large file is not refused by how many it has.
MAX_VALUES = 50_000

Value: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value. `source` describes where it comes from, if not from this file."""

    place: FilePosition
    value: Value
    source: str = ""
    size: int = 1


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    place: FilePosition
    nodes: tuple["Node", ...]
    size: int = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """The value of one key of a mapping; `place` is the key's position."""

    place: FilePosition
    node: "Node"


@dataclass(frozen=True, slots=True)
class Keys:
    """A mapping; keys are texts as written, never numbers or booleans."""

    place: FilePosition
    entries: dict[str, Entry]
    size: int = 1


Node: TypeAlias = Scalar | Items | Keys


UNKNOWN = "what is not known"
"""The source of a value that could not be read, which is reported as one problem only."""


def is_unknown(node: Node) -> bool:
    """Whether the value could not be read, which is reported already."""
    return isinstance(node, Scalar) and node.source == UNKNOWN


def plain(node: Node) -> Any:
    """The node as dicts, lists and values."""
    if isinstance(node, Keys):
        return {key: plain(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, Items):
        return [plain(item) for item in node.nodes]
    return node.value


def compose(text: str, problems: Problems) -> Node | None:
    """The tree of the text; None where it is empty. Raises ConfigError where it is no YAML."""
    try:
        return _Composer(text, problems).document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = FilePosition(mark.line + 1, mark.column + 1) if mark else FilePosition(1, 1)
        what = f"this is not YAML: {error.problem or error.context or 'it cannot be read'}"
        problems.add(Code.SYNTAX, place, what, _syntax_hint(text, place, what))
    except (YAMLError, ValueError, OverflowError, AssertionError) as error:
        # ruamel passes escapes such as "\UFFFFFFFF" to chr() unchecked, and asserts that %YAML
        # names a version it supports.
        problems.add(Code.SYNTAX, FilePosition(1, 1), f"this is not YAML: {excerpt(str(error))}")
    raise problems.error()


def _syntax_hint(text: str, place: FilePosition, what: str) -> str:
    line = (text.split("\n")[place.line - 1 : place.line] or [""])[0]
    if "${" in line:
        return "put ${…} in quotes inside { } and [ ]"
    if "\\t" in what or "\t" in line[: place.column]:
        return "indent with spaces, not tabs"
    if "mapping values are not allowed" in what:
        return "check the indentation; a text with ': ' in it needs quotes"
    if "cannot start any token" in what:
        return "put the text in quotes"
    return "check the indentation, and that quotes and brackets are closed here and above"


class _Composer:
    """Builds nodes from parser events, within MAX_DEPTH and MAX_VALUES."""

    def __init__(self, text: str, problems: Problems) -> None:
        self._events: Iterator[Any] = YAML(typ="safe", pure=True).parse(text)
        self._problems = problems
        self._anchors: dict[str, Node] = {}
        self._most = max(MAX_VALUES, len(text))

    def document(self) -> Node | None:
        root: Node | None = None
        for event in self._events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent" and root is not None:
                what = "a second document starts here, and a configuration is one"
                self._problems.add(Code.FEATURE, _position(event), what, "remove the `---`")
                break
            if kind in ("ScalarEvent", "SequenceStartEvent", "MappingStartEvent", "AliasEvent"):
                root = self._node(event, 0, _position(event))
        return None if _is_null(root) else root

    def _node(self, event: Any, depth: int, key_place: FilePosition) -> Node:
        place = _position(event)
        if depth > MAX_DEPTH:
            self._stop(place, f"this nests deeper than {MAX_DEPTH} levels")
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._alias(event, place)
        node: Node
        if kind == "ScalarEvent":
            node = _scalar(event, place, key_place)
        elif kind == "SequenceStartEvent":
            node = self._items(place, depth)
        else:
            node = self._keys(place, depth)
        if event.tag not in (None, "!"):
            what = f"the tag {excerpt(str(event.tag))} means nothing in a configuration"
            self._problems.add(Code.FEATURE, place, what, "a text goes in quotes, without a tag")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, place: FilePosition) -> Node:
        if (node := self._anchors.get(event.anchor)) is not None:
            return node
        what = f"there is no anchor {excerpt('&' + event.anchor)} above this"
        self._problems.add(Code.SYNTAX, place, what)
        return Scalar(place, None, source=UNKNOWN)

    def _items(self, place: FilePosition, depth: int) -> Items:
        nodes: list[Node] = []
        size = 1
        while type(event := next(self._events)).__name__ != "SequenceEndEvent":
            item_place = _position(event)
            nodes.append(self._node(event, depth + 1, item_place))
            size = self._size_with(size, nodes[-1], item_place)
        return Items(place, tuple(nodes), size)

    def _keys(self, place: FilePosition, depth: int) -> Keys:
        entries: dict[str, Entry] = {}
        size = 1
        while type(event := next(self._events)).__name__ != "MappingEndEvent":
            key_place = _position(event)
            key = self._key(event, depth)
            node = self._node(next(self._events), depth + 1, key_place)
            size = self._size_with(size, node, key_place)
            if key is not None and key in entries:
                what = f"the key {excerpt(key)} stands here for the second time"
                first = entries[key].place
                self._problems.add(
                    Code.DUPLICATE, key_place, what, f"the first is in line {first.line}; keep one"
                )
            elif key is not None:
                entries[key] = Entry(key_place, node)
        return Keys(place, entries, size)

    def _key(self, event: Any, depth: int) -> str | None:
        """The key as written; None, and a problem, where it is no scalar."""
        if type(event).__name__ == "ScalarEvent":
            return str(event.value)
        self._node(event, depth + 1, _position(event))
        self._problems.add(Code.FEATURE, _position(event), "a key must be a single word")
        return None

    def _size_with(self, size: int, node: Node, place: FilePosition) -> int:
        size += node.size
        if size > self._most:
            self._stop(place, f"this file holds more than {self._most} values")
        return size

    def _stop(self, place: FilePosition, what: str) -> None:
        self._problems.add(Code.TOO_LARGE, place, what, "no configuration needs that many")
        raise self._problems.error()


def _position(event: Any) -> FilePosition:
    return FilePosition(event.start_mark.line + 1, event.start_mark.column + 1)


def _is_null(node: Node | None) -> bool:
    return node is None or (isinstance(node, Scalar) and node.value is None)


def _scalar(event: Any, place: FilePosition, key_place: FilePosition) -> Scalar:
    text: str = event.value
    is_plain = event.implicit[0] and not event.style
    if is_plain and not text:
        # The parser positions an absent value at the start of the next line.
        return Scalar(key_place, None)
    return Scalar(place, resolve(text) if is_plain else text)


_PLAIN_WORDS: dict[str, Value] = {
    **dict.fromkeys(("null", "Null", "NULL", "~"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# 18 digits always fit 64 bits; longer numbers stay texts.
_DECIMAL_INT = re.compile(r"[-+]?[0-9]{1,18}")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]{1,18}|0x[0-9a-fA-F]{1,16}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,30}|[0-9]{1,30}(?:\.[0-9]{0,30})?)(?:[eE][-+]?[0-9]{1,4})?")
_INF_OR_NAN = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def resolve(text: str) -> Value:
    """The value of a plain scalar by YAML 1.2's core schema."""
    if text in _PLAIN_WORDS:
        return _PLAIN_WORDS[text]
    if _DECIMAL_INT.fullmatch(text):
        return int(text)
    if _OCTAL_OR_HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INF_OR_NAN.fullmatch(text):
        return float(text.replace(".", ""))
    return text
