"""`meterd check`: validates the configuration and calculates the load of each bus."""

import asyncio
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from meterd.cli import output
from meterd.cli.configuration import config_option, load_file
from meterd.cli.logging_setup import print_value_notes, warn_about_maps
from meterd.cli.main import EXIT_ALL_FAILED, EXIT_CONFIG, EXIT_FINDINGS, EXIT_SOME_FAILED
from meterd.cli.servers import check_certificate, check_login
from meterd.cli.times import now_ms
from meterd.config.codes import Code
from meterd.config.load import LoadedConfig
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
# Columns that a table drops first where the terminal is too narrow.
_MINOR = ("baud_from", "bus_percent", "baud", "bytes", "reads", "seconds", "link")
# Polls of each device from which the duration of its exchanges is measured.
_MEASURED_POLLS = 3


@dataclass(slots=True)
class _CheckReport:
    """Results of a check: the load of each bus, warnings, and polls of the devices (--online)."""

    loads: list[BusLoad]
    warnings: list[ConfigWarning] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """The number of devices whose poll failed."""
        return sum(not poll.up for poll in self.polls)

    @property
    def overloaded(self) -> list[BusLoad]:
        """Buses that cannot keep the intervals, by a known or measured speed."""
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
    warn_about_maps(settings)
    print_value_notes(settings, limits=True)
    with loaded.placed_errors():
        # Building the rules raises ConfigError where one names a state that its devices do not have
        list(alerting.rules(settings))
        built = [build(plan) for plan in link_plans(settings).values()]
    report = _offline(settings, built)
    # The speed of a bus that is only assumed can be measured.
    if online and all(load.ground is RateSource.ASSUMED for load in report.overloaded):
        report = asyncio.run(_online(settings, built, report))
    problems = _problems(loaded, report)
    _print(report, problems, format_)
    _print_summary(loaded, report, problems)
    return _exit_code(report, problems, strict=strict)


# -- checks ----------------------------------------------------------------------------------------


def _check_driver(loaded: LoadedConfig) -> None:
    """Raise ConfigError where the store is on a server whose driver package is not installed."""
    from meterd.store.db.extras import MissingDriverError, need_driver

    url = loaded.settings.store.url
    scheme, _, _ = (url if isinstance(url, str) else url[0]).partition(":")
    try:
        need_driver(scheme)
    except MissingDriverError as error:
        place = loaded.place("store", "url")
        code, hint = Code.STORE_DRIVER.value, f"install it: {error.todo}"
        problem = Problem(loaded.file, place.line, place.column, code, error.what, hint)
        raise ConfigError([problem]) from error


def _offline(settings: Settings, built: Sequence[Built]) -> _CheckReport:
    report = _CheckReport([load_of(group) for group in built])
    report.warnings += config_warnings.of_devices(settings, built)
    report.warnings += of_names(settings)
    silences = silenced(settings.store.url, now_ms()) if settings.alerts.rules else ()
    report.warnings += rule_warnings.of_rules(settings, rule_warnings.delivered(built), silences)
    return report


async def _online(
    settings: Settings, built: Sequence[Built], offline: _CheckReport
) -> _CheckReport:
    """Poll the devices: find meters that are the same, measure buses of an assumed speed."""
    from meterd.cli.poll import poll_links
    from meterd.daemon.duplicate_meters import twins

    polls = await poll_links(built)
    up = {poll.device for poll in polls if poll.up}
    unmeasured = [
        group
        for group, load in zip(built, offline.loads, strict=True)
        if load.ground is RateSource.ASSUMED and up.issuperset(name for name, _, _ in group.drivers)
    ]
    await poll_links(unmeasured, _MEASURED_POLLS - 1)
    loads = [
        load_of(group, measured=True) if group in unmeasured else load
        for group, load in zip(built, offline.loads, strict=True)
    ]
    warnings = [*offline.warnings, *twins(built, polls)]
    delivered = rule_warnings.delivered(built)
    missing = {
        poll.device: _missing_reasons(poll, delivered[poll.device] or frozenset())
        for poll in polls
        if poll.up
    }
    warnings += rule_warnings.unread(settings, delivered, missing)
    return _CheckReport(loads, warnings, polls)


def _missing_reasons(poll: Poll, delivers: Collection[str]) -> dict[str, str]:
    """The quantities of `delivers` without a value in this poll, with the reason."""
    samples = {sample.quantity: sample for sample in poll.samples()}
    absent = {quantity: "" for quantity in delivers if quantity not in samples}
    return absent | {
        name: sample.reason for name, sample in samples.items() if sample.value is None
    }


def _problems(loaded: LoadedConfig, report: _CheckReport) -> list[Problem]:
    """Warnings and overloaded buses as problems, in the order of the file."""
    overloaded = {load.key for load in report.overloaded}
    problems = [_problem(loaded, warning, "warning") for warning in report.warnings]
    for load in report.loads:
        if (warning := config_warnings.of_load(loaded.settings, load)) is not None:
            severity = "error" if load.key in overloaded else "warning"
            problems.append(_problem(loaded, warning, severity))
    return sorted(problems, key=lambda problem: (problem.line, problem.column, problem.code))


def _problem(loaded: LoadedConfig, warning: ConfigWarning, severity: str) -> Problem:
    place = loaded.place(*warning.path)
    code, text, hint = warning.code.value, warning.text, warning.hint
    return Problem(loaded.file, place.line, place.column, code, text, hint, severity)


# -- output ----------------------------------------------------------------------------------------


def _print(report: _CheckReport, problems: Sequence[Problem], format_: str | None) -> None:
    rows = [row for load in report.loads for row in _rows(load)]
    if output.effective_format(format_) in ("json", "ndjson"):
        # Programs get the warnings after the rows of the plan.
        rows += [_problem_row(problem) for problem in problems]
    output.show(_COLUMNS, rows, format_, rows, minor=_MINOR)


def _problem_row(problem: Problem) -> dict[str, Any]:
    return {
        problem.severity: problem.code,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "text": problem.what,
        "hint": problem.hint,
    }


def _rows(load: BusLoad) -> Iterator[dict[str, Any]]:
    is_bus_known = any(device.is_known for device in load.devices)
    for device in load.devices:
        is_known = device.is_known
        yield {
            "link": load.key,
            "device": device.name,
            "interval": spell(device.interval),
            "reads": device.reads if is_known else None,
            "bytes": device.bytes if is_known else None,
            "seconds": round(device.seconds, 3) if is_known else None,
            "load_percent": round(device.share * 100, 1) if is_known else None,
            "bus_percent": round(load.share * 100, 1) if is_bus_known else None,
            "baud": load.baud,
            "baud_from": load.ground.value,
        }


def _print_summary(loaded: LoadedConfig, report: _CheckReport, problems: Sequence[Problem]) -> None:
    for problem in problems:
        click.echo(str(problem), err=True)
    for load in report.loads:
        counted = [device for device in load.devices if device.is_known]
        if len(counted) > 1 and not load.is_over:
            click.echo(f"{load.key}: {_load_text(load, len(counted))}", err=True)
        unknown = [device.name for device in load.devices if not device.is_known]
        if unknown:
            told = f"the load of {', '.join(unknown)} is not known: the driver has no traffic()"
            click.echo(f"{load.key}: {told}", err=True)
    for poll in report.polls:
        count = sum(value is not None for value in poll.values) - 1
        outcome = poll.fault.text if poll.fault else f"{count} values in {poll.took:.2f} s"
        click.echo(f"{'FAILED' if poll.fault else 'ok'}: {poll.device}: {outcome}", err=True)
    totals = f"devices: {len(loaded.settings.devices)}, links: {len(report.loads)}"
    if report.overloaded:
        return
    warnings = f"{len(problems)} warning{'s' if len(problems) > 1 else ''}"
    click.echo(f"no mistakes, {warnings}; {totals}" if problems else f"ok, {totals}", err=True)


def _load_text(load: BusLoad, counted: int) -> str:
    basis = {
        RateSource.SAID: f" at {load.baud} baud",
        RateSource.ASSUMED: f" at {load.baud} baud, which is assumed: say baud= in the link's URL",
        RateSource.MEASURED: ", as measured",
    }.get(load.ground, " as far as the network goes")
    return f"{counted} devices take {load.share * 100:.3g} % of the bus{basis}"


def _exit_code(report: _CheckReport, problems: Sequence[Problem], *, strict: bool) -> int:
    if report.overloaded:
        return EXIT_CONFIG
    if report.failed:
        return EXIT_ALL_FAILED if report.failed == len(report.polls) else EXIT_SOME_FAILED
    return EXIT_FINDINGS if strict and problems else 0
