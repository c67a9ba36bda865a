"""`meterd doctor`: checks the environment, clock, permissions, store, links and ports."""

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
    findings = list(_findings(config))
    rows = [asdict(finding) for finding in findings]
    output.show(_COLUMNS, rows, format_, {"findings": rows})
    wrong = sum(finding.state == checks.WRONG for finding in findings)
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
    spool_path = None if spool is None else Path(spool).absolute()
    for finding in checks.store(settings.store.url, spool_path):
        is_running = is_running or finding.what == checks.RUNNING
        yield finding
    yield from checks.links(settings)
    yield from checks.certificate(settings)
    yield from checks.ports(settings, is_running)
