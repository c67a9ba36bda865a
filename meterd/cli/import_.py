"""`meterd import`: history from other systems, out of CSV files."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from meterd.cli.configuration import config_option, load_settings
from meterd.cli.progress import progress
from meterd.cli.times import now_ms

if TYPE_CHECKING:
    from meterd.store.tools.imports import CsvFile


@click.command(
    "import",
    epilog="""\b
Examples:
  meterd import history.csv --dry-run
  meterd import history.csv --zone Europe/Berlin
""",
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--zone", metavar="ZONE", help="The time zone of times that do not say theirs.")
@click.option("--dry-run", is_flag=True, help="Check the file and tell what is in it; no more.")
@config_option
def command(file: Path, zone: str | None, dry_run: bool, config: Path | None) -> None:
    """Take samples of a CSV file into the store, while meterd does not run.

    Its columns are time, device, quantity, value (and unit, quality, reason); or time and
    one column for each DEVICE/QUANTITY [UNIT]. Nothing is written where a line is wrong.
    What is imported twice is there once; of one time the last value stays.
    """
    from meterd.store.tools.export import rfc3339
    from meterd.store.tools.imports import CsvFile

    found = CsvFile(file, _zone(zone), now_ms())
    told = found.check()
    if told.first is None or told.last is None:
        click.echo(f"{file} holds no samples.", err=True)
        return
    what = f"{told.samples} samples of {len(told.devices)} devices, "
    what += f"{rfc3339(told.first)} to {rfc3339(told.last)}"
    if dry_run:
        click.echo(f"{file}: {what}; every line is understood.", err=True)
        return
    settings = load_settings(config)
    with progress("Importing", told.samples) as note:
        asyncio.run(_bring(settings.store.url, found, note))
    click.echo(f"{what} are in the store.", err=True)
    known = {name for name in told.devices if name in settings.devices}
    if strange := sorted(told.devices - known):
        names = ", ".join(strange[:5])
        click.echo(f"note: meterd.yaml has no device {names}: their history stays alone.", err=True)


def _zone(name: str | None) -> ZoneInfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise click.UsageError(f"There is no time zone {name!r}: write Europe/Berlin.") from error


async def _bring(url: str | Sequence[str], found: "CsvFile", note: Callable[[int], None]) -> None:
    from meterd.store.tools.bring import bring
    from meterd.store.writer import Writer

    writer = Writer(url, commit=60.0)
    await writer.open()
    try:
        await bring(writer, found.rows(), note)
    finally:
        await writer.close()
