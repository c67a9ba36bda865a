"""`meterd drivers`: lists the installed drivers, built-in ones and plug-ins."""

from dataclasses import asdict

import click

from meterd.cli import output
from meterd.drivers import registry


@click.command(epilog="Example: meterd drivers --format json")
@output.format_option
def command(format_: str | None) -> None:
    """List the drivers that `driver:` may name, and the package that brought each."""
    rows = [asdict(info) for info in registry.listing()]
    output.show(("name", "package", "text"), rows, format_, rows)
