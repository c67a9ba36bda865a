"""`meterd export`: every sample of a window, for other programs."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meterd.cli.configuration import config_option, load_settings
from meterd.cli.times import moment, now_ms
from meterd.errors import MeterdError

if TYPE_CHECKING:
    from meterd.store.asked import SeriesInfo
    from meterd.store.reader import Reader
    from meterd.store.tools.export import Line, Wanted

_FORMATS = ("csv", "ndjson", "openmetrics", "parquet")


@click.command(
    epilog="""\b
Examples:
  meterd export > all.csv
  meterd export main --quantity active_power --start now-7d --format ndjson
  meterd export --format openmetrics -o history.om
  meterd export main --format parquet -o main.parquet
"""
)
@click.argument("devices", nargs=-1, metavar="[DEVICE…]")
@click.option("--quantity", "quantities", multiple=True, metavar="NAME", help="Only this one.")
@click.option("--start", metavar="TIME", help="RFC 3339, Unix seconds or now-7d; else the oldest.")
@click.option("--end", metavar="TIME", help="The first moment after it; else now.")
@click.option("--format", "format_", type=click.Choice(_FORMATS), default="csv", show_default=True)
@click.option(
    "-o", "--output", "target", type=click.Path(path_type=Path, dir_okay=False), help="A file."
)
@config_option
def command(config: Path | None, target: Path | None, format_: str, **asked: Any) -> None:
    """Write every sample with its quality, as long as it takes; meterd may run meanwhile.

    A null is empty (csv) or null. openmetrics leaves out what is null or invalid; it is what
    `promtool tsdb create-blocks-from openmetrics` reads. parquet needs `meterd[parquet]`.
    """
    from meterd.store.reader import Reader

    now = now_ms()
    settings = load_settings(config)
    reader = Reader.outside(settings.store.url)
    try:
        wanted = _wanted(reader, now, **asked)
        if format_ == "parquet":
            _parquet(reader, wanted, target)
        elif target is None:
            _write(_texts(reader, wanted, format_), sys.stdout)
        else:
            with target.open("w", encoding="utf-8", newline="") as file:
                _write(_texts(reader, wanted, format_), file)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise MeterdError(f"{target}: {error.strerror}", code="output") from error
    finally:
        reader.close()


def _wanted(
    reader: "Reader",
    now: int,
    devices: tuple[str, ...],
    quantities: tuple[str, ...],
    start: str | None,
    end: str | None,
) -> "Wanted":
    from meterd.config.names import near
    from meterd.store.tools.export import Wanted

    infos = reader.names()
    for what, asked, known in (
        ("device", devices, {one.device for one in infos}),
        ("quantity", quantities, {one.quantity for one in infos}),
    ):
        for name in asked:
            if name not in known:
                hint = near(name, known) or "see GET series"
                raise click.UsageError(f"The store has no {what} {name!r}: {hint}.")
    first = moment("--start", start, now) if start else 0
    last = moment("--end", end, now) if end else now + 1
    if first >= last:
        raise click.UsageError("--start has to lie before --end.")
    return Wanted(frozenset(devices) or None, frozenset(quantities) or None, first, last)


def _write(texts: Iterable[str], file: Any) -> None:
    for text in texts:
        file.write(text)
    file.flush()


def _texts(reader: "Reader", wanted: "Wanted", format_: str) -> Iterator[str]:
    from meterd.store.tools.export import TEXTS, lines

    if format_ == "openmetrics":
        yield from _openmetrics(reader, wanted)
    else:
        yield from TEXTS[format_](lines(reader, wanted))


def _openmetrics(reader: "Reader", wanted: "Wanted") -> Iterator[str]:
    """Family by family, since their samples have to stand together."""
    from meterd.api.promapi import names
    from meterd.model.quantity import describe
    from meterd.store.tools.export import of_series, series

    families: dict[str, list[SeriesInfo]] = {}
    for info in series(reader, wanted):
        if quantity := describe(info.quantity, info.unit):
            families.setdefault(names.metric_name(quantity), []).append(info)
    for metric, infos in sorted(families.items()):
        quantity = describe(infos[0].quantity, infos[0].unit)
        if quantity is None:
            continue
        kind, family = names.metric_type(quantity), metric.removesuffix("_total")
        yield f"# TYPE {family} {kind}\n"
        if unit := names.metric_unit(quantity):
            yield f"# UNIT {family} {unit}\n"
        for info in infos:
            yield from _points(metric, info, of_series(reader, info.device, [info], wanted))
    yield "# EOF\n"


def _points(metric: str, info: "SeriesInfo", found: "Iterable[Line]") -> Iterator[str]:
    from meterd.model.quantity import describe

    quantity = describe(info.quantity, info.unit)
    phase = f',phase="{quantity.phase}"' if quantity and quantity.phase else ""
    name = f'{metric}{{device="{info.device}"{phase}}}'
    for line in found:
        if line.value is not None and line.quality != "invalid":
            yield f"{name} {line.value!r} {line.time // 1000}.{line.time % 1000:03}\n"


def _parquet(reader: "Reader", wanted: "Wanted", target: Path | None) -> None:
    from meterd.store.tools.export import lines
    from meterd.store.tools.parquet import write

    if target is None:
        raise click.UsageError("parquet is no text: name a file with -o.")
    write(lines(reader, wanted), target)
