"""`meterd import`: history from other systems, out of CSV files."""

import asyncio
from collections.abc import Callable, Set
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from meterd.cli.configuration import config_option, load_settings
from meterd.cli.progress import progress
from meterd.cli.times import now_ms
from meterd.config.settings import StoreSettings
from meterd.errors import MeterdError

if TYPE_CHECKING:
    from meterd.store.tools.imports import CsvFile, Imported
    from meterd.store.writer import Writer

# What an import takes at most, on a slow machine: a minute, and a second for so many samples.
_SETUP = 60.0
_SAMPLES_A_SECOND = 2000


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
@click.option(
    "--replace", is_flag=True, help="Also days whose samples are deleted: only the file's count."
)
@click.option("--dry-run", is_flag=True, help="Check the file and tell what is in it; no more.")
@config_option
def command(
    file: Path, zone: str | None, replace: bool, dry_run: bool, config: Path | None
) -> None:
    """Take samples of a CSV file into the store, while meterd does not run.

    Its columns are time, device, quantity, value (and unit, quality, reason); or time and
    one column for each DEVICE/QUANTITY [UNIT]. Nothing is written where a line is wrong.
    What is imported twice is there once; of one time the last value stays.
    """
    from meterd.store.tools.export import rfc3339
    from meterd.store.tools.imports import CsvFile

    found = CsvFile(file, _zone(zone), now_ms())
    with progress("Checking"):
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
    if not replace:
        _need_whole(settings.store, told.days)
    with progress("Importing", told.samples) as note:
        asyncio.run(_bring(settings.store, found, told, note))
    click.echo(f"{what} are in the store.", err=True)
    known = {name for name in told.devices if name in settings.devices}
    if strange := sorted(told.devices - known):
        names = ", ".join(strange[:5])
        click.echo(f"note: meterd.yaml has no device {names}: their history stays alone.", err=True)


def _need_whole(store: StoreSettings, days: Set[tuple[str, int]]) -> None:
    """Roll-ups of a day whose samples are deleted would become those of the file's rows alone."""
    from meterd.store import database
    from meterd.store.tools.bring import forgotten

    if lost := forgotten(database.find(store.url), days):
        some = ", ".join(f"{device} {_date(day)}" for device, day in lost[:3])
        text = (
            f"samples of {len(lost)} days are deleted (store.keep.raw) and only their roll-ups are "
            f"left: {some}{', …' if len(lost) > 3 else ''}; hint: take those days out of the file, "
            "or, where it has all there is to know of them, say --replace"
        )
        raise MeterdError(text, code="import")


def _date(day: int) -> date:
    return date(1970, 1, 1) + timedelta(days=day)


def _zone(name: str | None) -> ZoneInfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise click.UsageError(f"There is no time zone {name!r}: write Europe/Berlin.") from error


async def _bring(
    store: StoreSettings, found: "CsvFile", told: "Imported", note: Callable[[int], None]
) -> None:
    from meterd.store.lock import Claim
    from meterd.store.tools.bring import bring
    from meterd.store.writer import Writer

    claim = Claim(f"meterd import {found.path.name}", _SETUP + told.samples / _SAMPLES_A_SECOND)
    is_filed = store.journal == "file"
    writer = Writer(store.url, commit=60.0, rows=store.rows, to_file=is_filed, claim=claim)
    await writer.open()
    try:
        await bring(writer, found.rows(), note)
        await _count(writer, store, told)
    finally:
        await writer.close()


async def _count(writer: "Writer", store: StoreSettings, told: "Imported") -> None:
    """The guarded totals of the counters that the file has rows of."""
    from meterd.daemon.recount import recount
    from meterd.store.reader import Reader

    reader = Reader(store.url, writer.memory)
    try:
        for device in sorted({device for device, _ in told.counters}):
            mine = {q: span for (name, q), span in told.counters.items() if name == device}
            first = min(first for first, _ in mine.values())
            last = max(last for _, last in mine.values())
            await recount(writer, reader, device, first, last, quantities=mine)
        await writer.settle()
    finally:
        reader.rest()
        reader.close()
