"""What others have written does nothing to the terminal that shows it, nor to a log."""

import io
import json
import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest

from meterd.cli import output
from meterd.cli.logging_setup import EscapingFormatter
from meterd.cli.terminal import escaping_streams
from tests.cli.command import COMMAND, environment
from tests.cli.inside import inside

EVIL = "\x1b[2J\x1b]0;x\x07\x9b1m\u202e=1+1"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("format_", output.FORMATS)
def test_cells_are_escaped_in_every_format(format_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("NO_COLOR", "1")
    rows = [{"name": EVIL, "value": -1.5}, {"name": "=2+2", "value": 2.0}]
    with escaping_streams():
        output.show(("name", "value"), rows, format_, rows)
    said = out.getvalue()
    assert said
    assert all(c.isprintable() or c in "\n\t" for c in said), ascii(said)
    if format_ == "json":
        assert json.loads(said) == rows
    if format_ == "csv":
        assert "'=2+2,2" in said
        assert ",-1.5" in said


def test_a_program_gets_csv_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with escaping_streams():
        output.show(("name",), [{"name": "=2+2"}, {"name": EVIL}], "csv", None)
    assert out.getvalue() == f"name\n=2+2\n{EVIL}\n"


def test_what_is_echoed_is_escaped_on_stderr_always(capsys: pytest.CaptureFixture[str]) -> None:
    with escaping_streams():
        click.echo(EVIL, err=True)
        sys.stderr.write("line\n")
    said = capsys.readouterr().err
    assert said.endswith("line\n")
    assert all(c.isprintable() or c == "\n" for c in said)


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\nb", "\udcff", "\u202e", "x" * 300])
@pytest.mark.parametrize("words", [("check", "-c"), ("maps",), ("import",), ("poll",)])
def test_names_of_files_are_shown_escaped_and_end_in_no_traceback(
    capsys: pytest.CaptureFixture[str], name: str, words: tuple[str, ...]
) -> None:
    done = inside(capsys, *words, f"./{name}.yaml")
    assert done.code in (1, 2, 78)
    assert all(c.isprintable() or c in "\n\t" for c in done.err + done.out)
    assert "Traceback" not in done.err


def test_a_log_line_of_a_device_is_one_entry() -> None:
    record = logging.makeLogRecord(
        {"msg": "serial %s", "args": (f"12\n2026-11-30 ERROR fake{EVIL}",), "levelname": "INFO"}
    )
    said = EscapingFormatter("%(levelname)s %(message)s").format(record)
    first, second = said.splitlines()
    assert first == "INFO serial 12"
    assert second.startswith("    2026-11-30 ERROR fake\\x1b[2J")


def test_on_a_real_terminal_nothing_raw_arrives(tmp_path: Path) -> None:
    (tmp_path / "meterd.yaml").write_text(
        'devices: {ups: {driver: megatec, link: "serial:///dev/nowhere", '
        'labels: {place: "attic"}}}\n'
    )
    here, there = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "devices", "-c", str(tmp_path / "\x1b[31mx.yaml")],
        stdin=subprocess.DEVNULL,
        stdout=there,
        stderr=there,
        env={**environment(), "NO_COLOR": "1"},
        timeout=60,
        check=False,
    )
    os.close(there)
    said = os.read(here, 10_000).decode()
    os.close(here)
    assert done.returncode == 78
    assert "\\x1b[31mx.yaml" in said
    assert "\x1b" not in said
