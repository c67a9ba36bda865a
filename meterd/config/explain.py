"""pydantic's errors as problems: in people's words, and at the very key or value."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import ValidationError

from meterd.config.codes import Code, ValueFlaw, ValueFlawError
from meterd.config.duration import meant
from meterd.config.names import near
from meterd.config.problems import START, FilePosition, Problems, excerpt
from meterd.config.settings import fits, keys_at
from meterd.config.yaml_tree import Items, Keys, Node, Scalar, is_unknown

Loc: TypeAlias = Sequence[str | int]
ErrorDetails: TypeAlias = Mapping[str, Any]
"""One error of a ValidationError: its `type`, `loc`, `msg`, `input`, and `ctx` where it has one."""

# The beginnings of pydantic's types of error, and what the value should have been.
_KINDS = {
    "string_t": "a text",
    "string_s": "a text",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "bool": "true or false",
    "model": "a mapping of keys and values",
    "dict": "a mapping of keys and values",
    "mapping": "a mapping of keys and values",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen_set": "a list",
}
_RANGES = {
    "greater_than": ("greater than {}", "gt"),
    "greater_than_equal": ("at least {}", "ge"),
    "less_than": ("less than {}", "lt"),
    "less_than_equal": ("at most {}", "le"),
    "multiple_of": ("a multiple of {}", "multiple_of"),
    "string_too_short": ("a text of {} characters or more", "min_length"),
    "string_too_long": ("a text of at most {} characters", "max_length"),
    "too_short": ("a list of {} or more", "min_length"),
    "too_long": ("a list of at most {}", "max_length"),
}
_MERGE, _NO_MERGE = "<<", "YAML 1.2 has no merge keys (`<<`): write the keys out"
_SHAPES = ("model", "dict", "mapping", "list", "tuple", "set", "frozen_set")


@dataclass(frozen=True, slots=True)
class Spot:
    """What pydantic's location leads to: the path that exists, its key's place, and its node."""

    path: tuple[str, ...]
    key_place: FilePosition
    node: Node

    @property
    def words(self) -> str:
        return ".".join(self.path).replace(".[", "[")


def locate(root: Node, loc: Loc) -> Spot:
    """Follow the location as far as the file goes; steps that pydantic adds are passed over."""
    spot = Spot((), START, root)
    for step in loc:
        node = spot.node
        if isinstance(node, Keys) and str(step) in node.entries:
            entry = node.entries[str(step)]
            spot = Spot((*spot.path, str(step)), entry.place, entry.node)
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node.nodes):
            item = node.nodes[step]
            spot = Spot((*spot.path, f"[{step}]"), item.place, item)
        elif isinstance(node, Scalar):
            break
    return spot


def show(node: Node) -> str:
    """The value in a sentence; what came from outside is never printed."""
    if isinstance(node, Keys):
        return "a mapping"
    if isinstance(node, Items):
        return "a list"
    if node.source:
        return node.source
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return str(node.value).lower()
    if isinstance(node.value, str):
        return excerpt(re.sub(r"(://[^:/@\s]*:)[^@\s]*@", r"\1***@", node.value))
    return str(node.value)


def explain(
    error: ValidationError, root: Node, problems: Problems, prefix: Loc = (), keys: Loc = ()
) -> None:
    """Add a problem for each error. `prefix` leads to what was validated, `keys` are its keys."""
    for detail in error.errors(include_url=False):
        _explain_one(dict(detail), root, problems, (*prefix, *detail["loc"]), keys)


def _explain_one(detail: ErrorDetails, root: Node, problems: Problems, loc: Loc, keys: Loc) -> None:
    spot = locate(root, loc)
    kind = detail["type"]
    if kind == "missing":
        what = f"{loc[-1]} is missing"
        where = f"{spot.words}: " if spot.path else ""
        problems.add(Code.MISSING, spot.key_place, where + what, _missing_hint(spot, str(loc[-1])))
    elif kind == "extra_forbidden":
        unknown_key(problems, spot, [str(key) for key in keys] or keys_at(spot.path[:-1]))
    elif loc and loc[-1] == "[key]":
        flaw = _flaw(detail, spot.node)
        problems.add(
            flaw.code, spot.key_place, _sentence(flaw, spot, excerpt(spot.path[-1])), flaw.hint
        )
    elif not _is_told(spot.node):
        _bad_value(problems, spot, _flaw(detail, spot.node, spot.path))


def _missing_hint(spot: Spot, key: str) -> str:
    """A key that looks like the missing one was probably meant to be it."""
    present = set(spot.node.entries) if isinstance(spot.node, Keys) else set()
    if _MERGE in present:
        return _NO_MERGE
    if found := difflib.get_close_matches(key, present - set(keys_at(spot.path)), n=1):
        return f"is {excerpt(found[0])} meant to be it?"
    return f"add `{key}:` to it"


# Keys that other programs have for a device, and how it is said here.
_ELSEWHERE = {
    **dict.fromkeys(
        ("slave", "slave_id", "slaveid", "unit_id", "unitid", "address", "id", "modbus_id"),
        "write `unit:`, the number that the meter is set to",
    ),
    **dict.fromkeys(
        ("host", "hostname", "ip", "port", "url", "uri", "device", "tty"),
        "write `link: tcp://HOST:PORT` or `link: serial:///dev/ttyUSB0`",
    ),
    **dict.fromkeys(
        ("baud", "baudrate", "parity", "stop", "stopbits", "bytes", "framer"),
        "it belongs to the link: `link: serial:///dev/ttyUSB0?baud=9600&parity=N`",
    ),
    **dict.fromkeys(
        ("gap", "unit_gap", "connect_delay", "connect_timeout", "keep_open"),
        "it belongs to an entry under `links:`",
    ),
    **dict.fromkeys(
        ("type", "model", "meter"),
        "write `driver:`, and for a meter `map:`; `meterd maps` lists them",
    ),
    **dict.fromkeys(
        ("scan_interval", "poll_interval", "poll", "period", "rate", "every"),
        "write `interval:`, such as 10s",
    ),
    **dict.fromkeys(("tags",), "write `labels:`"),
}


def unknown_key(problems: Problems, spot: Spot, known: Sequence[str]) -> None:
    """A key that is not known here, at its place."""
    *parents, key = spot.path
    hint = _ELSEWHERE.get(key.lower(), "") if parents[:1] == ["devices"] else ""
    hint = hint or near(key, known)
    if key == _MERGE:
        hint = _NO_MERGE
    where = f"{'.'.join(parents)}: " if parents else ""
    problems.add(Code.UNKNOWN_KEY, spot.key_place, f"{where}unknown key {excerpt(key)}", hint)


def _is_told(node: Node) -> bool:
    """A value that could not be had is one problem, not also a wrong value or a wrong section."""
    if isinstance(node, Keys):
        return any(is_unknown(entry.node) for entry in node.entries.values())
    return is_unknown(node)


def _bad_value(problems: Problems, spot: Spot, flaw: ValueFlaw) -> None:
    # A section as a whole is named by its key, a value by itself.
    is_section = isinstance(spot.node, Keys) and flaw.code not in (Code.TYPE, Code.SHAPE)
    place = spot.key_place if is_section else spot.node.place
    # A hint often spells the value anew, and what came from outside is never printed.
    hint = "" if isinstance(spot.node, Scalar) and spot.node.source else flaw.hint
    problems.add(flaw.code, place, _sentence(flaw, spot, show(spot.node)), hint)


def _sentence(flaw: ValueFlaw, spot: Spot, shown: str) -> str:
    text = flaw.what
    if isinstance(spot.node, Scalar) and spot.node.source and isinstance(spot.node.value, str):
        # A driver's own words may quote a secret.
        text = text.replace(spot.node.value, "***") if spot.node.value else text
    if "{}" in text:
        text = text.replace("{}", shown)
    elif flaw.show:
        text = f"{text}, not {shown}"
    return f"{spot.words}: {text}" if spot.path else text


def _flaw(detail: ErrorDetails, node: Node, path: Sequence[str] = ()) -> ValueFlaw:
    """What pydantic found, as we say it."""
    kind, context = detail["type"], detail.get("ctx", {})
    if isinstance(error := context.get("error"), ValueFlawError):
        return error.flaw
    if kind in _RANGES:
        words, key = _RANGES[kind]
        return ValueFlaw(Code.RANGE, f"must be {words.replace('{}', str(context.get(key, '…')))}")
    if kind == "finite_number":
        return ValueFlaw(Code.RANGE, "must be a finite number")
    if kind in ("literal_error", "enum"):
        return _choice(str(context.get("expected", "")), node)
    for start, words in _KINDS.items():
        if kind.startswith(start):
            code = Code.SHAPE if start in _SHAPES else Code.TYPE
            return ValueFlaw(code, f"must be {words}", _type_hint(words, node, path))
    return _foreign(detail, context)


def _choice(expected: str, node: Node) -> ValueFlaw:
    """pydantic lists the words as "'a', 'b' or 'c'"."""
    words = re.findall(r"'([^']*)'", expected)
    hint = ""
    if isinstance(node, Scalar) and isinstance(node.value, str) and not node.source:
        found = near(node.value, words)
        hint = found if found.startswith("did") else ""
    return ValueFlaw(Code.CHOICE, f"must be {' or '.join(words) or expected}", hint)


# The key of a section that a single value in its place was probably meant for, and an example.
_MAIN_KEYS = {
    ("site",): ("name", "Home"),
    ("links", "*"): ("url", "tcp://192.0.2.7:502"),
    ("devices", "*"): ("driver", "modbus, map: eastron_sdm630, link: tcp://192.0.2.7:502"),
    ("devices", "*", "battery"): ("nominal", "12V"),
    ("store",): ("url", "sqlite:///meterd.db"),
    ("store", "keep"): ("raw", "400d"),
    ("store", "spool"): ("file", "/var/spool/meterd/polls"),
    ("api",): ("listen", "127.0.0.1:8420"),
    ("proxy",): ("devices", "{1: main}"),
    ("alerts", "rules", "*"): ("quantity", "device.up, equals: 0, notify: [ops]"),
    ("alerts", "hooks", "*"): ("type", "webhook, url: http://127.0.0.1:9000/alert"),
}


def _section_hint(node: Node, path: Sequence[str]) -> str:
    """How to write a section in whose place a single value stands."""
    for pattern, (key, example) in _MAIN_KEYS.items():
        if not isinstance(node, Scalar) or not fits(tuple(path), pattern):
            continue
        value = node.value if isinstance(node.value, str) and not node.source else None
        hint = f"write `{path[-1]}: {{{key}: {_example(key, value) or example}}}`"
        if key == "raw":
            hint += "; without `keep` samples stay for ever"
        return hint
    return ""


def _example(key: str, value: str | None) -> str:
    """The value as that key would have it; empty where it is none for it."""
    if value is None or key in ("driver", "quantity", "type", "devices"):
        return ""
    if key == "raw":
        found = meant(value)
        return found if found is not None else ""
    return value if re.fullmatch(r"[\w.:/~-]{1,60}", value) else ""


def _type_hint(words: str, node: Node, path: Sequence[str]) -> str:
    if words == _KINDS["model"] and (hint := _section_hint(node, path)):
        return hint
    is_word = (
        isinstance(node, Scalar) and not isinstance(node.value, str) and node.value is not None
    )
    if isinstance(node, Items) and words == _KINDS["dict"]:
        return "each entry is a `name:` with its keys below it, without a dash"
    return "put it in quotes to make it a text" if words == "a text" and is_word else ""


def _foreign(detail: ErrorDetails, context: dict[str, Any]) -> ValueFlaw:
    """An error of a validator that is not ours: its words, begun as a sentence of ours."""
    text = str(context.get("error") or detail["msg"])
    text = text.replace("Input should be", "must be").replace("{}", "{ }")
    return ValueFlaw(Code.VALUE, text[:1].lower() + text[1:], show=text.startswith("must"))
