"""Dashboards against Grafana's own types: an option that it does not know fails the compiler."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.dashboards import BOARDS, FOLDER

HERE = Path(__file__).parent / "grafana"
_OPTIONS = {
    "noEmit": True,
    "strict": True,
    "skipLibCheck": True,
    "module": "commonjs",
    "moduleResolution": "node10",
    "target": "es2020",
    "types": [],
}
_INSTALL = ("npm", "ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the compiler, Grafana's types, and ours."""
    if os.environ.get("METERD_TEST_INSTALL") == "0":
        pytest.skip("needs packages from npm, and METERD_TEST_INSTALL=0 says to install nothing")
    folder = tmp_path_factory.mktemp("types")
    for name in ("package.json", "package-lock.json", "types.ts"):
        shutil.copy(HERE / name, folder)
    (folder / "tsconfig.json").write_text(
        json.dumps({"compilerOptions": _OPTIONS, "include": ["*.ts"]})
    )
    done = subprocess.run(
        _INSTALL, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode and os.environ.get("METERD_TEST_ALL") != "1":
        pytest.skip(f"npm got no packages: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    return folder


def complaints(folder: Path, boards: dict[str, str]) -> str:
    """What the compiler says of these boards, each the text of a JSON file."""
    for name, text in boards.items():
        source = f'import type {{ Board }} from "./types";\nexport const board: Board = {text}'
        (folder / f"{name}.ts").write_text(source, "utf-8")
    done = subprocess.run(
        ("node", "node_modules/typescript/bin/tsc", "-p", "."),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    for name in boards:
        (folder / f"{name}.ts").unlink()
    return done.stdout + done.stderr


@pytest.mark.needs("npm", "node")
def test_dashboards_have_the_types_of_grafana(folder: Path) -> None:
    texts = {name: (FOLDER / f"{name}.json").read_text("utf-8") for name in BOARDS}
    assert complaints(folder, texts) == ""


@pytest.mark.needs("npm", "node")
def test_a_word_that_grafana_does_not_know_is_found(folder: Path) -> None:
    text = (FOLDER / "meterd-energy.json").read_text("utf-8")
    wrong = {
        "option": ('"barAlignment"', '"barAlinement"'),
        "value": ('"drawStyle": "bars"', '"drawStyle": "columns"'),
        "panel": ('"type": "stat"', '"type": "singlestat"'),
        "key": ('"timeFrom"', '"timefrom"'),
        "variable": ('"text": ""', '"txt": ""'),
    }
    assert all(right in text for right, _ in wrong.values())
    said = complaints(folder, {name: text.replace(*pair, 1) for name, pair in wrong.items()})
    assert {line.partition(".ts(")[0] for line in said.splitlines() if "error TS" in line} == set(
        wrong
    )
