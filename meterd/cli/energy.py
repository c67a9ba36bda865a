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
from meterd.cli.times import moment, stretch
from meterd.config.names import near
from meterd.config.settings import Settings
from meterd.energy.periods import Period

if TYPE_CHECKING:
    from meterd.api.problem import ApiRefusal
    from meterd.energy.consumption import EnergyQuantity
    from meterd.energy.periods import PeriodSpan
    from meterd.energy.quarter import Fetch

Stored: TypeAlias = "Callable[[Settings], AbstractAsyncContextManager[Stock]]"
"""Opens the store of a configuration for reading. Raises StoreError."""

_COLUMNS = ("device", "quantity", "start", "end", "value", "unit")
_COSTS = ("cost", "energy_cost", "standing_cost", "currency")
_TRUST = ("complete", "known_share", "estimated_share", "method")
# What a terminal has no room for.
_WIDE = ("end", "energy_cost", "standing_cost", "known_share")
# What it may lose where there is still less.
_MINOR = ("method", "currency", "estimated_share", "complete", "quantity")
# Of a currency, on a terminal; every other format has costs as they are.
_CENTS = 2
# Of a kWh, on a terminal: energy is in Wh everywhere else.
_KILO, _PLACES = 1000, 3
# Periods whose ends are days: programs that read tables get the site's dates.
_DATED = (Period.DAY, Period.WEEK, Period.MONTH, Period.YEAR)


@dataclass(frozen=True, slots=True)
class Stock:
    """A store that is open for reading; `lasts`: Unix ms of the newest sample of each device.

    `former`: names that devices had before they were renamed -> the names they have now.
    """

    fetch: "Fetch"
    lasts: Mapping[str, int]
    former: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked for on the command line; times are as they were written.

    `within` is a day, month or year in place of start and end.
    """

    devices: tuple[str, ...] = ()
    quantities: tuple[str, ...] = ()
    period: Period = Period.DAY
    start: str | None = None
    end: str | None = None
    within: str | None = None
    snap: bool = False
    tariff: str | None = None


def make(stored: Stored) -> click.Command:
    """The command, over a store that `stored` opens."""

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
        type=click.Choice([each.value for each in Period]),
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
    def command(config: Path | None, format_: str | None, **asked: Any) -> None:
        """Print the energy of devices by hour, day, week, month or year.

        Periods and dates are those of the site's time zone. A table is in kWh, all else in Wh.
        A period of which nothing is known has no value; one that is not known from end to end is
        not complete.
        """
        settings = load_settings(config)
        question = Question(**{**asked, "period": Period(asked["period"])})
        rows = asyncio.run(answer(settings, question, stored, _now()))
        render(rows, ZoneInfo(settings.site.timezone), format_, question.period)

    return command


def _now() -> int:
    from meterd.model.clock import SystemClock

    return SystemClock().now_ms()


async def answer(
    settings: Settings, question: Question, stored: Stored, now: int
) -> list[dict[str, Any]]:
    """Rows as `GET energy` has them. `now` is Unix ms. Raises UsageError and StoreError."""
    from meterd.api.energy import rows_of
    from meterd.energy.consumption import consume

    zone = ZoneInfo(settings.site.timezone)
    names = (question.tariff,) if question.tariff else ()
    tariffs = [settings.tariffs[name] for name in _known(names, settings.tariffs, "tariff")]
    tariff = tariffs[0] if tariffs else None
    energies = _energies(question)
    pieces = _pieces(question, zone, now)
    rows: list[dict[str, Any]] = []
    async with stored(settings) as stock:
        for device in _devices(question, settings, stock, pieces):
            for energy in energies:
                found = await consume(
                    stock.fetch, device, energy, pieces, zone=zone, now=now, tariff=tariff
                )
                if question.devices or found.method:
                    rows += rows_of(device, energy, found, tariff)
    return rows


def render(
    rows: Sequence[dict[str, Any]], zone: ZoneInfo, format_: str | None, period: Period
) -> None:
    """Print rows: json and ndjson as `GET energy` has them, the others flat, with local dates."""
    table = output.chosen(format_) == "table"
    columns = _columns(rows, table)
    if output.chosen(format_) in ("json", "ndjson"):
        output.show(columns, rows, format_, {"energy": rows})
        return
    flat = [{**row, **_flat(row)} for row in rows]
    if table:
        flat = [_for_people(row, zone, period) for row in flat]
    elif period in _DATED:
        flat = [_as_dates(row, zone, period) for row in flat]
    minor = [column for column in columns if column.startswith("rates.")]
    output.show(columns, flat, format_, None, minor=(*_MINOR[:1], *minor, *_MINOR[1:]))


def _columns(rows: Sequence[Mapping[str, Any]], table: bool) -> list[str]:
    rates = sorted({rate for row in rows for rate in row.get("rates") or ()})
    parts = ("value",) if table else ("value", "cost")
    split = [f"rates.{rate}.{part}" for rate in rates for part in parts]
    costs = _COSTS if any("cost" in row for row in rows) else ()
    columns = [*_COLUMNS, *costs, *split, *_TRUST]
    if not table:
        return columns
    estimated = any(row.get("estimated_share") for row in rows)
    left_out = _WIDE if estimated else (*_WIDE, "estimated_share")
    return [column for column in columns if column not in left_out]


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    rates = row.get("rates") or {}
    return {
        f"rates.{rate}.{part}": value
        for rate, both in rates.items()
        for part, value in both.items()
    }


def _for_people(row: Mapping[str, Any], zone: ZoneInfo, period: Period) -> dict[str, Any]:
    """Times of the site's clock, kWh, and costs in cents."""
    times = {key: _shown(row[key], zone, " ", period) for key in ("start", "end")}
    kilos = {key: _kilo(row[key]) for key in row if key == "value" or _is_rate(key)}
    costs = {key: _cents(row.get(key)) for key in _COSTS[:3]}
    return {**row, **times, **kilos, "unit": f"k{row['unit']}", **costs}


def _as_dates(row: Mapping[str, Any], zone: ZoneInfo, period: Period) -> dict[str, Any]:
    return {**row, **{key: _shown(row[key], zone, "T", period) for key in ("start", "end")}}


def _is_rate(column: str) -> bool:
    return column.startswith("rates.") and column.endswith(".value")


def _kilo(value: float | None) -> str | None:
    return None if value is None else f"{value / _KILO:.{_PLACES}f}"


def _shown(time: str, zone: ZoneInfo, between: str, period: Period) -> str:
    """The local date where a day begins; else the local time, with what it is ahead of UTC."""
    from meterd.energy.calendar import day_label

    moment = datetime.fromisoformat(time).replace(tzinfo=UTC)
    found = day_label(zone, round(moment.timestamp() * 1000)) if period in _DATED else None
    return found or moment.astimezone(zone).isoformat(between, "minutes")


def _cents(cost: str | None) -> str | None:
    if cost is None:
        return None
    from decimal import Decimal

    return str(round(Decimal(cost), _CENTS))


def _known(asked: tuple[str, ...], known: Mapping[str, object], what: str) -> tuple[str, ...]:
    for name in asked:
        if name not in known:
            hint = near(name, known) or f"the configuration has no `{what}s:`"
            raise click.UsageError(f"There is no {what} {name!r}: {hint}")
    return asked


def _devices(
    question: Question, settings: Settings, stock: Stock, pieces: "Sequence[PeriodSpan]"
) -> Sequence[str]:
    """Those named; else the configured ones, and of the store those with samples in that time."""
    configured = [stock.former.get(name, name) for name in settings.devices]
    if question.devices:
        known = dict.fromkeys((*configured, *stock.lasts))
        for name in question.devices:
            if name not in known and (now := stock.former.get(name)) is not None:
                raise click.UsageError(f"{name!r} was renamed: it is called {now} now.")
        return _known(question.devices, known, "device")
    start = pieces[0].start if pieces else 0
    left = (name for name, last in stock.lasts.items() if last >= start)
    return list(dict.fromkeys((*configured, *left)))


def _energies(question: Question) -> "list[EnergyQuantity]":
    from meterd.api.energy import IMPORT, need_energy, need_priced
    from meterd.api.problem import ApiRefusal

    try:
        energies = [need_energy(name) for name in question.quantities or (IMPORT,)]
        for energy in energies if question.tariff else ():
            need_priced(energy)
    except ApiRefusal as error:
        raise _usage(error) from error
    return energies


def _pieces(question: Question, zone: ZoneInfo, now: int) -> "list[PeriodSpan]":
    from meterd.api.energy import EnergyQuery, need_pieces
    from meterd.api.problem import ApiRefusal

    start, end = _range(question, zone, now)
    # Read already: a number that is validated is Unix seconds.
    query = EnergyQuery.model_construct(
        period=question.period.value,
        start=start,
        end=end,
        snap="period" if question.snap else "quarter",
    )
    try:
        return need_pieces(zone, query, now)
    except ApiRefusal as error:
        raise _usage(error) from error


def _range(question: Question, zone: ZoneInfo, now: int) -> tuple[int | None, int | None]:
    """Start and end as Unix ms, None where nobody says. Raises UsageError."""
    if question.within is not None:
        if question.start or question.end:
            raise click.UsageError("--in is both start and end: leave --start and --end out.")
        return stretch("--in", question.within, now, zone)
    start, end = (
        None if text is None else moment(option, text, now, zone)
        for option, text in (("--start", question.start), ("--end", question.end))
    )
    if start is not None and start == end and question.start == question.end:
        raise click.UsageError(
            f"--end is the first moment after it, so nothing lies between: for all of "
            f"{question.start} write --in {question.start}."
        )
    return start, end


def _usage(error: "ApiRefusal") -> click.UsageError:
    return click.UsageError(f"{error}: {error.hint}." if error.hint else f"{error}.")


@asynccontextmanager
async def stored(settings: Settings) -> AsyncIterator[Stock]:
    """The store of a configuration, read beside a daemon that may be writing it."""
    from meterd.daemon.device_names import as_called, former
    from meterd.daemon.energy_queries import DEFAULT_INTERVAL, EnergyQueries
    from meterd.store.reader import Reader

    reader = await asyncio.to_thread(Reader.outside, settings.store.url)
    settings = as_called(settings)

    def interval(device: str) -> float:
        known = settings.devices.get(device)
        return known.interval if known else DEFAULT_INTERVAL

    lasts: dict[str, int] = {}
    try:
        for one in await reader.series():
            lasts[one.device] = max(one.last, lasts.get(one.device, one.last))
        yield Stock(EnergyQueries(lambda: reader, interval).quarters, lasts, former(settings))
    finally:
        reader.close()


command = make(stored)
