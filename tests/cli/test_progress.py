"""The line that says how far something is: drawn over itself, then gone."""

import io
import sys

import pytest

from meterd.cli.progress import ProgressLine, progress

ERASE = "\r\x1b[K"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Watch:
    """Seconds, as a test says."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def drawn(stream: io.StringIO) -> list[str]:
    return stream.getvalue().split(ERASE)[1:]


def test_it_is_drawn_when_a_stage_begins_and_ten_times_a_second_at_most() -> None:
    stream, watch = io.StringIO(), Watch()
    line = ProgressLine(stream, watch)
    line.begin("Copying", 200)
    for _ in range(100):
        watch.now += 0.01
        line.advance(1)
    line.close()
    first, *rest, last = drawn(stream)
    assert first == f"Copying [{' ' * 30}]   0%"
    assert 9 <= len(rest) <= 10
    assert rest[-1].startswith(f"Copying [{'#' * 14}")
    assert last == ""


def test_more_than_all_is_all() -> None:
    stream, watch = io.StringIO(), Watch()
    line = ProgressLine(stream, watch)
    line.begin("Copying", 10)
    watch.now = 1.0
    line.advance(15)
    assert drawn(stream)[-1] == f"Copying [{'#' * 30}] 100%"


def test_where_the_end_is_unknown_the_steps_are_counted() -> None:
    stream, watch = io.StringIO(), Watch()
    line = ProgressLine(stream, watch)
    line.begin("Writing", None)
    watch.now = 1.0
    line.advance(12_345)
    assert drawn(stream) == ["Writing …", "Writing 12,345"]


def test_it_fits_in_one_line_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    stream = io.StringIO()
    ProgressLine(stream, Watch()).begin("Copying rows", 7)
    assert drawn(stream) == ["Copying rows [     "]


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal as stderr, that may be drawn on."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


def test_it_is_gone_at_the_end_also_of_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    with pytest.raises(ZeroDivisionError), progress("Copying", 2) as note:
        note(1 // 0)
    assert drawn(stream)[-1] == ""


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_it_is_not_drawn_where_nobody_wants_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    stream = terminal(monkeypatch)
    monkeypatch.setenv(name, value)
    with progress("Copying", 2) as note:
        note(1)
    assert stream.getvalue() == ""


def test_it_is_not_drawn_into_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress("Copying", 2) as note:
        note(1)
    assert stream.getvalue() == ""
