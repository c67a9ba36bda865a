"""`meterd db`: info, check, backup, restore, migrate, compact and move of the store."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meterd.cli import output
from meterd.cli.configuration import config_option, load_settings
from meterd.cli.progress import progress
from meterd.errors import StoreCode, StoreError

if TYPE_CHECKING:
    from meterd.store.db.connections import Database

_FILE = click.Path(path_type=Path, dir_okay=False)
_SQLITE_PAGE_BYTES = 4096


@click.group(
    epilog="""\b
Examples:
  meterd db info --format json
  meterd db check
  meterd db backup /mnt/usb/meterd-2026-11-21.db
  meterd db move postgresql://meterd@db.example/meterd
"""
)
def command() -> None:
    """Look into the store, check it, copy it, move it to another database.

    info, check, backup and move work while meterd runs; restore, migrate and compact
    want it stopped.
    """


@command.command(
    "info", short_help="Size, samples, bytes per sample, devices, oldest and newest sample."
)
@config_option
@output.format_option
def _info(config: Path | None, format_: str | None) -> None:
    """Show size, samples, bytes per sample, devices, the oldest and newest sample."""
    from meterd.store.tools import overview

    database = _database(config)
    with progress("Reading blocks") as note:
        info = overview.info(database, note)
    facts = asdict(info) | {"bytes_per_sample": info.bytes_per_sample}
    for name in ("oldest", "newest"):
        facts[name] = _time(facts[name])
    rows = [{"what": name, "value": value} for name, value in facts.items()]
    output.show(("what", "value"), [_with_rounded_value(row) for row in rows], format_, facts)


@command.command(
    "check", short_help="Decode every block, make every roll-up again, name what is wrong."
)
@config_option
@output.format_option
def _check(config: Path | None, format_: str | None) -> int:
    """Decode every block and make every roll-up again; exit code 1 names what is wrong."""
    from meterd.store.tools import check

    spool = load_settings(config).store.spool.file
    spool_path = None if spool is None else Path(spool).absolute()
    with progress("Checking blocks and roll-ups") as note:
        rows = [{"problem": text} for text in check.problems(_database(config), note, spool_path)]
    if rows or output.effective_format(format_) not in ("table", "tsv"):
        document = {"problems": [row["problem"] for row in rows]}
        output.show(("problem",), rows, format_, document)
    if rows:
        hint = "restore a backup, or keep the file and ask for help; polling can go on meanwhile"
        click.echo(f"{len(rows)} problems; hint: {hint}", err=True)
        return 1
    click.echo("The store is sound.", err=True)
    return 0


@command.command("backup", short_help="Copy the store into a file, while meterd runs.")
@click.argument("file", type=_FILE)
@config_option
def _backup(file: Path, config: Path | None) -> None:
    """Copy the store into FILE, while meterd runs; the copy is checked."""
    from meterd.store.tools import backup
    from meterd.store.tools.move import rows

    database = _database(config)
    if not database.made():
        raise StoreError(f"{database.label}: there is no store yet", code=StoreCode.NO_STORE)
    if database.path is None:
        with progress("Copying rows", rows(database)) as note:
            size = backup.of_server(database, file, note)
    else:
        with progress("Copying", database.path.stat().st_size // _SQLITE_PAGE_BYTES) as note:
            size = backup.backup(database, file, note)
    click.echo(f"{file}: {size} bytes; `meterd db restore {file}` puts it back.", err=True)


@command.command("restore", short_help="Put a backup in the place of the store.")
@click.argument("file", type=_FILE)
@config_option
def _restore(file: Path, config: Path | None) -> None:
    """Put the backup FILE in the place of the store; the old one is kept aside."""
    from meterd.store.tools import backup

    with progress("Copying") as note:
        kept = backup.restore(_database(config), file, _now(), note)
    for old in kept:
        click.echo(f"kept: {old}", err=True)
    click.echo(f"{file} is the store now; start meterd.", err=True)


@command.command("migrate", short_help="Bring the store to this meterd's schema.")
@config_option
def _migrate(config: Path | None) -> None:
    """Bring the store to this meterd's schema; a file is copied before."""
    from meterd.store.db import migrate
    from meterd.store.db.lockfile import claimed
    from meterd.store.tools import overview

    database = _database(config)
    database.prepare()
    lock = database.lock(claimed("meterd db migrate", overview.size(database)))
    try:
        if not overview.is_behind(database) and database.made():
            click.echo(f"The schema is {migrate.versions()[-1]} already.", err=True)
            return
        with progress("Copying and changing"):
            migrate.upgrade(database)
    finally:
        lock.release()
    click.echo(f"The schema is {migrate.versions()[-1]} now.", err=True)


@command.command("compact", short_help="Merge small blocks of past days, give free pages back.")
@config_option
def _compact(config: Path | None) -> None:
    """Merge small blocks of past days, and give free pages back."""
    from meterd.store.tools import compact

    settings = load_settings(config)
    with progress("Merging blocks"):
        before, after = asyncio.run(
            compact.compact(settings.store.url, _now(), hours=settings.store.plain_hours)
        )
    click.echo(f"{before} blocks became {after}.", err=True)


@command.command("move", short_help="Copy the store to another database, while meterd runs.")
@click.argument("url")
@config_option
def _move(url: str, config: Path | None) -> None:
    """Copy the store to the database URL, while meterd runs; again to catch up.

    What is there already is not sent again, so a copy that was broken off goes on.
    """
    from meterd.store.tools.move import move, rows

    database = _database(config)
    try:
        with progress("Copying rows", rows(database)) as note:
            result = move(database, url, lambda _, more: note(more))
    except KeyboardInterrupt:
        click.echo("Broken off: the same command goes on from here.", err=True)
        raise
    total = sum(result.rows.values())
    click.echo(f"{total} rows are the same in both; {result.sent} were sent now.", err=True)
    click.echo(
        "To use it: stop meterd, run this once more, write the URL into store.url of\n"
        "meterd.yaml, and start meterd. The old store stays as it is.",
        err=True,
    )


def _database(config: Path | None) -> "Database":
    from meterd.store.db import store_url

    return store_url.find(load_settings(config).store.url)


def _now() -> int:
    from meterd.model.clock import SystemClock

    return SystemClock().now_ms()


def _time(ms: int | None) -> str | None:
    from meterd.store.tools.export import rfc3339

    return None if ms is None else rfc3339(ms)


def _with_rounded_value(row: dict[str, Any]) -> dict[str, Any]:
    value = row["value"]
    return {**row, "value": f"{value:.3f}" if isinstance(value, float) else value}
