"""What holds of the package's sources as a whole, beyond what import-linter proves."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "meterd"
LONGEST_FUNCTION = 60  # lines from `def` to its end; decorators are data
Function = ast.FunctionDef | ast.AsyncFunctionDef


def trees() -> Mapping[Path, ast.Module]:
    return {file: ast.parse(file.read_text("utf-8")) for file in sorted(PACKAGE.rglob("*.py"))}


def classes(trees: Mapping[Path, ast.Module]) -> Iterator[tuple[str, str]]:
    """Each class with its place, private and nested ones included."""
    for file, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield node.name, f"{file.relative_to(PACKAGE.parent)}:{node.lineno}"


def functions(trees: Mapping[Path, ast.Module]) -> Iterator[tuple[str, int]]:
    """Each function with its place, and how many lines it has."""
    for file, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                place = f"{file.relative_to(PACKAGE.parent)}:{node.lineno} {node.name}"
                yield place, (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.fixture(scope="module")
def package() -> Mapping[Path, ast.Module]:
    found = trees()
    assert len(found) > 400, "these are not all of the package's files"
    return found


def test_a_class_name_occurs_once(package: Mapping[Path, ast.Module]) -> None:
    places = defaultdict[str, list[str]](list)
    for name, place in classes(package):
        places[name].append(place)
    assert len(places) > 500
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert not twice


def test_no_function_is_longer_than_one_can_read(package: Mapping[Path, ast.Module]) -> None:
    found = dict(functions(package))
    assert len(found) > 3000
    assert not {place: n for place, n in found.items() if n > LONGEST_FUNCTION}


def test_comments_and_docstrings_name_files_that_there_are(
    package: Mapping[Path, ast.Module],
) -> None:
    migrations = PACKAGE.parent / "migrations"
    there = [f"/{file.as_posix()}" for file in (*package, *migrations.rglob("*.py"))]
    named = [
        (name, f"{file.relative_to(PACKAGE.parent)}:{number}")
        for file in package
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)
        for name in re.findall(r"[\w/]+\.py\b", line)
    ]
    assert len(named) > 20
    assert not [each for each in named if not any(file.endswith(f"/{each[0]}") for file in there)]
