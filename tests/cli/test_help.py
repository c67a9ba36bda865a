"""Help of every command: it fits a terminal, and its examples are right."""

import re
from collections.abc import Iterator

import pytest

from meterd import __version__
from meterd.cli.main import COMMANDS
from tests.cli.command import meterd
from tests.cli.inside import inside
from tests.cli.lines import judge

WIDTH = 80


def lines_of(name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    done = inside(capsys, name, "--help")
    assert (done.code, done.err) == (0, "")
    return done.out.splitlines()


def examples(lines: list[str]) -> Iterator[str]:
    """Lines that begin with meterd, but not the one that begins `Usage: meterd`."""
    for line in lines:
        if found := re.match(r"\s+(?:Example: )?(meterd .*)", line):
            yield found[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_it_fits_a_terminal_and_its_examples_are_understood(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(name, capsys)
    assert lines[0].startswith(f"Usage: meterd {name}")
    assert [line for line in lines if len(line) > WIDTH] == []
    shown = list(examples(lines))
    assert shown, f"meterd {name} --help shows no example"
    for line in shown:
        assert judge(line).info_name == name


def test_the_whole_fits_too_and_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    done = inside(capsys, "--help")
    lines = done.out.splitlines()
    assert [line for line in lines if len(line) > WIDTH] == []
    for name, does in COMMANDS.items():
        assert any(re.fullmatch(rf"\s+{name}\s+{re.escape(does)}", line) for line in lines)
    for code in ("0", "1", "2", "4", "5", "75", "78"):
        assert re.search(rf"\b{code} ", done.out)
    assert inside(capsys, "-h").out == done.out


async def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert __version__ in (await meterd("--version")).out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("pol",), "Did you mean poll?"),
        (("simulator",), "Did you mean simulate?"),
        (("maps", "--formt", "json"), "--format"),
        (("maps", "--format", "yaml"), "'table', 'tsv', 'json', 'ndjson', 'csv'"),
        (("simulate",), "MAP|ups"),
        (("frobnicate",), "No such command"),
    ],
)
def test_wrong_usage_is_code_2_with_a_hint(
    words: tuple[str, ...], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = inside(capsys, *words)
    assert (done.code, done.out) == (2, "")
    assert hint in done.err
    assert "--help" in done.err
