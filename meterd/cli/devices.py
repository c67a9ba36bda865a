"""`meterd devices`: what the configuration names, other names for it, and what was replaced."""

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
from meterd.config.load import Loaded
from meterd.config.settings import Settings
from meterd.drivers.options import ModbusOptions
from meterd.errors import StoreCode, StoreError
from meterd.model.duration import spell

if TYPE_CHECKING:
    from meterd.daemon.replacing import Replaced
    from meterd.store.reader import Reader
    from meterd.store.writer import Writer

_COLUMNS = ("device", "driver", "map", "link", "interval", "enabled")
_STORED = ("first", "last")
_RENAMED = ("device", "was", "time")
_REPLACED = ("device", "at", "replaced", "totals")
_LISTED = ("device", "at", "who", "made")
# Seconds; nothing but names is written, after what waits in files.
_LONGEST = 60.0
# Seconds: years of counters at 1 s, on a slow machine.
_RECOUNT = 1800.0


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
        columns, rows = (*_COLUMNS, *_STORED), _with_stored(settings, rows)
    output.show(columns, rows, format_, rows, minor=("driver", "interval", "enabled", "map"))


def _with_stored(settings: Settings, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with what the store has of each, and the devices that it alone has."""
    from meterd.api.times import rfc3339
    from meterd.store.reader import Reader

    spans: dict[str, tuple[int, int]] = {}
    reader = Reader.outside(settings.store.url)
    try:
        for one in reader.names():
            first, last = spans.get(one.device, (one.first, one.last))
            spans[one.device] = min(first, one.first), max(last, one.last)
    finally:
        reader.close()
    known = {row["device"]: row for row in rows}
    empty = dict.fromkeys(_COLUMNS) | {"enabled": False}
    found = []
    for name in (*known, *sorted(spans.keys() - known.keys())):
        times = [rfc3339(time) for time in spans.get(name, ())] or ["", ""]
        row = known.get(name, empty | {"device": name})
        found.append(row | dict(zip(_STORED, times, strict=True)))
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        # As in a container whose user has no name.
        raise click.UsageError("Your user has no name: give --who.") from error


def _config_of(ctx: click.Context, config: Path | None) -> Path | None:
    """-c may stand before the subcommand, too."""
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
    **asked: Any,
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
    loaded = load_file(_config_of(ctx, config))
    _need_id(new)
    who, is_merge = asked["who"] or _user(), asked["merge"]
    row = _renamed(loaded.settings, old, new, who, is_merge=is_merge)
    for place in _places(loaded, old):
        click.echo(f"{place}: write {new} here instead of {old}", err=True)
    output.show(_RENAMED, [row], format_, row)


def _need_id(name: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    from meterd.config.names import DeviceId

    try:
        TypeAdapter(DeviceId).validate_python(name)
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise click.UsageError(f"NEW {name!r} {what}.") from error


def _renamed(settings: Settings, old: str, new: str, who: str, *, is_merge: bool) -> dict[str, Any]:
    """By this process, or by the daemon where one keeps the store."""
    from meterd.api.renaming import row
    from meterd.daemon.device_names import need_new

    now = now_ms()
    try:
        need_new(settings, old, new)
        asyncio.run((_merged_here if is_merge else _here)(settings, old, new, who, now))
        return row(old, new, now)
    except StoreError as error:
        if error.code != StoreCode.ALREADY_RUNNING:
            raise
    from meterd.cli.daemon import post

    found: dict[str, Any] = post(
        settings.api, f"devices/{old}/rename", {"name": new, "who": who, "merge": is_merge}
    )
    return found


async def _here(settings: Settings, old: str, new: str, who: str, now: int) -> None:
    async with _writing(settings, "meterd devices rename", _LONGEST) as writer:
        await writer.rename(old, new, who=who, now=now)


async def _merged_here(settings: Settings, old: str, new: str, who: str, now: int) -> None:
    from meterd.cli.import_ import counter_terms_in
    from meterd.daemon.counter_state import CounterState
    from meterd.daemon.replacing import count_anew
    from meterd.store.tools.merge import merge_devices

    async with _writing(settings, "meterd devices rename", _RECOUNT) as writer:
        if new not in writer.memory.catalog.devices:
            await writer.rename(old, new, who=who, now=now)
            return
        with closing(_reading(settings, writer)) as reader:
            start = await merge_devices(writer, reader, old, new, who=who, now=now)
            memory = CounterState()
            # The configuration may call it by either name.
            device = new if new in settings.devices else old
            terms = counter_terms_in(settings, device)
            await count_anew(
                writer, reader, memory, new, start, now, still=nullcontext(), terms=terms
            )


def _reading(settings: Settings, writer: "Writer") -> "Reader":
    from meterd.store.reader import Reader

    return Reader(settings.store.url, writer.memory)


@asynccontextmanager
async def _writing(settings: Settings, what: str, seconds: float) -> "AsyncIterator[Writer]":
    """The store, by this process. Raises StoreError: already_running where a daemon keeps it."""
    from meterd.store.db.lockfile import Claim
    from meterd.store.writer import Writer

    store = settings.store
    claim = Claim(what, seconds)
    writer = Writer(store.url, rows=store.rows, to_file=store.journal == "file", claim=claim)
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
    ctx: click.Context, /, device: str, config: Path | None, format_: str | None, **asked: Any
) -> None:
    """Say since when another meter is read as DEVICE: its history goes on.

    Nothing is booked across: what the new meter shows at first is where it starts from, and the
    day has what both counted. It may be told afterwards: guarded totals since then are counted
    anew. A daemon that runs is asked to do it (where it wants a login, with the token in
    METERD_TOKEN).
    """
    from meterd.daemon.device_names import former

    settings = load_settings(_config_of(ctx, config))
    device = former(settings).get(device, device)
    if asked["is_list"]:
        rows = _replacements(settings, device)
        output.show(_LISTED, rows, format_, {"replacements": rows})
        return
    now = now_ms()
    at = now
    if asked["at"] is not None:
        at = moment("--at", asked["at"], now, ZoneInfo(settings.site.timezone))
    elif asked["undo"]:
        raise click.UsageError("--undo needs --at: --list tells the times there are.")
    if at > now:
        raise click.UsageError("--at may not lie in the future: say it when it is done.")
    row = _replaced(settings, device, at, asked["who"] or _user(), undo=asked["undo"])
    for text in row["events"]:
        click.echo(f"noticed since then: {text}", err=True)
    output.show(_REPLACED, [row], format_, row)


def _replacements(settings: Settings, device: str) -> list[dict[str, Any]]:
    from meterd.model.times import rfc3339
    from meterd.store.db import replacements, store_url
    from meterd.store.tools.overview import looking

    with looking(store_url.find(settings.store.url)) as (connection, _):
        found = replacements.read(connection, device)
    return [
        {"device": device, "at": rfc3339(one.at), "who": one.who, "made": rfc3339(one.made)}
        for one in found
    ]


def _replaced(settings: Settings, device: str, at: int, who: str, *, undo: bool) -> dict[str, Any]:
    """By this process, or by the daemon where one keeps the store."""
    from meterd.api.renaming import replaced_row

    try:
        found = asyncio.run(_replace_here(settings, device, at, who, undo=undo))
        return replaced_row(device, at, found, undo=undo)
    except StoreError as error:
        if error.code != StoreCode.ALREADY_RUNNING:
            raise
    from meterd.cli.daemon import post

    body = {"at": f"{at / 1000:.3f}", "who": who, "undo": undo}
    answer: dict[str, Any] = post(settings.api, f"devices/{device}/replace", body)
    return answer


async def _replace_here(
    settings: Settings, device: str, at: int, who: str, *, undo: bool
) -> "Replaced":
    from meterd.cli.import_ import counter_terms_in
    from meterd.daemon.counter_state import CounterState
    from meterd.daemon.device_names import as_called
    from meterd.daemon.replacing import replace_meter
    from meterd.store.db.replacements import Replacement

    async with _writing(settings, "meterd devices replace", _RECOUNT) as writer:
        with closing(_reading(settings, writer)) as reader:
            one = Replacement(at, now_ms(), who)
            return await replace_meter(
                writer,
                reader,
                CounterState(),
                device,
                one,
                still=nullcontext(),
                terms=counter_terms_in(as_called(settings), device),
                undo=undo,
            )


def _places(loaded: Loaded, old: str) -> Iterator[str]:
    """Where the configuration says a name, as FILE:LINE:COLUMN."""
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
