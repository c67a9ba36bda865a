"""`meterd export`: samples or roll-ups of a time range as CSV, NDJSON, OpenMetrics or Parquet."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from meterd.cli.configuration import config_option, load_settings
from meterd.cli.progress import progress
from meterd.cli.times import moment, now_ms
from meterd.errors import GeneralCode, MeterdError
from meterd.model.text import for_spreadsheets

if TYPE_CHECKING:
    from meterd.cli.openmetrics import Labels
    from meterd.config.settings import Settings
    from meterd.store.reader import Reader
    from meterd.store.tools.export import ExportedSample, Wanted

_FORMATS = ("csv", "ndjson", "openmetrics", "parquet")
_RESOLUTIONS = ("raw", "15m", "1h", "1d")


@click.command(
    epilog="""\b
Examples:
  meterd export > all.csv
  meterd export main --quantity active_power --start now-7d --format ndjson
  meterd export --format openmetrics -o history.om
  meterd export --resolution 1d --quantity active_energy.import
  meterd export main --format parquet -o main.parquet
"""
)
@click.argument("devices", nargs=-1, metavar="[DEVICE…]")
@click.option("--quantity", "quantities", multiple=True, metavar="NAME", help="Only this one.")
@click.option(
    "--start",
    metavar="TIME",
    help="2026-10-01, 2026-10, last-month, now-7d, RFC 3339, Unix seconds; else the oldest.",
)
@click.option("--end", metavar="TIME", help="The first moment after it; else now.")
@click.option("--format", "format_", type=click.Choice(_FORMATS), default="csv", show_default=True)
@click.option(
    "--resolution",
    type=click.Choice(_RESOLUTIONS),
    default="raw",
    show_default=True,
    help="Samples as they were, or what quarter hours, hours or UTC days come to.",
)
@click.option(
    "-o", "--output", "target", type=click.Path(path_type=Path, dir_okay=False), help="A file."
)
@click.option(
    "--spreadsheet/--raw-csv",
    "is_spreadsheet",
    default=None,
    help="csv: a text that begins with = + - @ gets a ' before it, so that no spreadsheet runs "
    "it; on for -o FILE and on a terminal, off in a pipe.",
)
@config_option
def command(
    config: Path | None,
    target: Path | None,
    format_: str,
    resolution: str,
    is_spreadsheet: bool | None,
    **options: Any,
) -> None:
    """Write every sample with its quality, as long as it takes; meterd may run meanwhile.

    A null is empty (csv) or null. openmetrics leaves out what is null or invalid, and has the
    names and labels of /metrics; `promtool tsdb create-blocks-from openmetrics` reads it.
    parquet needs `meterd[parquet]`.
    Where `keep: {raw: …}` has deleted samples, --resolution 15m, 1h and 1d still have their
    number, least, mean and greatest value, and what counters rose by, also over a gap.
    """
    from meterd.store.reader import Reader

    settings = load_settings(config)
    if format_ == "parquet" and target is None:
        raise click.UsageError("parquet is no text: name a file with -o.")
    from meterd.daemon.device_names import as_called

    labels = {name: device.labels for name, device in as_called(settings).devices.items()}
    reader = Reader.outside(settings.store.url)
    try:
        wanted = _wanted(reader, now_ms(), ZoneInfo(settings.site.timezone), **options)
        if resolution == "raw":
            _note_deleted_samples(settings, reader, wanted)
        if is_spreadsheet is None:
            is_spreadsheet = target is not None or sys.stdout.isatty()
        if target is None:
            _print(
                _texts(reader, wanted, format_, resolution, labels, is_spreadsheet=is_spreadsheet)
            )
        elif format_ == "parquet":
            with _atomic_file(target) as path:
                _parquet(reader, wanted, path, resolution)
        else:
            with _atomic_file(target) as path, path.open("w", encoding="utf-8", newline="") as file:
                _write(
                    _texts(
                        reader, wanted, format_, resolution, labels, is_spreadsheet=is_spreadsheet
                    ),
                    file,
                )
    finally:
        reader.close()


@contextmanager
def _atomic_file(target: Path) -> Iterator[Path]:
    """A path to write to that replaces the target when complete; a pipe is written directly."""
    path = target.resolve()
    is_file = path.is_file() or not path.exists()
    partial = path.with_name(f"{path.name}.part") if is_file else path
    try:
        yield partial
        if is_file:
            partial.replace(path)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise MeterdError(
            f"{target}: {error.strerror or error}", code=GeneralCode.OUTPUT
        ) from error
    finally:
        if is_file:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def _print(texts: Iterable[str]) -> None:
    try:
        _write(texts, sys.stdout)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise MeterdError(f"stdout: {error.strerror or error}", code=GeneralCode.OUTPUT) from error


def _note_deleted_samples(settings: "Settings", reader: "Reader", wanted: "Wanted") -> None:
    """Print a note where samples of the range are deleted and only roll-ups of them are left."""
    from meterd.store.db import store_url
    from meterd.store.query.block_reader import first_raw_time
    from meterd.store.tools.export import rfc3339, series

    first = min((info.first for info in series(reader, wanted)), default=None)
    if first is None:
        return
    with store_url.find(settings.store.url).reading() as connection:
        left = first_raw_time(connection) or 0
    if max(first, wanted.start) < left:
        text = f"note: samples before {rfc3339(left)} are deleted (store.keep.raw);"
        click.echo(f"{text}\n--resolution 15m, 1h or 1d has what is left of them.", err=True)


def _wanted(
    reader: "Reader",
    now: int,
    zone: ZoneInfo,
    devices: tuple[str, ...],
    quantities: tuple[str, ...],
    start: str | None,
    end: str | None,
) -> "Wanted":
    from meterd.config.names import spelling_hint
    from meterd.store.tools.export import Wanted

    infos = reader.names()
    for what, names, stored in (
        ("device", devices, {info.device for info in infos}),
        ("quantity", quantities, {info.quantity for info in infos}),
    ):
        for name in names:
            if name not in stored:
                hint = spelling_hint(name, stored) or "it is empty"
                raise click.UsageError(f"The store has no {what} {name!r}: {hint}")
    first = moment("--start", start, now, zone) if start else 0
    last = moment("--end", end, now, zone) if end else now + 1
    if first >= last:
        raise click.UsageError("--start has to lie before --end.")
    return Wanted(frozenset(devices) or None, frozenset(quantities) or None, first, last)


def _write(texts: Iterable[str], file: Any) -> None:
    # On a terminal the output itself shows the progress.
    with progress("Writing") if not file.isatty() else nullcontext(lambda _: None) as note:
        for text in texts:
            file.write(text)
            note(1)
    file.flush()


def _texts(
    reader: "Reader",
    wanted: "Wanted",
    format_: str,
    resolution: str,
    labels: "Labels",
    *,
    is_spreadsheet: bool,
) -> Iterator[str]:
    from meterd.cli import openmetrics
    from meterd.store.tools import downsampled_export, export

    if resolution == "raw":
        if format_ == "openmetrics":
            return openmetrics.samples(reader, wanted, labels)
        lines = export.lines(reader, wanted)
        return export.TEXTS[format_](
            map(_without_formulas, lines) if is_spreadsheet and format_ == "csv" else lines
        )
    if format_ == "openmetrics":
        return openmetrics.buckets(reader, wanted, resolution, labels)
    return downsampled_export.TEXTS[format_](downsampled_export.buckets(reader, wanted, resolution))


def _without_formulas(line: "ExportedSample") -> "ExportedSample":
    """Escape unit and reason, which devices and files supply. Names always begin with a letter."""
    if not line.reason and line.unit[:1].isalnum():
        return line
    return line._replace(unit=for_spreadsheets(line.unit), reason=for_spreadsheets(line.reason))


def _parquet(reader: "Reader", wanted: "Wanted", target: Path, resolution: str) -> None:
    from meterd.store.tools import downsampled_export, export
    from meterd.store.tools.parquet import write

    if resolution == "raw":
        write(export.lines(reader, wanted), export.COLUMNS, target)
    else:
        write(
            downsampled_export.buckets(reader, wanted, resolution),
            downsampled_export.COLUMNS,
            target,
        )
