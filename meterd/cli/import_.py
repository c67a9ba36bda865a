"""`meterd import`: imports the history of other systems from CSV files."""

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

# Of the store's lock, on a slow machine: seconds, and samples that are imported in a second.
_SETUP_MAX_S = 60.0
_SAMPLES_PER_S_MIN = 2000


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

    source = CsvFile(file, _zone(zone), now_ms())
    with progress("Checking"):
        summary = source.check()
    if summary.first is None or summary.last is None:
        click.echo(f"{file} holds no samples.", err=True)
        return
    text = f"{summary.samples} samples of {len(summary.devices)} devices, "
    text += f"{rfc3339(summary.first)} to {rfc3339(summary.last)}"
    if dry_run:
        click.echo(f"{file}: {text}; every line is understood.", err=True)
        _print_preview(source, summary, config)
        return
    settings = load_settings(config)
    # A former name in the file means the renamed device.
    summary.call(former(settings))
    settings = as_called(settings)
    if not replace:
        _check_deleted_days(settings.store, summary.days)
    with progress("Importing", summary.samples) as note:
        counted = asyncio.run(_import(settings, source, summary, note))
    click.echo(f"{text} are in the store.", err=True)
    for device, recounted in counted:
        print_counter_events(device, recounted)
    configured = {name for name in summary.devices if name in settings.devices}
    if others := sorted(summary.devices - configured):
        names = ", ".join(others[:5])
        click.echo(f"note: meterd.yaml has no device {names}: their history stays alone.", err=True)


def _check_deleted_days(store: StoreSettings, days: Set[tuple[str, int]]) -> None:
    """Refuse days whose samples are deleted: roll-ups would then cover the file's rows only."""
    from meterd.store.db import store_url
    from meterd.store.tools.backfill import forgotten

    if lost := forgotten(store_url.find(store.url), days):
        shown = ", ".join(f"{device} {_date(day)}" for device, day in lost[:3])
        text = (
            f"samples of {len(lost)} days are deleted (store.keep.raw) and only their roll-ups are "
            f"left: {shown}{', …' if len(lost) > 3 else ''}; hint: take those days out of the "
            "file, or, where it has all there is to know of them, say --replace"
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


async def _import(
    settings: Settings, source: "CsvFile", summary: "Imported", note: Callable[[int], None]
) -> "list[tuple[str, Recounted]]":
    from meterd.store.db.lockfile import Claim
    from meterd.store.tools.backfill import backfill
    from meterd.store.writer import Writer

    store = settings.store
    claim = Claim(
        f"meterd import {source.path.name}", _SETUP_MAX_S + summary.samples / _SAMPLES_PER_S_MIN
    )
    is_filed = store.journal == "file"
    writer = Writer(
        store.url,
        commit=60.0,
        rows=store.rows,
        hours=store.plain_hours,
        to_file=is_filed,
        claim=claim,
    )
    await writer.open()
    try:
        await backfill(writer, source.rows(), note, closing=not summary.counters)
        return await _recount(writer, settings, summary)
    finally:
        await writer.close()


async def _recount(
    writer: "Writer", settings: Settings, summary: "Imported"
) -> "list[tuple[str, Recounted]]":
    """Recount the guarded totals of the counters in the file; the results by device."""
    from meterd.daemon.counter_recount import Recounted
    from meterd.daemon.counter_state import CounterState
    from meterd.daemon.replacing import count_anew
    from meterd.store.reader import Reader

    results: list[tuple[str, Recounted]] = []
    reader = Reader(settings.store.url, writer.memory)
    try:
        for device in sorted({device for device, _ in summary.counters}):
            # The file may have the device's former name.
            name = writer.memory.catalog.renamed.get(device, device)
            terms, memory = counter_terms_in(settings, name), CounterState()
            for (first, last), quantities in summary.changed(device).items():
                recounted = await count_anew(
                    writer,
                    reader,
                    memory,
                    name,
                    first,
                    last,
                    still=nullcontext(),
                    quantities=quantities,
                    terms=terms,
                    is_same=True,
                )
                results.append((name, recounted))
    finally:
        reader.rest()
        reader.close()
    return results


def counter_terms_in(settings: Settings | None, device: str) -> "TermsOf":
    """The counter terms of a device's map; unknown ones where it is not configured."""
    from meterd.daemon import link_plan
    from meterd.daemon.counter_recount import unknown_terms

    if settings is None or device not in settings.devices:
        return unknown_terms
    alone = settings.model_copy(update={"devices": {device: settings.devices[device]}})
    for plan in link_plan.link_plans(alone).values():
        for name, driver, options in link_plan.build(plan).drivers:
            if name == device:
                return link_plan.counter_terms(driver, options)
    return unknown_terms


def _print_preview(source: "CsvFile", summary: "Imported", config: Path | None) -> None:
    """Print the events that the counters of the import would give."""
    from meterd.daemon.import_preview import counter_reads, foretold
    from meterd.store.db import store_url

    if not summary.counters:
        return
    settings = _settings(config)
    url = None if settings is None else settings.store.url
    if url is not None and not store_url.find(url).made():
        url = None
    totals = summary.totals.keys()
    rows = ((n, row) for n, row in source.numbered() if (row.device, row.quantity) not in totals)
    reads = counter_reads(rows)
    for device in sorted({name[0] for name in reads}):
        recounted = foretold(url, device, reads, counter_terms_in(settings, device))
        print_counter_events(
            device,
            recounted,
            {name[1]: file_reads for name, file_reads in reads.items() if name[0] == device},
        )


def _settings(config: Path | None) -> Settings | None:
    """The settings; None where there is no configuration, which a dry run does not need."""
    try:
        return load_settings(config)
    except MeterdError:
        if config is not None:
            raise
        return None


def print_counter_events(
    device: str, recounted: "Recounted", reads: "Mapping[str, FileReads]" = MappingProxyType({})
) -> None:
    """Print a line for each event, oldest first; `reads` has the line numbers of a file."""
    from meterd.store.tools.export import rfc3339

    for event in sorted(recounted.events, key=lambda event: event.time):
        line = reads[event.quantity].line(event.time) if event.quantity in reads else None
        at = rfc3339(event.time) if line is None else f"line {line}, {rfc3339(event.time)}"
        click.echo(f"{device} {event.quantity}, {at}: {event.kind}: {event.text}", err=True)
    if recounted.more:
        click.echo(f"{device}: and {recounted.more} more of this kind.", err=True)
