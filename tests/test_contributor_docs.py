"""Documents for contributors: what they name is there, and their examples are understood."""

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

import meterd
from tests.cli.lines import judge

ROOT = Path(meterd.__file__).parent.parent
DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
PAGES = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "docs/architecture.md",
    ROOT / "docs/debugging.md",
    ROOT / "docs/decisions/README.md",
    *DECISIONS,
]
FOLDERS = (
    ".ci",
    ".github",
    "bench",
    "config",
    "docker",
    "docs",
    "examples",
    "meterd",
    "migrations",
)
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(map(re.escape, FOLDERS))}|tests)/[\w./*-]*")
# A name that whoever reads it is to replace: tests/cli/test_NAME.py.
PLACEHOLDER = re.compile(r"NAME|MAKER|NNNN")
FILE = re.compile(r"[\w.-]+\.(?:py|md|yaml|toml|lock|sh)")
CLASS = re.compile(r"([A-Z][a-z]+[A-Za-z]*)(?:\.(\w+))?")
IDENTIFIER = re.compile(r"_?[a-z]+(?:_[a-z]+)+")
# Of threads, dependencies and the kernel; `Options` is an attribute of each driver.
FOREIGN = {"MainThread", "Options", "SerialTransport", "VmRSS"}
OF_ASYNCIO = frozenset(["add_reader", "add_writer", "create_serial_connection"])
MADE_BY_USERS = {"meterd.yaml", "my_meter.yaml", "dump.py"}


def quoted(page: Path) -> list[str]:
    """What stands in backticks outside of code blocks."""
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text("utf-8")
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)


@cache
def classes() -> dict[str, str]:
    """Each class of meterd and of its tests, with the text of its file."""
    found: dict[str, str] = {}
    for file in (*(ROOT / "tests").rglob("*.py"), *(ROOT / "meterd").rglob("*.py")):
        text = file.read_text("utf-8")
        for name in re.findall(r"^ *class (\w+)", text, re.MULTILINE):
            found[name] = found.get(name, "") + text
    return found


@cache
def files() -> set[str]:
    """The names of all files of the checkout."""
    held = (ROOT / folder for folder in FOLDERS)
    found = {path.name for folder in held for path in folder.rglob("*")}
    return found | {path.name for path in ROOT.iterdir()}


@cache
def words() -> frozenset[str]:
    """Every word of the code, and of what tests and tools are told."""
    code = (file for folder in ("meterd", "tests") for file in (ROOT / folder).rglob("*.py"))
    texts = [file.read_text("utf-8") for file in (ROOT / "pyproject.toml", *code)]
    return OF_ASYNCIO.union(word for text in texts for word in re.findall(r"\w+", text))


def slug(heading: str) -> str:
    """The anchor of a heading, as forges make it."""
    plain = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return plain.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(text) for text in re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_and_folders_that_it_names_are_there(page: Path) -> None:
    texts = quoted(page)
    paths = [path for text in texts for path in PATH.findall(text) if not PLACEHOLDER.search(path)]
    missing = [path for path in paths if not list(ROOT.glob(path.rstrip("/.")))]
    # Files that are named without their folder.
    names = [text for text in texts if FILE.fullmatch(text) and not PLACEHOLDER.search(text)]
    missing += [name for name in names if name not in files() | MADE_BY_USERS]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_classes_and_their_attributes_that_it_names_are_there(page: Path) -> None:
    missing = []
    for text in quoted(page):
        named = CLASS.fullmatch(text)
        if named is None or named[1] in FOREIGN or (ROOT / text).exists():
            continue
        source = classes().get(named[1])
        if source is None or (named[2] and not re.search(rf"\b{named[2]}\b", source)):
            missing.append(text)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_functions_settings_and_metrics_that_it_names_are_there(page: Path) -> None:
    names = [text for text in quoted(page) if IDENTIFIER.fullmatch(text)]
    assert [name for name in names if name.removesuffix("_total") not in words()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_make_knows_the_targets_that_it_names(page: Path) -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z -]+):", text, re.MULTILINE))
    known = {name for line in targets for name in line.split()}
    named = {word for one in quoted(page) for word in re.findall(r"\bmake ([a-z-]+)", one)}
    named |= {word for one in blocks(page, "sh") for word in re.findall(r"^make ([a-z-]+)", one)}
    assert named <= known


def test_the_pictures_show_every_room_of_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    pictures = set(re.findall(r"\w+", "\n".join(re.findall(r"^    .*$", text, re.MULTILINE))))
    layers = [
        layer
        for contract in contracts["contracts"]
        if contract["type"] == "layers"
        for layer in contract["layers"]
    ]
    rooms = {room for layer in layers for room in layer.split(" | ")} - {"__main__"}
    assert len(rooms) > 20
    assert rooms <= pictures


def test_its_command_lines_are_understood() -> None:
    lines = [
        line
        for page in PAGES
        for block in blocks(page, "sh")
        for line in block.splitlines()
        if line.startswith("meterd ")
    ]
    assert len(lines) >= 4
    for line in lines:
        judge(line)


def test_its_script_is_python() -> None:
    (script,) = blocks(ROOT / "docs/debugging.md", "python")
    compile(script, "dump.py", "exec")


def test_decisions_are_numbered_listed_and_have_three_parts() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text("utf-8")
    assert [path.name[:4] for path in DECISIONS] == [f"{n + 1:04}" for n in range(len(DECISIONS))]
    for path in DECISIONS:
        text = path.read_text("utf-8")
        title = re.match(r"# (\d{4})\. (.+)\n", text)
        assert title, path
        assert title[1] == path.name[:4]
        assert f"[{title[1]}]({path.name}) | {title[2]} |" in index
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"], path


def test_decisions_that_the_code_points_to_are_there() -> None:
    numbers = {path.name[:4] for path in DECISIONS}
    pointers = [
        number
        for file in (ROOT / "meterd").rglob("*.py")
        for number in re.findall(r"docs/decisions/(\w+)", file.read_text("utf-8"))
    ]
    assert len(pointers) > 20
    assert set(pointers) <= numbers
