"""Times on the command line: the same words as in queries of the API."""

import click


def now_ms() -> int:
    from meterd.model.clock import SystemClock

    return SystemClock().now_ms()


def moment(option: str, text: str, now: int) -> int:
    """Unix ms. Raises UsageError that tells how to write it."""
    from meterd.api.times import MOMENT_HINT
    from meterd.api.times import moment as parse

    try:
        return parse(text, now)
    except ValueError as error:
        raise click.UsageError(f"{option} {text!r} {error}: {MOMENT_HINT}.") from error
