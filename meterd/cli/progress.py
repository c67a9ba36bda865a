"""A bar on stderr for what takes its time; nothing at all where stderr is no terminal."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from meterd.cli.terminal import raw


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Gives a function that is told how much more is done."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda more: None
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=raw(sys.stderr), no_color="NO_COLOR" in os.environ)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda more: bar.advance(task, more)
