"""A progress bar on stderr, where that is a terminal."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from meterd.cli.terminal import raw


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a bar; yields the function that advances it by a number of steps."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda more: None
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=raw(sys.stderr), no_color="NO_COLOR" in os.environ)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda more: bar.advance(task, more)
