"""`meterd devices`: what the configuration names, other names for it, and what was replaced."""

import asyncio
import getpass
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from meterd.cli import output
from meterd.cli.configuration import config_option, load_file, load_settings
from meterd.cli.times import now_ms
from meterd.config.load import Loaded
from meterd.config.settings import Settings
from meterd.errors import StoreError
from meterd.model.duration import spell

_COLUMNS = ("device", "driver", "map", "link", "interval", "enabled")
_STORED = ("first", "last")
_RENAMED = ("device", "was", "time")
# Seconds; nothing but names is written.
_LONGEST = 60.0


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  meterd devices -c meterd.yaml
  meterd devices --all
  meterd devices rename main kitchen
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
            "map": getattr(device.options, "map", None),
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
@click.option("--who", metavar="NAME", help="Who says so; else your user's name.")
@config_option
@output.format_option
@click.pass_context
def _rename(
    ctx: click.Context,
    old: str,
    new: str,
    who: str | None,
    config: Path | None,
    format_: str | None,
) -> None:
    """Give a device another name, with all its history: NEW for OLD.

    Its series, counters, alerts, silences and corrections are NEW's from then on, in every
    answer and every PromQL label. A daemon that runs is asked to do it (where it wants a login,
    with the token in METERD_TOKEN), and polls on without a gap. The configuration stays as it is
    written: which lines are to be changed is told; until then OLD there means NEW. The same the
    other way round undoes it.
    """
    loaded = load_file(_config_of(ctx, config))
    _need_id(new)
    row = _renamed(loaded.settings, old, new, who or _user())
    for place in _places(loaded, old):
        click.echo(f"{place}: write {new} here instead of {old}", err=True)
    output.show(_RENAMED, [row], format_, row)


def _need_id(name: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    from meterd.config.names import DeviceId

    try:
        TypeAdapter(DeviceId).validate_python(name)
    except ValidationError as error:
        raise click.UsageError(f"NEW {name!r} {error.errors()[0]['msg']}.") from error


def _renamed(settings: Settings, old: str, new: str, who: str) -> dict[str, Any]:
    """By this process, or by the daemon where one keeps the store."""
    from meterd.api.renaming import row
    from meterd.daemon.naming import need_new

    now = now_ms()
    try:
        need_new(settings, old, new)
        asyncio.run(_here(settings, old, new, who, now))
        return row(old, new, now)
    except StoreError as error:
        if error.code != "already_running":
            raise
    from meterd.cli.daemon import post

    found: dict[str, Any] = post(settings.api, f"devices/{old}/rename", {"name": new, "who": who})
    return found


async def _here(settings: Settings, old: str, new: str, who: str, now: int) -> None:
    from meterd.store.lock import Claim
    from meterd.store.writer import Writer

    store = settings.store
    claim = Claim("meterd devices rename", _LONGEST)
    writer = Writer(store.url, rows=store.rows, to_file=store.journal == "file", claim=claim)
    await writer.open()
    try:
        await writer.rename(old, new, who=who, now=now)
    finally:
        await writer.close()


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
