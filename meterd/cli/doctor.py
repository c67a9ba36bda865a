"""`meterd doctor`: what around meterd may keep it from working, and what to do about it."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from meterd.cli import checks, output
from meterd.cli.checks import Finding
from meterd.cli.configuration import config_option, load_settings
from meterd.errors import MeterdError

_COLUMNS = ("area", "state", "what", "todo")


@click.command(epilog="Example: meterd doctor -c /etc/meterd/meterd.yaml")
@config_option
@output.format_option
def command(config: Path | None, format_: str | None) -> int:
    """Look at versions, clock, permissions, store, links and ports; change nothing.

    Run it as the user that meterd runs as. Exit code 1 where something is wrong; what is
    only unusual is a warning.
    """
    found = list(_findings(config))
    rows = [asdict(one) for one in found]
    output.show(_COLUMNS, rows, format_, {"findings": rows})
    wrong = sum(one.state == checks.WRONG for one in found)
    if wrong:
        click.echo(f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong.", err=True)
    return 1 if wrong else 0


def _findings(config: Path | None) -> Iterator[Finding]:
    yield from checks.environment()
    yield checks.clock()
    try:
        settings = load_settings(config)
    except MeterdError as error:
        first = str(error).splitlines()[0]
        yield Finding("configuration", checks.WRONG, first, "`meterd check` tells all of it")
        return
    count = len(settings.devices)
    yield Finding("configuration", checks.FINE, f"{count} devices, no mistakes")
    is_running = False
    spool = settings.store.spool.file
    place = None if spool is None else Path(spool).absolute()
    for one in checks.store(settings.store.url, place):
        is_running = is_running or one.what == checks.RUNNING
        yield one
    yield from checks.links(settings)
    yield from checks.certificate(settings)
    yield from checks.ports(settings, is_running)
