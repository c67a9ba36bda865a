"""`meterd import`: history from other systems, out of CSV files."""

import asyncio
from collections.abc import Callable, Mapping, Set
from contextlib import nullcontext
from datetime import date, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from meterd.cli.configuration import config_option, load_settings
from meterd.cli.progress import progress
from meterd.cli.times import now_ms
from meterd.config.settings import Settings, StoreSettings
from meterd.errors import GeneralCode, MeterdError

if TYPE_CHECKING:
    from meterd.daemon.counter_recount import Recounted, TermsOf
    from meterd.daemon.import_preview import FileReads
    from meterd.store.tools.csv_import import CsvFile, Imported
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
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check the file and tell what is in it, and what its counters would give events of.",
)
@config_option
def command(
    file: Path, zone: str | None, replace: bool, dry_run: bool, config: Path | None
) -> None:
    """Take samples of a CSV file into the store, while meterd does not run.

    Its columns are time, device, quantity, value (and unit, quality, reason); or time and
    one column for each DEVICE/QUANTITY [UNIT]. Nothing is written where a line is wrong.
    What is imported twice is there once; of one time the last value stays.

    Counters of energy go through the same guard as live ones, in time order: their totals are
    counted anew from where rows were put in. Spikes and dips are left out, resets, rollovers and
    other meters are told.
    """
    from meterd.daemon.device_names import as_called, former
    from meterd.store.tools.csv_import import CsvFile
    from meterd.store.tools.export import rfc3339

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
        _foretell(found, told, config)
        return
    settings = load_settings(config)
    # What the file calls by a former name is the device that was called so.
    told.call(former(settings))
    settings = as_called(settings)
    if not replace:
        _need_whole(settings.store, told.days)
    with progress("Importing", told.samples) as note:
        counted = asyncio.run(_bring(settings, found, told, note))
    click.echo(f"{what} are in the store.", err=True)
    for device, one in counted:
        tell_of_counters(device, one)
    known = {name for name in told.devices if name in settings.devices}
    if strange := sorted(told.devices - known):
        names = ", ".join(strange[:5])
        click.echo(f"note: meterd.yaml has no device {names}: their history stays alone.", err=True)


def _need_whole(store: StoreSettings, days: Set[tuple[str, int]]) -> None:
    """Roll-ups of a day whose samples are deleted would become those of the file's rows alone."""
    from meterd.store.db import store_url
    from meterd.store.tools.backfill import forgotten

    if lost := forgotten(store_url.find(store.url), days):
        some = ", ".join(f"{device} {_date(day)}" for device, day in lost[:3])
        text = (
            f"samples of {len(lost)} days are deleted (store.keep.raw) and only their roll-ups are "
            f"left: {some}{', …' if len(lost) > 3 else ''}; hint: take those days out of the file, "
            "or, where it has all there is to know of them, say --replace"
        )
        raise MeterdError(text, code=GeneralCode.IMPORT)


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
    settings: Settings, found: "CsvFile", told: "Imported", note: Callable[[int], None]
) -> "list[tuple[str, Recounted]]":
    from meterd.store.db.lockfile import Claim
    from meterd.store.tools.backfill import backfill
    from meterd.store.writer import Writer

    store = settings.store
    claim = Claim(f"meterd import {found.path.name}", _SETUP + told.samples / _SAMPLES_A_SECOND)
    is_filed = store.journal == "file"
    writer = Writer(store.url, commit=60.0, rows=store.rows, to_file=is_filed, claim=claim)
    await writer.open()
    try:
        await backfill(writer, found.rows(), note, closing=not told.counters)
        return await _count(writer, settings, told)
    finally:
        await writer.close()


async def _count(
    writer: "Writer", settings: Settings, told: "Imported"
) -> "list[tuple[str, Recounted]]":
    """The guarded totals of the counters that the file has rows of, by device."""
    from meterd.daemon.counter_recount import Recounted
    from meterd.daemon.counter_state import CounterState
    from meterd.daemon.replacing import count_anew
    from meterd.store.reader import Reader

    found: list[tuple[str, Recounted]] = []
    reader = Reader(settings.store.url, writer.memory)
    try:
        for device in sorted({device for device, _ in told.counters}):
            # It may have another name by now than in the file.
            now = writer.memory.catalog.renamed.get(device, device)
            terms, memory = counter_terms_in(settings, now), CounterState()
            for (first, last), quantities in told.changed(device).items():
                one = await count_anew(
                    writer,
                    reader,
                    memory,
                    now,
                    first,
                    last,
                    still=nullcontext(),
                    quantities=quantities,
                    terms=terms,
                    is_same=True,
                )
                found.append((now, one))
    finally:
        reader.rest()
        reader.close()
    return found


def counter_terms_in(settings: Settings | None, device: str) -> "TermsOf":
    """How the device's counters count, as far as the configuration knows."""
    from meterd.daemon import link_plan
    from meterd.daemon.counter_recount import unknown_terms

    if settings is None or device not in settings.devices:
        return unknown_terms
    mine = settings.model_copy(update={"devices": {device: settings.devices[device]}})
    for one in link_plan.link_plans(mine).values():
        for name, driver, each in link_plan.build(one).drivers:
            if name == device:
                return link_plan.counter_terms(driver, each)
    return unknown_terms


def _foretell(found: "CsvFile", told: "Imported", config: Path | None) -> None:
    """The events that the import would make."""
    from meterd.daemon.import_preview import counter_reads, foretold
    from meterd.store.db import store_url

    if not told.counters:
        return
    settings = _settings(config)
    url = None if settings is None else settings.store.url
    if url is not None and not store_url.find(url).made():
        url = None
    given = told.totals.keys()
    rows = ((n, row) for n, row in found.numbered() if (row.device, row.quantity) not in given)
    reads = counter_reads(rows)
    for device in sorted({name[0] for name in reads}):
        one = foretold(url, device, reads, counter_terms_in(settings, device))
        tell_of_counters(
            device, one, {name[1]: some for name, some in reads.items() if name[0] == device}
        )


def _settings(config: Path | None) -> Settings | None:
    """None where there is no configuration: a file can be looked at without one."""
    try:
        return load_settings(config)
    except MeterdError:
        if config is not None:
            raise
        return None


def tell_of_counters(
    device: str, told: "Recounted", reads: "Mapping[str, FileReads]" = MappingProxyType({})
) -> None:
    """A line for each event, oldest first; `reads` have the lines of a file."""
    from meterd.store.tools.export import rfc3339

    for event in sorted(told.events, key=lambda event: event.time):
        line = reads[event.quantity].line(event.time) if event.quantity in reads else None
        at = rfc3339(event.time) if line is None else f"line {line}, {rfc3339(event.time)}"
        click.echo(f"{device} {event.quantity}, {at}: {event.kind}: {event.text}", err=True)
    if told.more:
        click.echo(f"{device}: and {told.more} more of this kind.", err=True)
