"""Times on the command line: the words of the API's queries, and names of the site's calendar."""

from zoneinfo import ZoneInfo

import click


def now_ms() -> int:
    from meterd.model.clock import SystemClock

    return SystemClock().now_ms()


def moment(option: str, text: str, now: int, zone: ZoneInfo | None = None) -> int:
    """Unix ms; of a day, a month or a year of `zone` its beginning.

    Raises UsageError that tells how to write it.
    """
    from meterd.api.times import MOMENT_HINT
    from meterd.api.times import moment as parse
    from meterd.energy.calendar import HINT, parse_date

    hint = f"{HINT}, or {MOMENT_HINT.removeprefix('write ')}" if zone else MOMENT_HINT
    try:
        found = parse_date(text, zone, now) if zone else None
        return parse(text, now) if found is None else found.start
    except ValueError as error:
        raise click.UsageError(f"{option} {text!r} {error}: {hint}.") from error


def stretch(option: str, text: str, now: int, zone: ZoneInfo) -> tuple[int, int]:
    """Beginning and end of a day, a month or a year, as Unix ms. Raises UsageError."""
    from meterd.energy.calendar import HINT, parse_date

    try:
        found = parse_date(text, zone, now)
        if found is None or found.start == found.end:
            raise ValueError("names no day, month or year")
    except ValueError as error:
        raise click.UsageError(f"{option} {text!r} {error}: {HINT}.") from error
    return found
