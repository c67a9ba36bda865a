"""`meterd correct`: marks an interval as invalid or sets its value; can be undone."""

import asyncio
import getpass
import re
from collections.abc import Awaitable, Callable
from functools import partial
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import click

from meterd.cli import output
from meterd.cli.configuration import config_option, load_settings
from meterd.cli.times import moment, now_ms
from meterd.config.settings import Settings
from meterd.errors import StoreCode, StoreError
from meterd.model.text import has_controls

if TYPE_CHECKING:
    from meterd.store.tools.correct import Correction, Corrections

_VALUE = re.compile(
    r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)\s*([^\s\d.,]\S{0,31})?", re.ASCII
)

_Result = TypeVar("_Result")

# Of the store's lock: years of one quantity at 1 s, on a slow machine.
_LOCK_MAX_S = 1800.0
_FLAGS = {"list": "is_list", "finish": "is_rest"}
_COLUMNS = (
    *("id", "device", "quantity", "start", "end", "samples", "state", "value"),
    *("why", "who", "made", "undone", "undone_by", "lost"),
)


@click.command(
    epilog="""\b
Examples:
  meterd correct main frequency --start now-2h --end now-1h --why "bad clamp"
  meterd correct main frequency --start now-1h --end now --set 50Hz --why off
  meterd correct --list
  meterd correct --undo 3
  meterd correct --finish
"""
)
@click.argument("device", required=False)
@click.argument("quantity", required=False)
@click.option("--start", metavar="TIME", help="now-2h, 2026-10-01T14:00, RFC 3339 or Unix seconds.")
@click.option("--end", metavar="TIME", help="The first moment after it.")
@click.option("--set", "value", metavar="VALUE", help="The right value, with its unit if you like.")
@click.option("--why", metavar="TEXT", help="What was wrong; kept with the correction.")
@click.option("--who", metavar="NAME", help="Who says so; else your user's name.")
@click.option("--list", "is_list", is_flag=True, help="What was corrected, the newest first.")
@click.option("--undo", type=click.IntRange(1), metavar="ID", help="Put back what stood there.")
@click.option("--finish", "is_rest", is_flag=True, help="Go on with what was broken off.")
@config_option
@output.format_option
def command(config: Path | None, format_: str | None, **options: Any) -> None:
    """Mark an interval of one quantity as invalid, or with --set enter the right value.

    The old values stand in an audit table, with who, why and when. Charts, sums and energy leave
    out what is marked; what is set is estimated, and counts; guarded totals and roll-ups are made
    anew. A daemon that runs is asked to
    do it (where it wants a login, with the token in METERD_TOKEN). One that was broken off is
    `unfinished`: the next correction goes on with it first, and so does --finish.
    """
    settings = load_settings(config)
    _check_single_action(options)
    if options["is_list"]:
        rows = _list(settings)
    elif options["is_rest"]:
        rows = _finish(settings)
    elif options["undo"] is not None:
        rows = [_undo(settings, options["undo"], options["who"] or _user_name())]
    else:
        rows = [_mark(settings, options)]
    minor = ("lost", "undone_by", "who", "undone", "made", "samples", "why")
    output.show(_COLUMNS, rows, format_, {"corrections": rows}, minor=minor)


def _check_single_action(options: dict[str, Any]) -> None:
    """Refuse several actions at once: only one of them would be done."""
    actions = [f"--{name}" for name in ("list", "finish") if options[_FLAGS[name]]]
    actions += ["--undo"] if options["undo"] is not None else []
    is_new = any(options[name] for name in ("device", "start", "end", "value"))
    actions += ["a new correction"] if is_new else []
    if len(actions) > 1:
        raise click.UsageError(f"{' and '.join(actions)} do not go together: give one of them.")


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        # A container may run under a uid without a passwd entry.
        raise click.UsageError("Your user has no name: give --who.") from error


def _list(settings: Settings) -> list[dict[str, Any]]:
    from meterd.store.db import store_url
    from meterd.store.tools.correct import listed
    from meterd.store.tools.overview import looking

    with looking(store_url.find(settings.store.url)) as (connection, _):
        corrections = listed(connection)
    if unfinished := [
        str(correction.id) for correction in corrections if correction.state == "unfinished"
    ]:
        text = (
            f"unfinished: {', '.join(unfinished)}; `meterd correct --finish` goes on with what was"
        )
        click.echo(f"{text}\nbroken off, `--undo ID` puts back what stood there.", err=True)
    return [_row(correction) for correction in corrections]


def _row(correction: "Correction") -> dict[str, Any]:
    from meterd.api.corrections import row_of

    return row_of(correction) | {"state": correction.state}


def _finish(settings: Settings) -> list[dict[str, Any]]:
    try:
        corrections = asyncio.run(_correct_here(settings, lambda book: book.finish(now_ms())))
    except StoreError as error:
        if error.code != StoreCode.ALREADY_RUNNING:
            raise
        text = "meterd runs: it goes on with what was broken off before its next correction"
        raise StoreError(f"{text}; or stop it and say this again", code=error.code) from error
    if not corrections:
        click.echo("Nothing was broken off.", err=True)
    return [_row(correction) for correction in corrections]


def _mark(settings: Settings, options: dict[str, Any]) -> dict[str, Any]:
    from meterd.store.tools.correct import Ask

    for name in ("device", "quantity", "start", "end", "why"):
        if not (options[name] or "").strip():
            option = name.upper() if name in ("device", "quantity") else f"--{name}"
            raise click.UsageError(f"{option} is missing: see the examples of --help.")
    for name in ("why", "who"):
        if has_controls(options[name] or ""):
            raise click.UsageError(f"--{name} holds control characters: take them out.")
    now, zone = now_ms(), ZoneInfo(settings.site.timezone)
    start, end = (moment(f"--{name}", options[name], now, zone) for name in ("start", "end"))
    if start >= end or end > now:
        raise click.UsageError("--start has to lie before --end, and --end not in the future.")
    who, (value, unit) = options["who"] or _user_name(), _value(options["value"])
    why = options["why"].strip()
    ask = Ask(options["device"], options["quantity"], start, end, why, who, value, unit)
    body = {"device": ask.device, "quantity": ask.quantity, "why": why, "who": who}
    body |= {"start": f"{start / 1000:.3f}", "end": f"{end / 1000:.3f}"}
    body |= {} if value is None else {"value": value, "unit": unit}
    return _correct(settings, lambda book: book.mark(ask, now), "corrections", body)


def _value(text: str | None) -> tuple[float | None, str]:
    """Parse a value with its unit, such as `1234.5 kWh`; (None, "") where there is no text."""
    if text is None:
        return None, ""
    match = _VALUE.fullmatch(text.strip())
    value = float(match[1]) if match else nan
    if match is None or not isfinite(value):
        hint = "write a number, and its unit if it is not the store's: 230.1, or 1234.5 kWh"
        raise click.UsageError(f"--set {text!a} is no value; {hint}.")
    return value, match[2] or ""


def _undo(settings: Settings, number: int, who: str) -> dict[str, Any]:
    path = f"corrections/{number}/undo"
    return _correct(settings, lambda book: book.undo(number, who, now_ms()), path, {"who": who})


def _correct(
    settings: Settings,
    work: "Callable[[Corrections], Awaitable[Correction]]",
    path: str,
    body: object,
) -> dict[str, Any]:
    """Do it in this process, or over the API where a daemon has the store locked."""
    try:
        return _row(asyncio.run(_correct_here(settings, work)))
    except StoreError as error:
        if error.code != StoreCode.ALREADY_RUNNING:
            raise
    from meterd.cli.daemon import post

    row: dict[str, Any] = post(settings.api, path, body)
    return row


async def _correct_here(
    settings: Settings, work: "Callable[[Corrections], Awaitable[_Result]]"
) -> _Result:
    from meterd.cli.import_ import counter_terms_in, print_counter_events
    from meterd.daemon.corrected_totals import following
    from meterd.store.db.lockfile import Claim
    from meterd.store.reader import Reader
    from meterd.store.tools.correct import Corrections
    from meterd.store.writer import Writer

    store = settings.store
    claim = Claim("meterd correct", _LOCK_MAX_S)
    writer = Writer(
        store.url,
        rows=store.rows,
        hours=store.plain_hours,
        to_file=store.journal == "file",
        claim=claim,
    )
    await writer.open()
    try:
        reader = Reader(settings.store.url, writer.memory)
        try:
            terms = partial(counter_terms_in, settings)
            recount = following(writer, reader, terms=terms, heard=print_counter_events)
            return await work(Corrections(writer, reader, recount))
        finally:
            reader.close()
    finally:
        await writer.close()
