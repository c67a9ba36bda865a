"""`meterd record`: every byte of a link while it is polled, for bug reports and tests."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import click

from meterd import __version__
from meterd.cli.configuration import config_option, load_settings, target_settings
from meterd.cli.logging_setup import start_log, warn_of_maps
from meterd.cli.main import EXIT_FAILURE
from meterd.config.settings import DeviceSettings, Settings
from meterd.daemon.link_plan import LinkPlan, close_driver, devices, link_plans, polled
from meterd.daemon.service import ContainedDriver
from meterd.drivers import registry
from meterd.drivers.map_library import is_file
from meterd.drivers.options import ModbusOptions
from meterd.errors import ConfigError
from meterd.model.clock import SystemClock
from meterd.model.sample import Poll
from meterd.model.times import rfc3339
from meterd.poll.bus import Bus
from meterd.wire.recording import OPTIONS, WireEvent, head, record

# A TARGET says no interval of its own, in seconds.
_INTERVAL = 1.0


@click.command(
    epilog="""\b
Examples:
  meterd record eastron_sdm630@tcp://192.0.2.5:502/1 --out meter.rec
  meterd record -c meterd.yaml --seconds 600 --out site.rec
\b
The file is text, and can be read, cut, mailed and played back with
simulate --replay:
  # link: tcp://192.0.2.5:502
  +0.0123 > 0001…     sent, seconds since the start
  +0.0456 < 0001…     received
  +1.0456 ! timeout   how an exchange failed
"""
)
@click.argument("target", required=False)
@config_option
@click.option(
    "--seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="How long; Ctrl-C ends it sooner.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file; a new one.")
def command(target: str | None, config: Path | None, seconds: float, out: Path) -> int:
    """Record all bytes of a link, with their times, while polling as the daemon does.

    A TARGET (MAP@URL) is polled each second; without one, every device of the configuration
    in its own interval. Several links make several files: FILE-1.rec, FILE-2.rec.
    """
    settings = _settings(target, config)
    warn_of_maps(settings)
    start_log()
    plans = list(link_plans(settings).values())
    if not plans:
        raise ConfigError("there is no device to record: none is configured, or none is enabled")
    tally = _Tally()
    files = _files(out, len(plans))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_record(plans, files, seconds, tally))
    for file in files:
        click.echo(file)
    click.echo(
        f"polls: {tally.polls}, failed: {tally.failed}, pieces of bytes: {tally.pieces}. "
        f"Play it back: meterd simulate --replay {files[0]}",
        err=True,
    )
    return 0 if tally.pieces else EXIT_FAILURE


def _settings(target: str | None, config: Path | None) -> Settings:
    if target is None:
        return load_settings(config)
    if config is not None:
        raise click.UsageError("either a TARGET or -c FILE, not both")
    name, device = target_settings(target)
    return Settings(devices={name: device.model_copy(update={"interval": _INTERVAL})})


def _files(out: Path, links: int) -> list[Path]:
    """One file a link; what was recorded before is not written over."""
    files = [out]
    if links > 1:
        files = [out.with_stem(f"{out.stem}-{number}") for number in range(1, links + 1)]
    for file in files:
        if file.exists():
            raise ConfigError(f"{file} is there already: choose another name")
        if not file.parent.is_dir():
            raise ConfigError(f"{file}: there is no folder {file.parent}")
    return files


class _Tally:
    """Counts polls, and pieces of bytes that went one way or the other."""

    def __init__(self) -> None:
        self.polls = 0
        self.failed = 0
        self.pieces = 0

    def take(self, poll: Poll) -> None:
        self.polls += 1
        self.failed += not poll.up


async def _record(plans: list[LinkPlan], files: list[Path], seconds: float, tally: _Tally) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for plan, file in zip(plans, files, strict=True):
                group.create_task(_record_link(plan, file, tally))


async def _record_link(plan: LinkPlan, file: Path, tally: _Tally) -> None:
    clock = SystemClock()
    with _opened(file) as out:

        def write(event: WireEvent) -> None:
            tally.pieces += bool(event.data)
            out.write(f"{event}\n")

        out.write(head(list(_facts(plan, rfc3339(clock.now_ms())))))
        link = record(plan.open(), write, clock)
        drivers = devices(plan, link)
        members = [
            polled(
                name, ContainedDriver(name, driver, origin=registry.origin(device.driver)), device
            )
            for name, driver, device in drivers
        ]
        try:
            await Bus(plan.key, members, (tally,), clock).run()
        finally:
            for _, driver, _ in drivers:
                await close_driver(driver)
            await link.close()


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    """Line by line, so that a power cut takes nothing that was seen."""
    try:
        out = file.open("x", encoding="utf-8", buffering=1)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from error
    with out:
        yield out


def _facts(plan: LinkPlan, date: str) -> Iterator[tuple[str, str]]:
    options = plan.address.settled(plan.defaults)
    yield "meterd", __version__
    yield "date", date
    yield "link", plan.key
    yield from ((name, options[name]) for name in OPTIONS if name in options)
    for name, device in plan.devices:
        yield "device", f"{name} {_described(device)}"


def _described(device: DeviceSettings) -> str:
    """Driver, map and unit; of a user's own map only the file's name."""
    words = [f"driver={device.driver}"]
    if isinstance(device.options, ModbusOptions):
        name = device.options.map
        words.append(f"map={re.sub('.*/', '', name) if is_file(name) else name}")
        if device.options.unit is not None:
            words.append(f"unit={device.options.unit}")
    return " ".join(words)
