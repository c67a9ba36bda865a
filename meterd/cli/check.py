"""`meterd check`: validates everything, and shows what polling costs each bus."""

import asyncio
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from meterd.cli import output
from meterd.cli.configuration import config_option, load_file
from meterd.cli.logging_setup import tell_of_values, warn_of_maps
from meterd.cli.main import EXIT_ALL_FAILED, EXIT_CONFIG, EXIT_FINDINGS, EXIT_SOME_FAILED
from meterd.cli.servers import check_certificate, check_login
from meterd.cli.times import now_ms
from meterd.config.codes import Code
from meterd.config.load import Loaded
from meterd.config.settings import Settings
from meterd.daemon import alerting, config_warnings, rule_warnings
from meterd.daemon.busload import BusLoad, RateSource, load_of
from meterd.daemon.config_warnings import ConfigWarning
from meterd.daemon.device_names import of_names
from meterd.daemon.link_plan import Built, build, link_plans
from meterd.daemon.saved_alerts import silenced
from meterd.errors import ConfigError, Problem
from meterd.model.duration import spell
from meterd.model.sample import Poll

_COLUMNS = (
    "link",
    "device",
    "interval",
    "reads",
    "bytes",
    "seconds",
    "load_percent",
    "bus_percent",
    "baud",
    "baud_from",
)
# Of a table, those that go first where a terminal has no room for all.
_MINOR = ("baud_from", "bus_percent", "baud", "bytes", "reads", "seconds", "link")
# Polls of each device after which what a link costs is known well enough.
_ROUNDS = 3


@dataclass(slots=True)
class _CheckReport:
    """What a check found: the load of each bus, doubts, and what devices said."""

    loads: list[BusLoad]
    doubts: list[ConfigWarning] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many devices did not answer."""
        return sum(not poll.up for poll in self.polls)

    @property
    def impossible(self) -> list[BusLoad]:
        """Buses that certainly cannot keep the intervals."""
        return [load for load in self.loads if load.is_over and load.is_certain]


@click.command(
    epilog="""\b
Examples:
  meterd check
  meterd check -c /etc/meterd/meterd.yaml --online
  meterd check --strict
"""
)
@config_option
@click.option("--online", is_flag=True, help="Also read each device, and compare what they say.")
@click.option("--strict", is_flag=True, help="Exit code 3 where there is a warning.")
@output.format_option
def command(config: Path | None, online: bool, strict: bool, format_: str | None) -> int:
    """Check the configuration; print each bus's plan: reads, bytes, seconds, load.

    Every mistake is printed with its place and what to do. Exit code 78 if there is one, if
    nobody could log in where the API listens to the network, if the driver of the store's server is
    not installed, or if a bus cannot keep the intervals that are asked of it.
    What can be loaded and hardly is what was meant is a warning: two devices that are one meter,
    rules that can never fire or that tell nobody, hooks that hear nothing.
    """
    loaded = load_file(config)
    settings = loaded.settings
    _check_driver(loaded)
    check_login(settings.api, settings.api.token_file(settings.store.url))
    if flaw := check_certificate(settings.api, time.time()):
        click.echo(f"warning: api.tls: {flaw}; renew it", err=True)
    warn_of_maps(settings)
    tell_of_values(settings, limits=True)
    # A rule that names a state which there is not is refused when it is made.
    list(alerting.rules(settings))
    built = [build(plan) for plan in link_plans(settings).values()]
    verdict = _offline(settings, built)
    # What is only assumed of a bus can be measured.
    if online and all(load.ground is RateSource.ASSUMED for load in verdict.impossible):
        verdict = asyncio.run(_online(settings, built, verdict))
    problems = _problems(loaded, verdict)
    _print(verdict, problems, format_)
    _tell(loaded, verdict, problems)
    return _code(verdict, problems, strict=strict)


# -- what is found ---------------------------------------------------------------------------------


def _check_driver(loaded: Loaded) -> None:
    """Raises ConfigError where the store is on a server and the driver for it is not installed."""
    from meterd.store.db.extras import MissingDriverError, need_driver

    url = loaded.settings.store.url
    scheme, _, _ = (url if isinstance(url, str) else url[0]).partition(":")
    try:
        need_driver(scheme)
    except MissingDriverError as error:
        place = loaded.place("store", "url")
        code, hint = Code.STORE_DRIVER.value, f"install it: {error.todo}"
        found = Problem(loaded.file, place.line, place.column, code, error.what, hint)
        raise ConfigError([found]) from error


def _offline(settings: Settings, built: Sequence[Built]) -> _CheckReport:
    verdict = _CheckReport([load_of(one) for one in built])
    verdict.doubts += config_warnings.of_devices(settings, built)
    verdict.doubts += of_names(settings)
    quiet = silenced(settings.store.url, now_ms()) if settings.alerts.rules else ()
    verdict.doubts += rule_warnings.of_rules(settings, rule_warnings.delivered(built), quiet)
    return verdict


async def _online(settings: Settings, built: Sequence[Built], before: _CheckReport) -> _CheckReport:
    """Also what the devices say: whether each is another one, and how long it takes."""
    from meterd.cli.poll import poll_links
    from meterd.daemon.duplicate_meters import twins

    polls = await poll_links(built)
    up = {poll.device for poll in polls if poll.up}
    unsure = [
        one
        for one, load in zip(built, before.loads, strict=True)
        if load.ground is RateSource.ASSUMED and up.issuperset(name for name, _, _ in one.drivers)
    ]
    await poll_links(unsure, _ROUNDS - 1)
    loads = [
        load_of(one, measured=True) if one in unsure else load
        for one, load in zip(built, before.loads, strict=True)
    ]
    doubts = [*before.doubts, *twins(built, polls)]
    delivered = rule_warnings.delivered(built)
    missing = {
        poll.device: _missing(poll, delivered[poll.device] or frozenset())
        for poll in polls
        if poll.up
    }
    doubts += rule_warnings.unread(settings, delivered, missing)
    return _CheckReport(loads, doubts, polls)


def _missing(poll: Poll, delivers: Collection[str]) -> dict[str, str]:
    """What a device might have delivered and did not, and why."""
    said = {sample.quantity: sample for sample in poll.samples()}
    found = {quantity: "" for quantity in delivers if quantity not in said}
    return found | {name: one.reason for name, one in said.items() if one.value is None}


def _problems(loaded: Loaded, verdict: _CheckReport) -> list[Problem]:
    """All doubts, and the buses that are asked for too much, at their places in the file."""
    certain = {load.key for load in verdict.impossible}
    found = [_problem(loaded, doubt, "warning") for doubt in verdict.doubts]
    for load in verdict.loads:
        if (doubt := config_warnings.of_load(loaded.settings, load)) is not None:
            severity = "error" if load.key in certain else "warning"
            found.append(_problem(loaded, doubt, severity))
    return sorted(found, key=lambda one: (one.line, one.column, one.code))


def _problem(loaded: Loaded, doubt: ConfigWarning, severity: str) -> Problem:
    place = loaded.place(*doubt.path)
    code, text, hint = doubt.code.value, doubt.text, doubt.hint
    return Problem(loaded.file, place.line, place.column, code, text, hint, severity)


# -- what is said ----------------------------------------------------------------------------------


def _print(verdict: _CheckReport, problems: Sequence[Problem], format_: str | None) -> None:
    rows = [row for load in verdict.loads for row in _rows(load)]
    if output.chosen(format_) in ("json", "ndjson"):
        # Programs get the warnings after the rows of the plan.
        rows += [_said(problem) for problem in problems]
    output.show(_COLUMNS, rows, format_, rows, minor=_MINOR)


def _said(problem: Problem) -> dict[str, Any]:
    return {
        problem.severity: problem.code,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "text": problem.what,
        "hint": problem.hint,
    }


def _rows(load: BusLoad) -> Iterator[dict[str, Any]]:
    for device in load.devices:
        yield {
            "link": load.key,
            "device": device.name,
            "interval": spell(device.interval),
            "reads": device.reads,
            "bytes": device.bytes,
            "seconds": round(device.seconds, 3),
            "load_percent": round(device.share * 100, 1),
            "bus_percent": round(load.share * 100, 1),
            "baud": load.baud,
            "baud_from": load.ground.value,
        }


def _tell(loaded: Loaded, verdict: _CheckReport, problems: Sequence[Problem]) -> None:
    for problem in problems:
        click.echo(str(problem), err=True)
    for load in verdict.loads:
        if len(load.devices) > 1 and not load.is_over:
            click.echo(f"{load.key}: {_sum(load)}", err=True)
    for poll in verdict.polls:
        known = sum(value is not None for value in poll.values) - 1
        says = poll.fault.text if poll.fault else f"{known} values in {poll.took:.2f} s"
        click.echo(f"{'FAILED' if poll.fault else 'ok'}: {poll.device}: {says}", err=True)
    told = f"devices: {len(loaded.settings.devices)}, links: {len(verdict.loads)}"
    if verdict.impossible:
        return
    warnings = f"{len(problems)} warning{'s' if len(problems) > 1 else ''}"
    click.echo(f"no mistakes, {warnings}; {told}" if problems else f"ok, {told}", err=True)


def _sum(load: BusLoad) -> str:
    how = {
        RateSource.SAID: f" at {load.baud} baud",
        RateSource.ASSUMED: f" at {load.baud} baud, which is assumed: say baud= in the link's URL",
        RateSource.MEASURED: ", as measured",
    }.get(load.ground, " as far as the network goes")
    return f"{len(load.devices)} devices take {load.share * 100:.3g} % of the bus{how}"


def _code(verdict: _CheckReport, problems: Sequence[Problem], *, strict: bool) -> int:
    if verdict.impossible:
        return EXIT_CONFIG
    if verdict.failed:
        return EXIT_ALL_FAILED if verdict.failed == len(verdict.polls) else EXIT_SOME_FAILED
    return EXIT_FINDINGS if strict and problems else 0
