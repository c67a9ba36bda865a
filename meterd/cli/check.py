"""`meterd check`: validates everything, and shows what polling costs each bus."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from meterd.cli import output
from meterd.cli.configuration import config_option, load_settings
from meterd.cli.doors import check_certificate, check_login
from meterd.cli.main import EXIT_CONFIG
from meterd.cli.talk import warn_of_maps
from meterd.config.settings import Settings
from meterd.daemon.plan import LinkPlan, devices, link_plans
from meterd.drivers.costs import NETWORK, TURNAROUND
from meterd.drivers.modbus import ModbusMeter
from meterd.model.duration import spell
from meterd.model.sample import Driver
from meterd.wire.link import Link

_COLUMNS = ("link", "device", "interval", "reads", "bytes", "seconds", "load_percent")


@click.command(
    epilog="""\b
Examples:
  meterd check
  meterd check -c /etc/meterd/meterd.yaml --online
"""
)
@config_option
@click.option("--online", is_flag=True, help="Also read each device once.")
@output.format_option
def command(config: Path | None, online: bool, format_: str | None) -> int:
    """Check the configuration; print each bus's plan: reads, bytes, seconds, load.

    Every mistake is printed with its place and what to do. Exit code 78 if there is one, if
    nobody could log in where the API listens to the network, or
    if a bus cannot keep the intervals that are asked of it.
    """
    settings = load_settings(config)
    check_login(settings.api, settings.api.token_file(settings.store.url))
    if flaw := check_certificate(settings.api, time.time()):
        click.echo(f"warning: api.tls: {flaw}; renew it", err=True)
    warn_of_maps(settings)
    plans = link_plans(settings)
    rows = [row for plan in plans.values() for row in _rows(plan)]
    output.show(_COLUMNS, rows, format_, rows)
    overloaded = [line for key in plans if (line := _overload(key, rows))]
    for line in overloaded:
        click.echo(line, err=True)
    if overloaded:
        return EXIT_CONFIG
    click.echo(f"ok, devices: {len(settings.devices)}, links: {len(plans)}", err=True)
    return asyncio.run(_online(settings)) if online else 0


def _rows(plan: LinkPlan) -> Iterator[dict[str, Any]]:
    link = plan.open()
    for name, driver, settings in devices(plan, link):
        report = driver.report() if isinstance(driver, ModbusMeter) else None
        reads, size, taken = _numbers(driver, link, plan)
        if report is not None:
            reads, size, taken = report.reads, report.bytes, report.seconds
            taken += (plan.times.gap or 0.0) * reads
        yield {
            "link": plan.key,
            "device": name,
            "interval": spell(settings.interval),
            "reads": reads,
            "bytes": size,
            "seconds": round(taken, 3),
            "load_percent": round(taken / settings.interval * 100, 1),
        }


def _numbers(driver: Driver, link: Link, plan: LinkPlan) -> tuple[int, int, float]:
    """Reads, bytes and seconds of one poll, of a driver that tells what it sends and gets."""
    traffic = getattr(driver, "traffic", None)
    sizes = [sent + received for sent, received in (traffic() if traffic else ())]
    if plan.address.scheme != "serial":
        return len(sizes), sum(sizes), max(NETWORK, plan.times.gap) * len(sizes)
    said = link.options
    bits = 10 + (said["parity"] != "N") + (said["stop"] == "2")
    pause = max(TURNAROUND, plan.times.gap)
    return len(sizes), sum(sizes), sum(sizes) * bits / int(said["baud"]) + pause * len(sizes)


def _overload(key: str, rows: list[dict[str, Any]]) -> str:
    """The arithmetic of a bus that is asked for more than it can carry; "" if it is not."""
    mine = [row for row in rows if row["link"] == key]
    load = sum(row["load_percent"] for row in mine)
    if load <= 100:
        return ""
    round_trip = sum(row["seconds"] for row in mine)
    sums = " + ".join(f"{row['device']} {row['seconds']} s / {row['interval']}" for row in mine)
    return (
        f"{key}: {sums} makes {load:.0f} % of the bus: "
        f"the shortest interval that all could have is {spell(round(round_trip * 1.1 + 0.05, 1))}"
    )


async def _online(settings: Settings) -> int:
    from meterd.cli.poll import poll_all

    polls = await poll_all(settings)
    for poll in polls:
        known = sum(value is not None for value in poll.values) - 1
        says = poll.fault.text if poll.fault else f"{known} values in {poll.took:.2f} s"
        click.echo(f"{'FAILED' if poll.fault else 'ok'}: {poll.device}: {says}", err=True)
    from meterd.cli.main import EXIT_ALL_FAILED, EXIT_SOME_FAILED

    failures = sum(poll.fault is not None for poll in polls)
    if not failures:
        return 0
    return EXIT_ALL_FAILED if failures == len(polls) else EXIT_SOME_FAILED
