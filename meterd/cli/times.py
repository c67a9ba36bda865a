"""Parses times of arguments: as in API queries, and days, months and years of the site."""

from zoneinfo import ZoneInfo

import click


def now_ms() -> int:
    from meterd.model.clock import SystemClock

    return SystemClock().now_ms()


def moment(option: str, text: str, now: int, zone: ZoneInfo | None = None) -> int:
    """Unix ms of a time; of a day, month or year in `zone` its beginning.

    Raises UsageError with a hint.
    """
    from meterd.api.times import MOMENT_HINT
    from meterd.api.times import moment as parse
    from meterd.energy.period_names import HINT, parse_date

    hint = f"{HINT}, or {MOMENT_HINT.removeprefix('write ')}" if zone else MOMENT_HINT
    try:
        span = parse_date(text, zone, now) if zone else None
        return parse(text, now) if span is None else span.start
    except ValueError as error:
        raise click.UsageError(f"{option} {text!r} {error}: {hint}.") from error


def time_range(option: str, text: str, now: int, zone: ZoneInfo) -> tuple[int, int]:
    """Beginning and end of a day, month or year, as Unix ms. Raises UsageError."""
    from meterd.energy.period_names import HINT, parse_date

    try:
        span = parse_date(text, zone, now)
        if span is None or span.start == span.end:
            raise ValueError("names no day, month or year")
    except ValueError as error:
        raise click.UsageError(f"{option} {text!r} {error}: {HINT}.") from error
    return span
