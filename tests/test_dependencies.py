"""What meterd is built on: declared, used, and no private names of it but those that are pinned."""

import ast
import importlib
import inspect
import pkgutil
import re
import socket
import sys
import textwrap
import threading
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import meterd
from meterd.store.db import servers, statement_timeout

TOP = Path(meterd.__file__).parent.parent
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))
_OWN = {"meterd", "tests", "bench", "docs"}
_IMPORT = re.compile(r"^ *(?:import|from) (\w+)", re.MULTILINE)
# Loaded by pytest alone, where that is installed.
_BY_PYTEST = {"meterd/testing/pytest_plugin.py"}
# Programs, plug-ins and types: nothing imports them by name.
_NOT_IMPORTED = {"coverage", "editables", "hatchling", "import-linter", "mypy", "pytest-asyncio"}
_NOT_IMPORTED |= {"pytest-xdist", "pysunspec2", "ruff", "schemathesis", "types-pymysql"}


def plain(requirement: str) -> str:
    """The normalised name of a requirement: `psycopg[binary]>=3.2` is psycopg."""
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


RUNTIME = {plain(each) for each in PROJECT["project"]["dependencies"]}
EXTRAS = {
    plain(each) for extra in PROJECT["project"]["optional-dependencies"].values() for each in extra
}
GROUPS = {
    plain(each)
    for group in PROJECT["dependency-groups"].values()
    for each in group
    if isinstance(each, str)
}


def imported(*folders: str) -> dict[str, set[str]]:
    """Distributions that Python files of these folders import -> the files."""
    owners = metadata.packages_distributions()
    found: dict[str, set[str]] = {}
    for file in (file for folder in folders for file in (TOP / folder).rglob("*.py")):
        if file.relative_to(TOP).as_posix() in _BY_PYTEST:
            continue
        for module in set(_IMPORT.findall(file.read_text("utf-8"))):
            # A word in a text that looks like an import is nobody's.
            if module in sys.stdlib_module_names or module in _OWN or module not in owners:
                continue
            place = file.relative_to(TOP).as_posix()
            found.setdefault(plain(owners[module][0]), set()).add(place)
    return found


def test_what_the_package_imports_is_declared() -> None:
    known = RUNTIME | EXTRAS
    hidden = {
        name: files for name, files in imported("meterd", "migrations").items() if name not in known
    }
    assert hidden == {}, "declare it in pyproject.toml, or use what the declared one offers"


def test_what_tests_and_tools_import_is_declared() -> None:
    known = RUNTIME | EXTRAS | GROUPS
    hidden = {
        name: files
        for name, files in imported("tests", "bench", "docs").items()
        if name not in known
    }
    assert hidden == {}, "declare it in the group dev of pyproject.toml"


def test_what_is_declared_is_imported() -> None:
    unused = (RUNTIME | EXTRAS) - set(imported("meterd", "migrations"))
    assert unused <= {"pyarrow"}, "the fewer the better: take it out of pyproject.toml"
    assert GROUPS - set(imported("tests", "bench", "docs")) <= _NOT_IMPORTED


def test_drivers_and_parquet_are_extras_only() -> None:
    assert {"psycopg", "pymysql", "pyarrow"} == EXTRAS
    assert not EXTRAS & RUNTIME


@pytest.mark.parametrize("name", ["aiohttp", "pymodbus", "pymysql"])
def test_what_is_used_beyond_its_documentation_is_capped(name: str) -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    every = [*PROJECT["project"]["dependencies"], *(each for extra in extras for each in extra)]
    (wanted,) = (each for each in every if plain(each) == name)
    assert "<" in wanted, f"{name} is subclassed or poked into: a new series has to be looked at"


# -- private names ---------------------------------------------------------------------------------


def foreign_subclasses() -> Iterator[tuple[type, list[type]]]:
    """Classes of meterd, each with those of its bases that are no one's of ours or Python's."""
    seen: set[type] = set()
    for info in pkgutil.walk_packages(meterd.__path__, "meterd."):
        if info.name.endswith("__main__") or ".migrations" in info.name:
            continue
        for cls in vars(importlib.import_module(info.name)).values():
            if not inspect.isclass(cls) or not cls.__module__.startswith("meterd") or cls in seen:
                continue
            seen.add(cls)
            # pydantic's models have no methods of ours that could meet theirs.
            foreign = [
                base
                for base in cls.__mro__
                if base.__module__.partition(".")[0]
                not in {*sys.stdlib_module_names, "meterd", "pydantic"}
            ]
            if foreign:
                yield cls, foreign


def privates(cls: type) -> set[str]:
    """Private names that a class has on itself: methods, slots, attributes that it sets."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):
        source = ""
    names = {*vars(cls), *re.findall(r"\bself\.(_\w+)", source)}
    pythons = {"_abc_impl", "_is_protocol", "_is_runtime_protocol"}
    return {name for name in names if re.fullmatch(r"_[a-z]\w*", name)} - pythons


def test_a_subclass_shares_no_private_name_with_a_library() -> None:
    """Neither uses one of theirs, nor has one of its own that would replace theirs."""
    shared, looked = {}, 0
    for cls, foreign in foreign_subclasses():
        looked += 1
        theirs = set().union(*map(privates, foreign))
        if both := privates(cls) & theirs:
            shared[cls.__qualname__] = both
    assert looked > 2
    assert shared == {}, "a private name of a library may go or change with any release"


def test_no_private_name_of_a_library_is_reached_for() -> None:
    """By attribute or getattr(), beyond what the package defines and named tuples offer."""
    # Of named tuples, os and enum.
    made = {"_replace", "_asdict", "_fields", "_make", "_exit", "_value2member_map_"}
    used: dict[str, set[str]] = {}
    for file in (TOP / "meterd").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            name = ""
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                made.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                made.add(node.id)
            elif isinstance(node, ast.Attribute):
                name = node.attr
                if isinstance(node.ctx, ast.Store):
                    made.add(name)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
                name = str(getattr(node.args[1], "value", ""))
            if re.fullmatch(r"_[a-z]\w*", name):
                used.setdefault(name, set()).add(file.relative_to(TOP).as_posix())
    reached = {name: files for name, files in used.items() if name not in made}
    assert reached == {"_sock": {"meterd/store/db/statement_timeout.py"}}, (
        "use what the library documents, or cap it in pyproject.toml and pin it here"
    )


PYMYSQL = "PyMySQL changed inside: see meterd/store/db/{file}.py, then the cap in pyproject.toml"


def test_connections_to_mariadb_share_one_context_for_tls() -> None:
    """`_create_ssl_ctx` makes it: else each connection reads all certificates of the system."""
    driver = servers._mariadb_driver()
    one, other = driver(defer_connect=True), driver(defer_connect=True)
    assert one.ctx is other.ctx, PYMYSQL.format(file="servers")


def test_a_connection_to_mariadb_that_waits_can_be_cut() -> None:
    """`_sock` is its socket from the moment that it connects."""
    import pymysql

    raw = servers._mariadb_driver()(defer_connect=True, connect_timeout=30)
    ours, theirs = socket.socketpair()
    failed: list[BaseException] = []

    def connect() -> None:
        try:
            raw.connect(ours)  # waits for the first packet of a server
        except pymysql.err.Error as error:
            failed.append(error)

    with theirs:
        thread = threading.Thread(target=connect, daemon=True)
        thread.start()
        while thread.is_alive() and raw._sock is None:
            thread.join(0.001)
        statement_timeout._cut(raw)
        thread.join(30)
        assert not thread.is_alive(), PYMYSQL.format(file="statement_timeout")
    assert failed
