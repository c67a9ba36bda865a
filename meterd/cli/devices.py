"""`meterd devices`: lists the devices, renames one with its history, records a replaced meter."""

import asyncio
import getpass
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from meterd.cli import output
from meterd.cli.configuration import config_option, load_file, load_settings
from meterd.cli.times import moment, now_ms
from meterd.config.load import LoadedConfig
from meterd.config.settings import Settings
from meterd.drivers.options import ModbusOptions
from meterd.errors import StoreCode, StoreError
from meterd.model.duration import spell

if TYPE_CHECKING:
    from meterd.daemon.replacing import Replaced
    from meterd.store.reader import Reader
    from meterd.store.writer import Writer

_COLUMNS = ("device", "driver", "map", "link", "interval", "enabled")
_STORED_COLUMNS = ("first", "last")
_RENAME_COLUMNS = ("device", "was", "time")
_REPLACE_COLUMNS = ("device", "at", "replaced", "totals")
_REPLACEMENTS_COLUMNS = ("device", "at", "who", "made")
# Of the store's lock: only names are written, after what waits in the WAL and spool.
_RENAME_LOCK_MAX_S = 60.0
# Of the store's lock: years of counters at 1 s, on a slow machine.
_RECOUNT_LOCK_MAX_S = 1800.0


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  meterd devices -c meterd.yaml
  meterd devices --all
  meterd devices rename main kitchen
  meterd devices replace main --at 2026-11-20T14:30
""",
)
@click.option("--all", "is_all", is_flag=True, help="Also those that only the store knows.")
@config_option
@output.format_option
@click.pass_context
def command(ctx: click.Context, config: Path | None, format_: str | None, is_all: bool) -> None:
    """List the configured devices; `meterd poll` reads them.

    Their history goes with them where they are renamed. A device that is no longer configured
    keeps its own: energy, export, correct and the API go on answering for it.
    """
    if ctx.invoked_subcommand is not None:
        return
    settings = load_settings(config)
    rows: list[dict[str, Any]] = [
        {
            "device": name,
            "driver": device.driver,
            "map": device.options.map if isinstance(device.options, ModbusOptions) else None,
            "link": device.link,
            "interval": spell(device.interval),
            "enabled": device.enabled,
        }
        for name, device in settings.devices.items()
    ]
    columns: tuple[str, ...] = _COLUMNS
    if is_all:
        columns, rows = (*_COLUMNS, *_STORED_COLUMNS), _with_stored(settings, rows)
    output.show(columns, rows, format_, rows, minor=("driver", "interval", "enabled", "map"))


def _with_stored(settings: Settings, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the first and last time in the store to each row, and rows of devices only stored."""
    from meterd.api.times import rfc3339
    from meterd.store.reader import Reader

    spans: dict[str, tuple[int, int]] = {}
    reader = Reader.outside(settings.store.url)
    try:
        for series in reader.names():
            first, last = spans.get(series.device, (series.first, series.last))
            spans[series.device] = min(first, series.first), max(last, series.last)
    finally:
        reader.close()
    configured = {row["device"]: row for row in rows}
    empty = dict.fromkeys(_COLUMNS) | {"enabled": False}
    result = []
    for name in (*configured, *sorted(spans.keys() - configured.keys())):
        times = [rfc3339(time) for time in spans.get(name, ())] or ["", ""]
        row = configured.get(name, empty | {"device": name})
        result.append(row | dict(zip(_STORED_COLUMNS, times, strict=True)))
    return result


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        # A container may run under a uid without a passwd entry.
        raise click.UsageError("Your user has no name: give --who.") from error


def _config_option_of(ctx: click.Context, config: Path | None) -> Path | None:
    """The -c of the subcommand, else the one given before it."""
    return config or (ctx.parent.params["config"] if ctx.parent is not None else None)


@command.command("rename", epilog="Example: meterd devices rename main kitchen")
@click.argument("old")
@click.argument("new")
@click.option(
    "--merge", is_flag=True, help="NEW is in the store, from before or after OLD: one device."
)
@click.option("--who", metavar="NAME", help="Who says so; else your user's name.")
@config_option
@output.format_option
@click.pass_context
def _rename(
    ctx: click.Context,
    /,
    old: str,
    new: str,
    config: Path | None,
    format_: str | None,
    **options: Any,
) -> None:
    """Give a device another name, with all its history: NEW for OLD.

    Its series, counters, alerts, silences and corrections are NEW's from then on, in every
    answer and every PromQL label. A daemon that runs is asked to do it (where it wants a login,
    with the token in METERD_TOKEN), and polls on without a gap. The configuration stays as it is
    written: which lines are to be changed is told; until then OLD there means NEW. The same the
    other way round undoes it.

    With --merge NEW may be a device of the store already, such as one that the configuration
    called so later: its history and OLD's become one, if they were not polled at the same time.
    That is not undone by renaming.
    """
    loaded = load_file(_config_option_of(ctx, config))
    _check_device_id(new)
    who, is_merge = options["who"] or _user_name(), options["merge"]
    row = _rename_device(loaded.settings, old, new, who, is_merge=is_merge)
    for place in _positions(loaded, old):
        click.echo(f"{place}: write {new} here instead of {old}", err=True)
    output.show(_RENAME_COLUMNS, [row], format_, row)


def _check_device_id(name: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    from meterd.config.names import DeviceId

    try:
        TypeAdapter(DeviceId).validate_python(name)
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise click.UsageError(f"NEW {name!r} {what}.") from error


def _rename_device(
    settings: Settings, old: str, new: str, who: str, *, is_merge: bool
) -> dict[str, Any]:
    """Rename in this process, or over the API where a daemon has the store locked."""
    from meterd.api.renaming import row
    from meterd.daemon.device_names import need_new

    now = now_ms()
    try:
        need_new(settings, old, new)
        asyncio.run((_merge_here if is_merge else _rename_here)(settings, old, new, who, now))
        return row(old, new, now)
    except StoreError as error:
        if error.code != StoreCode.ALREADY_RUNNING:
            raise
    from meterd.cli.daemon import post

    renaming: dict[str, Any] = post(
        settings.api, f"devices/{old}/rename", {"name": new, "who": who, "merge": is_merge}
    )
    return renaming


async def _rename_here(settings: Settings, old: str, new: str, who: str, now: int) -> None:
    async with _open_writer(settings, "meterd devices rename", _RENAME_LOCK_MAX_S) as writer:
        await writer.rename(old, new, who=who, now=now)


async def _merge_here(settings: Settings, old: str, new: str, who: str, now: int) -> None:
    from meterd.cli.import_ import counter_terms_in
    from meterd.daemon.counter_state import CounterState
    from meterd.daemon.replacing import count_anew
    from meterd.store.tools.merge import merge_devices

    async with _open_writer(settings, "meterd devices rename", _RECOUNT_LOCK_MAX_S) as writer:
        if new not in writer.memory.catalog.devices:
            await writer.rename(old, new, who=who, now=now)
            return
        with closing(_open_reader(settings, writer)) as reader:
            start = await merge_devices(writer, reader, old, new, who=who, now=now)
            memory = CounterState()
            # The configuration may still have the former name.
            device = new if new in settings.devices else old
            terms = counter_terms_in(settings, device)
            await count_anew(
                writer, reader, memory, new, start, now, still=nullcontext(), terms=terms
            )


def _open_reader(settings: Settings, writer: "Writer") -> "Reader":
    from meterd.store.reader import Reader

    return Reader(settings.store.url, writer.memory)


@asynccontextmanager
async def _open_writer(settings: Settings, what: str, seconds: float) -> "AsyncIterator[Writer]":
    """A writer of the store in this process. Raises StoreError where a daemon has it locked."""
    from meterd.store.db.lockfile import Claim
    from meterd.store.writer import Writer

    store = settings.store
    claim = Claim(what, seconds)
    writer = Writer(
        store.url,
        rows=store.rows,
        hours=store.plain_hours,
        to_file=store.journal == "file",
        claim=claim,
    )
    await writer.open()
    try:
        yield writer
    finally:
        await writer.close()


@command.command(
    "replace",
    epilog="""\b
Examples:
  meterd devices replace main --at 2026-11-20T14:30
  meterd devices replace main --list
  meterd devices replace main --at 2026-11-20T14:30 --undo
""",
)
@click.argument("device")
@click.option(
    "--at",
    metavar="TIME",
    help="Since when it is: 2026-11-20T14:30, now-2h, RFC 3339, Unix seconds; else now.",
)
@click.option("--undo", is_flag=True, help="It was the same meter after all.")
@click.option("--list", "is_list", is_flag=True, help="When it was replaced, and who said so.")
@click.option("--who", metavar="NAME", help="Who says so; else your user's name.")
@config_option
@output.format_option
@click.pass_context
def _replace(
    ctx: click.Context, /, device: str, config: Path | None, format_: str | None, **options: Any
) -> None:
    """Say since when another meter is read as DEVICE: its history goes on.

    Nothing is booked across: what the new meter shows at first is where it starts from, and the
    day has what both counted. It may be told afterwards: guarded totals since then are counted
    anew. A daemon that runs is asked to do it (where it wants a login, with the token in
    METERD_TOKEN).
    """
    from meterd.daemon.device_names import former

    settings = load_settings(_config_option_of(ctx, config))
    device = former(settings).get(device, device)
    if options["is_list"]:
        rows = _replacements(settings, device)
        output.show(_REPLACEMENTS_COLUMNS, rows, format_, {"replacements": rows})
        return
    now = now_ms()
    at = now
    if options["at"] is not None:
        at = moment("--at", options["at"], now, ZoneInfo(settings.site.timezone))
    elif options["undo"]:
        raise click.UsageError("--undo needs --at: --list tells the times there are.")
    if at > now:
        raise click.UsageError("--at may not lie in the future: say it when it is done.")
    row = _replace_device(
        settings, device, at, options["who"] or _user_name(), undo=options["undo"]
    )
    for text in row["events"]:
        click.echo(f"noticed since then: {text}", err=True)
    output.show(_REPLACE_COLUMNS, [row], format_, row)


def _replacements(settings: Settings, device: str) -> list[dict[str, Any]]:
    from meterd.model.times import rfc3339
    from meterd.store.db import replacements, store_url
    from meterd.store.tools.overview import looking

    with looking(store_url.find(settings.store.url)) as (connection, _):
        meters = replacements.read(connection, device)
    return [
        {"device": device, "at": rfc3339(meter.at), "who": meter.who, "made": rfc3339(meter.made)}
        for meter in meters
    ]


def _replace_device(
    settings: Settings, device: str, at: int, who: str, *, undo: bool
) -> dict[str, Any]:
    """Replace in this process, or over the API where a daemon has the store locked."""
    from meterd.api.renaming import replaced_row

    try:
        replaced = asyncio.run(_replace_here(settings, device, at, who, undo=undo))
        return replaced_row(device, at, replaced, undo=undo)
    except StoreError as error:
        if error.code != StoreCode.ALREADY_RUNNING:
            raise
    from meterd.cli.daemon import post

    body = {"at": f"{at / 1000:.3f}", "who": who, "undo": undo}
    row: dict[str, Any] = post(settings.api, f"devices/{device}/replace", body)
    return row


async def _replace_here(
    settings: Settings, device: str, at: int, who: str, *, undo: bool
) -> "Replaced":
    from meterd.cli.import_ import counter_terms_in
    from meterd.daemon.counter_state import CounterState
    from meterd.daemon.device_names import as_called
    from meterd.daemon.replacing import replace_meter
    from meterd.store.db.replacements import Replacement

    async with _open_writer(settings, "meterd devices replace", _RECOUNT_LOCK_MAX_S) as writer:
        with closing(_open_reader(settings, writer)) as reader:
            replacement = Replacement(at, now_ms(), who)
            return await replace_meter(
                writer,
                reader,
                CounterState(),
                device,
                replacement,
                still=nullcontext(),
                terms=counter_terms_in(as_called(settings), device),
                undo=undo,
            )


def _positions(loaded: LoadedConfig, old: str) -> Iterator[str]:
    """The positions of a device's name in the configuration, as FILE:LINE:COLUMN."""
    settings = loaded.settings
    paths: list[tuple[str, ...]] = [("devices", old)] if old in settings.devices else []
    paths += [
        ("alerts", "rules", name, "device")
        for name, rule in settings.alerts.rules.items()
        if old in rule.device
    ]
    proxied = settings.proxy.devices if settings.proxy is not None else {}
    paths += [("proxy", "devices", str(unit)) for unit, name in proxied.items() if name == old]
    for path in paths:
        place = loaded.place(*path)
        yield f"{loaded.file}:{place.line}:{place.column}"
