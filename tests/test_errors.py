"""Codes of errors: every one is a member of an enum, each member is explained, and docs agree."""

import ast
import copy
import json
import pickle
import re
from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TypeVar, get_args

import orjson
import pytest

import meterd
from meterd.api import problem
from meterd.api.problem_code import ProblemCode
from meterd.errors import (
    DeviceCode,
    DeviceError,
    GeneralCode,
    HookCode,
    LinkCode,
    MeterdError,
    PluginCode,
    StoreCode,
    StoreError,
)
from meterd.promql.result import PromErrorType

PACKAGE = Path(meterd.__file__).parent
DOCS = (PACKAGE.parent / "docs" / "api.md").read_text("utf-8")
ENUMS: dict[str, type[StrEnum]] = {
    enum.__name__: enum
    for enum in (
        GeneralCode,
        LinkCode,
        DeviceCode,
        StoreCode,
        HookCode,
        ProblemCode,
        PromErrorType,
    )
}
# Where a class takes its code as a positional argument.
POSITIONS = {"ApiRefusal": 1, "QueryError": 0, "Trouble": 0}


_N = TypeVar("_N", bound=ast.AST)


class GasCode(PluginCode):
    """What a plug-in may define for itself."""

    LEAK = "gas_leak"


@cache
def modules() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def nodes(kind: type[_N]) -> list[tuple[Path, _N]]:
    return [
        (path, node)
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, kind)
    ]


def names(expressions: list[ast.expr]) -> list[str]:
    return [node.id for node in expressions if isinstance(node, ast.Name)]


@cache
def enums_of_errors() -> dict[str, str]:
    """The enum that each error class takes its codes from, by the names of the classes."""
    classes = {node.name: node for _, node in nodes(ast.ClassDef)}
    enums = {"MeterdError": "GeneralCode"}
    while True:
        fresh = [
            node
            for name, node in classes.items()
            if name not in enums and set(names(node.bases)) & set(enums)
        ]
        if not fresh:
            return enums
        for node in fresh:
            inherited = next(enums[base] for base in names(node.bases) if base in enums)
            enums[node.name] = declared(node) or inherited


def declared(node: ast.ClassDef) -> str:
    """Of `code: LinkCode | PluginCode` the first name; empty where the class says nothing."""
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and ast.unparse(line.target) == "code":
            return ast.unparse(line.annotation).partition(" ")[0]
    return ""


def codes_given() -> Iterator[tuple[str, str, ast.expr]]:
    """(place, error class, code) of every error that is built with a code."""
    enums = enums_of_errors()
    for place, name, call in calls():
        if name not in enums:
            continue
        given = [word.value for word in call.keywords if word.arg == "code"]
        position = POSITIONS.get(name)
        if position is not None and len(call.args) > position:
            given.append(call.args[position])
        yield from ((place, name, code) for code in given)


@cache
def calls() -> list[tuple[str, str, ast.Call]]:
    """(place, class, call) of all that is built by its bare name, or by `super().__init__()`."""
    built = [
        (f"{path}:{call.lineno}", call.func.id, call)
        for path, call in nodes(ast.Call)
        if isinstance(call.func, ast.Name)
    ]
    for path, parent in nodes(ast.ClassDef):
        built += [
            (f"{path}:{call.lineno}", parent.name, call)
            for call in ast.walk(parent)
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "__init__"
        ]
    return built


def texts(node: ast.AST) -> list[ast.AST]:
    """Literal texts in it, f-strings too; not the keys by which something is looked up."""
    if isinstance(node, ast.JoinedStr):
        return [node]
    if isinstance(node, ast.Constant):
        return [node] if isinstance(node.value, str) else []
    parts = [node.value] if isinstance(node, ast.Subscript) else ast.iter_child_nodes(node)
    return [text for part in parts for text in texts(part)]


def test_the_scan_finds_the_errors_of_the_package() -> None:
    enums = enums_of_errors()
    assert enums["Refused"] == enums["ModbusException"] == "DeviceCode"
    assert enums["ProtocolError"] == "LinkCode"
    assert enums["GoneError"] == "StoreCode"
    assert enums["RenameError"] == "GeneralCode"
    assert set(enums.values()) == set(ENUMS)
    assert len(list(codes_given())) > 200


def test_no_error_is_built_with_a_text_as_its_code() -> None:
    # An enum's own call, as DeviceCode(f"exception_{n}"), refuses what is no member.
    wrong = [
        place
        for place, _, code in codes_given()
        if texts(code) and not (isinstance(code, ast.Call) and ast.unparse(code.func) in ENUMS)
    ]
    assert wrong == []


def test_every_code_is_a_member_of_the_enum_of_its_class() -> None:
    enums = enums_of_errors()
    for place, name, code in codes_given():
        for part in ast.walk(code):
            if isinstance(part, ast.Attribute) and ast.unparse(part.value) in ENUMS:
                assert ast.unparse(part.value) == enums[name], (place, name)
                assert part.attr in ENUMS[enums[name]].__members__, place


def test_no_code_is_compared_with_a_text() -> None:
    wrong = []
    for path, node in nodes(ast.Compare):
        sides = [node.left, *node.comparators]
        if any(isinstance(side, ast.Attribute) and side.attr == "code" for side in sides):
            constants = constants_of(modules()[path])
            meant = [*sides, *(constants[name] for name in names(sides) if name in constants)]
            # Of a dict only the keys are compared.
            keys = [key for side in meant if isinstance(side, ast.Dict) for key in side.keys if key]
            others = [side for side in meant if not isinstance(side, ast.Dict)]
            wrong += [f"{path}:{node.lineno}" for side in (*keys, *others) if texts(side)]
    assert wrong == []


def constants_of(tree: ast.Module) -> dict[str, ast.expr]:
    """What names of the module's top stand for."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            found.update((name, node.value) for name in names(node.targets))
        elif isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
            found[node.target.id] = node.value
    return found


@cache
def meanings() -> dict[tuple[str, str], str]:
    """The text under each member, by the names of enum and member."""
    texts_below: dict[tuple[str, str], str] = {}
    for _, node in nodes(ast.ClassDef):
        if node.name not in ENUMS:
            continue
        for line, after in zip(node.body, [*node.body[1:], None], strict=True):
            if not isinstance(line, ast.Assign):
                continue
            below = after.value if isinstance(after, ast.Expr) else None
            text = str(below.value) if isinstance(below, ast.Constant) else ""
            texts_below[node.name, ast.unparse(line.targets[0])] = text
    return texts_below


def meaning(member: StrEnum) -> str:
    return meanings()[type(member).__name__, member.name]


@pytest.mark.parametrize("name", ENUMS)
def test_every_member_says_what_it_means(name: str) -> None:
    enum = ENUMS[name]
    assert enum.__doc__
    assert len(enum) == len(enum.__members__), "two members with one word"
    for member in enum:
        assert len(meaning(member).split()) > 3, member
        assert re.fullmatch("[a-z][a-z0-9_]*", member), member
        assert member.name == member.value.upper()


def test_no_member_is_there_that_nothing_uses() -> None:
    used = {
        f"{node.value.id}.{node.attr}"
        for _, node in nodes(ast.Attribute)
        if isinstance(node.value, ast.Name)
    }
    made = {f"DeviceCode.{code.name}" for code in DeviceCode if "exception_" in code}
    made |= {f"ProblemCode.UNKNOWN_{name.upper()}" for name in get_args(problem.Named)}
    every = {f"{name}.{member.name}" for name, enum in ENUMS.items() for member in enum}
    assert every - used - made == set()


def test_codes_are_the_same_text_wherever_they_are_seen() -> None:
    for code in (StoreCode.FULL, DeviceCode.EXCEPTION_4, DeviceCode("exception_66"), GasCode.LEAK):
        word = code.value
        assert [str(code), f"{code}", f"{code:>1}", "%s" % code] == [word] * 4  # noqa: UP031
        assert code == word
        assert {word: 1}[code] == 1
        assert json.dumps({code: code}) == json.dumps({word: word})
        assert orjson.dumps({"code": code}) == orjson.dumps({"code": word})
        assert type(str(code)) is str


def test_the_words_that_users_rely_on_are_there() -> None:
    assert set(StoreCode) >= {"unavailable", "full", "corrupt", "newer_schema", "already_running"}
    assert set(StoreCode) >= {"busy", "too_much", "conflict", "unreachable"}
    assert set(LinkCode) >= {"timeout", "refused", "closed", "unreachable", "dns", "port_gone"}
    assert set(LinkCode) >= {"port_taken", "port_denied", "tls", "bad_reply", "bad_frame"}
    assert set(LinkCode) >= {"two_replies", "foreign_traffic", "flood", "garbled", "error"}
    assert set(DeviceCode) >= {"nothing_said", "all_refused", "driver_stuck", "driver_bug"}


@pytest.mark.parametrize("number", [0, 4, 9, 12, 66, 255])
def test_exceptions_of_vendors_are_members_made_once(number: int) -> None:
    before = len(DeviceCode)
    code = DeviceCode(f"exception_{number}")
    assert code is DeviceCode(f"exception_{number}")
    assert (code.name, code.value) == (f"EXCEPTION_{number}", f"exception_{number}")
    assert pickle.loads(pickle.dumps(code)) is code is copy.deepcopy(code)
    assert len(DeviceCode) == before


@pytest.mark.parametrize(
    "word", ["exception_256", "exception_04", "exception_-1", "exception_", "exception_٤", "no", 4]
)
def test_nothing_else_becomes_a_member(word: object) -> None:
    with pytest.raises(ValueError, match="is not a valid DeviceCode"):
        DeviceCode(word)  # type: ignore[arg-type]


def test_plug_ins_have_codes_of_their_own_or_none() -> None:
    assert DeviceError("a leak", code=GasCode.LEAK).code == "gas_leak"
    assert DeviceError("no").code is DeviceCode.ERROR
    assert MeterdError("no").code == "error"


# -- what a client is told ------------------------------------------------------------------------


def rows(heading: str) -> dict[str, str]:
    """Codes of a table of docs/api.md, with the column after them."""
    section = DOCS.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table: dict[str, str] = {}
    for cells in re.findall(r"^\| (`.*?) \| (.*?) \|", section, re.MULTILINE):
        for code in re.findall(r"`(\w+)`", cells[0]):
            assert code not in table, code
            table[code] = cells[1]
    return table


def test_the_page_lists_every_problem_with_its_status() -> None:
    table = rows("Codes of problems")
    assert set(table) == set(ProblemCode)
    for code in ProblemCode:
        assert meaning(code).startswith(f"{table[code]}: "), code


def test_refusals_have_the_status_that_their_code_says() -> None:
    checked = 0
    for place, name, call in calls():
        if name != "ApiRefusal" or not call.args or not isinstance(call.args[0], ast.Constant):
            continue
        status, code = call.args[:2]
        if isinstance(code, ast.Attribute) and ast.unparse(code.value) == "ProblemCode":
            said = meaning(ProblemCode[code.attr])
            assert said.startswith(f"{ast.unparse(status)}: "), place
            checked += 1
    assert checked > 50


def test_the_page_lists_every_code_of_devices() -> None:
    table = rows("Codes of devices")
    written = {*LinkCode, *DeviceCode} - {code for code in DeviceCode if "exception_" in code}
    assert set(table) - {"exception_N"} == written - {DeviceCode.ON_BATTERY, DeviceCode.BATTERY_LOW}
    assert "exception_N" in table


@pytest.mark.parametrize("code", StoreCode)
def test_a_client_is_told_the_words_of_before(code: StoreCode) -> None:
    """What commands tell apart, and what passes by itself, stays `unavailable` outside."""
    refusal = problem.of_store(StoreError("no", code=code))
    told_apart = {"full", "corrupt", "newer_schema", "already_running", "busy", "conflict"}
    if code == StoreCode.TOO_MUCH:
        expected = "too_much"
    elif code in told_apart or code == StoreCode.UNREACHABLE:
        expected = f"store_{code}"
    else:
        expected = "store_unavailable"
    assert json.loads(refusal.body())["code"] == expected
