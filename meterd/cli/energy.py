"""`meterd energy`: consumption by hour, day, week, month or year, read from the store."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from zoneinfo import ZoneInfo

import click

from meterd.cli import output
from meterd.cli.configuration import config_option, load_settings
from meterd.cli.times import moment, time_range
from meterd.config.names import spelling_hint
from meterd.config.settings import Settings
from meterd.energy.periods import Period

if TYPE_CHECKING:
    from meterd.api.problem import ApiRefusal
    from meterd.energy.consumption import EnergyQuantity
    from meterd.energy.periods import PeriodSpan
    from meterd.energy.quarter import Fetch

StoreOpener: TypeAlias = "Callable[[Settings], AbstractAsyncContextManager[OpenedStore]]"
"""Opens the store of a configuration for reading. Raises StoreError."""

_COLUMNS = ("device", "quantity", "start", "end", "value", "unit")
_COST_COLUMNS = ("cost", "energy_cost", "standing_cost", "currency")
_QUALITY_COLUMNS = ("complete", "known_share", "estimated_share", "method")
# Columns that only other formats than table have.
_HIDDEN_COLUMNS = ("end", "energy_cost", "standing_cost", "known_share")
# Columns that a table drops first where the terminal is too narrow.
_MINOR = ("method", "currency", "estimated_share", "complete", "quantity")
# Decimal places of costs in a table; other formats have all that there are.
_COST_PLACES = 2
# Tables have kWh with so many decimal places; other formats have Wh.
_KILO, _ENERGY_PLACES = 1000, 3
# Periods that begin and end at midnight, shown as dates of the site's time zone.
_DAY_PERIODS = (Period.DAY, Period.WEEK, Period.MONTH, Period.YEAR)


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """A store opened for reading; `lasts`: Unix ms of the newest sample of each device.

    `former`: former names of renamed devices -> present names.
    """

    fetch: "Fetch"
    lasts: Mapping[str, int]
    former: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EnergyRequest:
    """The arguments of the command; times are texts as given.

    `within`: a day, month or year instead of start and end.
    """

    devices: tuple[str, ...] = ()
    quantities: tuple[str, ...] = ()
    period: Period = Period.DAY
    start: str | None = None
    end: str | None = None
    within: str | None = None
    snap: bool = False
    tariff: str | None = None


def make_command(stored: StoreOpener) -> click.Command:
    """Build the command over an opener of stores, which tests replace."""

    @click.command(
        "energy",
        epilog="""\b
Examples:
  meterd energy
  meterd energy --in last-month
  meterd energy main --period month --start 2026-01 --end 2026-07
  meterd energy main --quantity active_energy.net --tariff home --format csv
""",
    )
    @click.argument("devices", nargs=-1, metavar="[DEVICE…]")
    @click.option(
        "--quantity",
        "quantities",
        multiple=True,
        metavar="NAME",
        help="An energy counter, or active_energy.net; else active_energy.import.",
    )
    @click.option(
        "--period",
        type=click.Choice([period.value for period in Period]),
        default="day",
        show_default=True,
    )
    @click.option(
        "--start",
        metavar="TIME",
        help="2026-10-01, 2026-10, last-month, yesterday, now-7d, RFC 3339 or Unix seconds.",
    )
    @click.option(
        "--end",
        metavar="TIME",
        help="The first moment after it, so October ends at 2026-11; else now.",
    )
    @click.option(
        "--in",
        "within",
        metavar="NAME",
        help="Both at once: 2026, 2026-10, 2026-W40, 2026-10-01, last-month, today.",
    )
    @click.option("--snap", is_flag=True, help="Only whole periods: widen start and end.")
    @click.option("--tariff", metavar="NAME", help="Also costs, by this tariff.")
    @config_option
    @output.format_option
    def command(config: Path | None, format_: str | None, **options: Any) -> None:
        """Print the energy of devices by hour, day, week, month or year.

        Periods and dates are those of the site's time zone. A table is in kWh, all else in Wh.
        A period of which nothing is known has no value; one that is not known from end to end is
        not complete.
        """
        settings = load_settings(config)
        request = EnergyRequest(**{**options, "period": Period(options["period"])})
        rows = asyncio.run(energy_rows(settings, request, stored, _now()))
        render(rows, ZoneInfo(settings.site.timezone), format_, request.period)

    return command


def _now() -> int:
    from meterd.model.clock import SystemClock

    return SystemClock().now_ms()


async def energy_rows(
    settings: Settings, request: EnergyRequest, stored: StoreOpener, now: int
) -> list[dict[str, Any]]:
    """The rows, as of `GET energy`. `now` is Unix ms. Raises UsageError and StoreError."""
    from meterd.api.energy import rows_of
    from meterd.energy.consumption import consume

    zone = ZoneInfo(settings.site.timezone)
    names = (request.tariff,) if request.tariff else ()
    tariffs = [settings.tariffs[name] for name in _check_names(names, settings.tariffs, "tariff")]
    tariff = tariffs[0] if tariffs else None
    energies = _energies(request)
    periods = _periods(request, zone, now)
    rows: list[dict[str, Any]] = []
    async with stored(settings) as opened:
        for device in _devices(request, settings, opened, periods):
            for energy in energies:
                consumption = await consume(
                    opened.fetch, device, energy, periods, zone=zone, now=now, tariff=tariff
                )
                if request.devices or consumption.method:
                    rows += rows_of(device, energy, consumption, tariff)
    return rows


def render(
    rows: Sequence[dict[str, Any]], zone: ZoneInfo, format_: str | None, period: Period
) -> None:
    """Print the rows: json and ndjson as `GET energy`, other formats flat with local dates."""
    table = output.effective_format(format_) == "table"
    columns = _columns(rows, table)
    if output.effective_format(format_) in ("json", "ndjson"):
        output.show(columns, rows, format_, {"energy": rows})
        return
    flat = [{**row, **_rate_cells(row)} for row in rows]
    if table:
        flat = [_table_row(row, zone, period) for row in flat]
    elif period in _DAY_PERIODS:
        flat = [_with_local_dates(row, zone, period) for row in flat]
    minor = [column for column in columns if column.startswith("rates.")]
    output.show(columns, flat, format_, None, minor=(*_MINOR[:1], *minor, *_MINOR[1:]))


def _columns(rows: Sequence[Mapping[str, Any]], table: bool) -> list[str]:
    rates = sorted({rate for row in rows for rate in row.get("rates") or ()})
    parts = ("value",) if table else ("value", "cost")
    split = [f"rates.{rate}.{part}" for rate in rates for part in parts]
    costs = _COST_COLUMNS if any("cost" in row for row in rows) else ()
    columns = [*_COLUMNS, *costs, *split, *_QUALITY_COLUMNS]
    if not table:
        return columns
    estimated = any(row.get("estimated_share") for row in rows)
    left_out = _HIDDEN_COLUMNS if estimated else (*_HIDDEN_COLUMNS, "estimated_share")
    return [column for column in columns if column not in left_out]


def _rate_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    rates = row.get("rates") or {}
    return {
        f"rates.{rate}.{part}": value
        for rate, parts in rates.items()
        for part, value in parts.items()
    }


def _table_row(row: Mapping[str, Any], zone: ZoneInfo, period: Period) -> dict[str, Any]:
    """The row for a table: local times, kWh, and costs with two decimal places."""
    times = {key: _local_time(row[key], zone, " ", period) for key in ("start", "end")}
    kilos = {key: _kilo_text(row[key]) for key in row if key == "value" or _is_rate(key)}
    costs = {key: _cost_text(row.get(key)) for key in _COST_COLUMNS[:3]}
    return {**row, **times, **kilos, "unit": f"k{row['unit']}", **costs}


def _with_local_dates(row: Mapping[str, Any], zone: ZoneInfo, period: Period) -> dict[str, Any]:
    return {**row, **{key: _local_time(row[key], zone, "T", period) for key in ("start", "end")}}


def _is_rate(column: str) -> bool:
    return column.startswith("rates.") and column.endswith(".value")


def _kilo_text(value: float | None) -> str | None:
    return None if value is None else f"{value / _KILO:.{_ENERGY_PLACES}f}"


def _local_time(time: str, zone: ZoneInfo, separator: str, period: Period) -> str:
    """The local date where a day begins at that time, else local time with its UTC offset."""
    from meterd.energy.period_names import day_label

    moment = datetime.fromisoformat(time).replace(tzinfo=UTC)
    date = day_label(zone, round(moment.timestamp() * 1000)) if period in _DAY_PERIODS else None
    return date or moment.astimezone(zone).isoformat(separator, "minutes")


def _cost_text(cost: str | None) -> str | None:
    if cost is None:
        return None
    from decimal import Decimal

    return str(round(Decimal(cost), _COST_PLACES))


def _check_names(
    names: tuple[str, ...], candidates: Mapping[str, object], what: str
) -> tuple[str, ...]:
    for name in names:
        if name not in candidates:
            hint = spelling_hint(name, candidates) or f"the configuration has no `{what}s:`"
            raise click.UsageError(f"There is no {what} {name!r}: {hint}")
    return names


def _devices(
    request: EnergyRequest, settings: Settings, opened: OpenedStore, periods: "Sequence[PeriodSpan]"
) -> Sequence[str]:
    """The devices named, else those configured and those with samples since the first period."""
    configured = [opened.former.get(name, name) for name in settings.devices]
    if request.devices:
        candidates = dict.fromkeys((*configured, *opened.lasts))
        for name in request.devices:
            if name not in candidates and (new_name := opened.former.get(name)) is not None:
                raise click.UsageError(f"{name!r} was renamed: it is called {new_name} now.")
        return _check_names(request.devices, candidates, "device")
    start = periods[0].start if periods else 0
    stored = (name for name, last in opened.lasts.items() if last >= start)
    return list(dict.fromkeys((*configured, *stored)))


def _energies(request: EnergyRequest) -> "list[EnergyQuantity]":
    from meterd.api.energy import IMPORT, need_energy, need_priced
    from meterd.api.problem import ApiRefusal

    try:
        energies = [need_energy(name) for name in request.quantities or (IMPORT,)]
        for energy in energies if request.tariff else ():
            need_priced(energy)
    except ApiRefusal as error:
        raise _usage_error(error) from error
    return energies


def _periods(request: EnergyRequest, zone: ZoneInfo, now: int) -> "list[PeriodSpan]":
    from meterd.api.energy import EnergyQuery, need_pieces
    from meterd.api.problem import ApiRefusal

    start, end = _range(request, zone, now)
    # Not validated: that would take the Unix ms for Unix seconds.
    query = EnergyQuery.model_construct(
        period=request.period.value,
        start=start,
        end=end,
        snap="period" if request.snap else "quarter",
    )
    try:
        return need_pieces(zone, query, now)
    except ApiRefusal as error:
        raise _usage_error(error) from error


def _range(request: EnergyRequest, zone: ZoneInfo, now: int) -> tuple[int | None, int | None]:
    """Start and end as Unix ms, None where not given. Raises UsageError."""
    if request.within is not None:
        if request.start or request.end:
            raise click.UsageError("--in is both start and end: leave --start and --end out.")
        return time_range("--in", request.within, now, zone)
    start, end = (
        None if text is None else moment(option, text, now, zone)
        for option, text in (("--start", request.start), ("--end", request.end))
    )
    if start is not None and start == end and request.start == request.end:
        raise click.UsageError(
            f"--end is the first moment after it, so nothing lies between: for all of "
            f"{request.start} write --in {request.start}."
        )
    return start, end


def _usage_error(error: "ApiRefusal") -> click.UsageError:
    return click.UsageError(f"{error}: {error.hint}." if error.hint else f"{error}.")


@asynccontextmanager
async def stored(settings: Settings) -> AsyncIterator[OpenedStore]:
    """Open the store of a configuration for reading, while a daemon may be writing to it."""
    from meterd.daemon.device_names import as_called, former
    from meterd.daemon.energy_queries import DEFAULT_INTERVAL, EnergyQueries
    from meterd.store.reader import Reader

    reader = await asyncio.to_thread(Reader.outside, settings.store.url)
    settings = as_called(settings)

    def interval(device: str) -> float:
        configured = settings.devices.get(device)
        return configured.interval if configured else DEFAULT_INTERVAL

    lasts: dict[str, int] = {}
    try:
        for series in await reader.series():
            lasts[series.device] = max(series.last, lasts.get(series.device, series.last))
        yield OpenedStore(EnergyQueries(lambda: reader, interval).quarters, lasts, former(settings))
    finally:
        reader.close()


command = make_command(stored)
