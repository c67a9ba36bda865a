"""`meterd correct`: an interval of wrong values is marked as invalid; nothing is deleted."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meterd.cli import output
from meterd.cli.configuration import config_option, load_settings
from meterd.cli.times import moment, now_ms
from meterd.config.settings import Settings
from meterd.errors import StoreError

if TYPE_CHECKING:
    from meterd.store.tools.correct import Correction, Corrections

_COLUMNS = (
    *("id", "device", "quantity", "start", "end", "samples", "state"),
    *("why", "who", "made", "undone", "undone_by"),
)


@click.command(
    epilog="""\b
Examples:
  meterd correct main frequency --start now-2h --end now-1h --why "bad clamp"
  meterd correct --list
  meterd correct --undo 3
"""
)
@click.argument("device", required=False)
@click.argument("quantity", required=False)
@click.option("--start", metavar="TIME", help="RFC 3339, Unix seconds or now-2h.")
@click.option("--end", metavar="TIME", help="The first moment after it.")
@click.option("--why", metavar="TEXT", help="What was wrong; kept with the correction.")
@click.option("--who", metavar="NAME", help="Who says so; else your user's name.")
@click.option("--list", "is_list", is_flag=True, help="What was marked, the newest first.")
@click.option("--undo", type=click.IntRange(1), metavar="ID", help="Put back what stood there.")
@config_option
@output.format_option
def command(config: Path | None, format_: str | None, **asked: Any) -> None:
    """Mark an interval of one quantity as invalid.

    The values stay, and stand in an audit table besides, with who, why and when. Charts,
    sums and energy leave them out; roll-ups are made anew. A daemon that runs is asked to
    do it (where it wants a login, with the token in METERD_TOKEN).
    """
    settings = load_settings(config)
    if asked["is_list"]:
        rows = _listed(settings)
    elif asked["undo"] is not None:
        rows = [_undone(settings, asked["undo"], asked["who"] or getpass.getuser())]
    else:
        rows = [_marked(settings, asked)]
    output.show(_COLUMNS, rows, format_, {"corrections": rows})


def _listed(settings: Settings) -> list[dict[str, Any]]:
    from meterd.api.corrections import row_of
    from meterd.store import database
    from meterd.store.tools.correct import listed
    from meterd.store.tools.overview import looking

    with looking(database.find(settings.store.url)) as (connection, _):
        return [row_of(one) for one in listed(connection)]


def _marked(settings: Settings, asked: dict[str, Any]) -> dict[str, Any]:
    from meterd.store.tools.correct import Ask

    for name in ("device", "quantity", "start", "end", "why"):
        if not (asked[name] or "").strip():
            option = name.upper() if name in ("device", "quantity") else f"--{name}"
            raise click.UsageError(f"{option} is missing: see the examples of --help.")
    now = now_ms()
    start, end = (moment(f"--{name}", asked[name], now) for name in ("start", "end"))
    if start >= end or end > now:
        raise click.UsageError("--start has to lie before --end, and --end not in the future.")
    who = asked["who"] or getpass.getuser()
    ask = Ask(asked["device"], asked["quantity"], start, end, asked["why"].strip(), who)
    body = {"device": ask.device, "quantity": ask.quantity, "why": ask.why, "who": who}
    body |= {"start": f"{start / 1000:.3f}", "end": f"{end / 1000:.3f}"}
    return _done(settings, lambda book: book.mark(ask, now), "corrections", body)


def _undone(settings: Settings, number: int, who: str) -> dict[str, Any]:
    path = f"corrections/{number}/undo"
    return _done(settings, lambda book: book.undo(number, who, now_ms()), path, {"who": who})


def _done(
    settings: Settings,
    work: "Callable[[Corrections], Awaitable[Correction]]",
    path: str,
    body: object,
) -> dict[str, Any]:
    """By this process, or by the daemon where one keeps the store."""
    from meterd.api.corrections import row_of

    try:
        return row_of(asyncio.run(_here(settings, work)))
    except StoreError as error:
        if error.code != "already_running":
            raise
    from meterd.cli.daemon import post

    found: dict[str, Any] = post(settings.api, path, body)
    return found


async def _here(
    settings: Settings, work: "Callable[[Corrections], Awaitable[Correction]]"
) -> "Correction":
    from meterd.store.reader import Reader
    from meterd.store.tools.correct import Corrections
    from meterd.store.writer import Writer

    writer = Writer(settings.store.url, rows=settings.store.rows)
    await writer.open()
    try:
        reader = Reader(settings.store.url, writer.memory)
        try:
            return await work(Corrections(writer, reader))
        finally:
            reader.close()
    finally:
        await writer.close()
