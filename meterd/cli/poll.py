"""`meterd poll`: one shot through the same path as the daemon; no database, no daemon needed."""

import asyncio
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from meterd.cli import output
from meterd.cli.configuration import config_option, is_target, load_settings, target_settings
from meterd.cli.logging_setup import tell_of_values, warn_of_maps
from meterd.cli.main import EXIT_ALL_FAILED, EXIT_SOME_FAILED
from meterd.config.names import near
from meterd.config.settings import DeviceSettings, Settings
from meterd.daemon.link_plan import Built, build, close_driver, link_plans, polled
from meterd.daemon.service import ContainedDriver
from meterd.drivers import registry
from meterd.errors import ConfigError
from meterd.model.clock import SystemClock
from meterd.model.driver import Driver
from meterd.model.event import Event, EventKind
from meterd.model.sample import Poll, Sample
from meterd.model.times import rfc3339
from meterd.poll.cycle import log_event, poll_once

States = Mapping[str, Mapping[int, str]]
"""What numbers mean, by quantity and number."""

_COLUMNS = ("device", "quantity", "value", "unit", "quality", "reason")


@click.command(
    epilog="""\b
Examples:
  meterd poll
  meterd poll main --format json
  meterd poll eastron_sdm630@tcp://192.0.2.5:502/1
  meterd poll 'eastron_sdm120@serial:///dev/ttyUSB0?baud=2400&unit=2'
  meterd poll megatec@serial:///dev/ttyUSB0
"""
)
@click.argument("what", nargs=-1, metavar="[DEVICE…|TARGET…]")
@config_option
@output.format_option
def command(what: tuple[str, ...], config: Path | None, format_: str | None) -> int:
    """Read devices once and print what they say.

    Without arguments: every device of the configuration. A TARGET needs no configuration:
    MAP@URL, or the name of another driver and @URL.
    """
    settings = _settings(what, config)
    warn_of_maps(settings)
    tell_of_values(settings)
    polls = asyncio.run(poll_all(settings))
    states = {
        name: registry.states(device.driver, device.options)
        for name, device in settings.devices.items()
    }
    columns = (*_COLUMNS, "state") if any(states.values()) else _COLUMNS
    document = _document(polls, states)
    output.show(columns, list(_rows(polls, states)), format_, document, minor=("reason",))
    for poll in polls:
        if poll.fault is not None:
            click.echo(f"{poll.device}: {poll.fault.text} [{poll.fault.code}]", err=True)
    failures = sum(poll.fault is not None for poll in polls)
    if not failures:
        return 0
    return EXIT_ALL_FAILED if failures == len(polls) else EXIT_SOME_FAILED


def _settings(what: Sequence[str], config: Path | None) -> Settings:
    """The configuration cut down to what was asked for."""
    targets = [target_settings(word) for word in what if is_target(word) or "@" in word]
    names = [word for word in what if "@" not in word]
    if targets and names:
        raise click.UsageError("either device names or targets, not both")
    if targets:
        return Settings(devices=dict(_numbered(targets)))
    settings = load_settings(config)
    if unknown := [name for name in names if name not in settings.devices]:
        told = "; ".join(f"no device {one}: {near(one, settings.devices)}" for one in unknown)
        raise ConfigError(told)
    wanted = {n: d for n, d in settings.devices.items() if n in names or not names}
    if not any(device.enabled for device in wanted.values()):
        raise ConfigError("there is no device to poll: none is configured, or none is enabled")
    return settings.model_copy(update={"devices": wanted})


def _numbered(targets: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Two targets with the same map get names of their own."""
    names = [name for name, _ in targets]
    for number, (name, device) in enumerate(targets, 1):
        yield (name if names.count(name) == 1 else f"{name}-{number}"), device


async def poll_all(settings: Settings) -> list[Poll]:
    """Every device once: links side by side, the devices of a link one after the other."""
    by_device = {
        poll.device: poll for poll in await poll_links(map(build, link_plans(settings).values()))
    }
    return [by_device[name] for name in settings.devices if name in by_device]


async def poll_links(built: Iterable[Built], rounds: int = 1) -> list[Poll]:
    """Every device of these links, so many times; the links stay with what was learned of them."""
    groups = await asyncio.gather(*(_poll_link(one, rounds) for one in built))
    return list(itertools.chain.from_iterable(groups))


async def _poll_link(built: Built, rounds: int) -> list[Poll]:
    clock = SystemClock()
    members = [
        replace(
            polled(
                name, ContainedDriver(name, driver, origin=registry.origin(device.driver)), device
            ),
            noticed=_tell,
        )
        for name, driver, device in built.drivers
    ]
    try:
        return [await poll_once(member, (), clock) for _ in range(rounds) for member in members]
    finally:
        for _, driver, _ in built.drivers:
            await close_driver(driver)
        await built.link.close()


def _contained(name: str, driver: Driver, device: DeviceSettings) -> ContainedDriver:
    return ContainedDriver(name, driver, origin=registry.origin(device.driver))


def _tell(event: Event) -> None:
    """What is noticed is told; of a row that is left out its sample says why."""
    if event.kind not in (EventKind.ROWS_LEFT_OUT, EventKind.ROWS_BACK):
        log_event(event)


def _rows(polls: Sequence[Poll], states: Mapping[str, States]) -> Iterator[dict[str, Any]]:
    for poll in polls:
        # A device that failed has one row, too: `device.up` is 0, and why.
        for sample in poll.samples():
            yield {
                "device": poll.device,
                "quantity": sample.quantity,
                "value": sample.value,
                "unit": sample.unit,
                "quality": str(sample.quality),
                "reason": poll.fault.text if poll.fault else sample.reason,
                **({"state": _state(sample, states[poll.device])} if any(states.values()) else {}),
            }


def _document(polls: Sequence[Poll], states: Mapping[str, States]) -> dict[str, Any]:
    return {"devices": [_device(poll, states.get(poll.device, {})) for poll in polls]}


def _state(sample: Sample, states: States) -> str:
    """What an enumerated quantity's number means; empty where it means nothing."""
    texts = states.get(sample.quantity)
    value = sample.value
    return "" if texts is None or value is None else texts.get(round(value), "")


def _device(poll: Poll, states: States) -> dict[str, Any]:
    fault = poll.fault
    return {
        "device": poll.device,
        "time": rfc3339(poll.time),
        "up": poll.up,
        "error": None if fault is None else {"code": fault.code, "text": fault.text},
        "info": dict(poll.info),
        "samples": {
            sample.quantity: {
                "value": sample.value,
                "unit": sample.unit,
                "quality": str(sample.quality),
                **({"reason": sample.reason} if sample.reason else {}),
                **({"state": state} if (state := _state(sample, states)) else {}),
            }
            for sample in (poll.samples() if poll.up else ())
        },
    }
