"""`meterd demo`: a simulated site, polled by the real daemon over real sockets and a real pty."""

import asyncio
import tempfile
from pathlib import Path

import click

from meterd.cli.listen_argument import check_loopback, host_and_port
from meterd.cli.logging_setup import start_log
from meterd.cli.run import serve
from meterd.config.load import parse
from meterd.config.settings import Settings
from meterd.drivers import registry

_DEVICE = """\
  {device}:
    driver: modbus
    map: {map}
    link: {url}
    unit: {unit}
    interval: 1s
    slow: 5s
    labels: {{building: A}}
"""

_SITE = """\
site: {{name: Demo house, timezone: UTC}}
devices:
{meters}\
  rack-ups:
    driver: megatec
    link: {ups}
    interval: 1s
    battery: {{nominal: 12V, packs: 1}}
store: {{url: "sqlite:///{store}", commit: 2s}}
api: {{listen: "{listen}"{insecure}}}
alerts:
  rules:
    on-battery:
      {{device: rack-ups, quantity: ups.status.ob, equals: 1, for: 3s,
      severity: critical, notify: []}}
    overvoltage:
      {{quantity: voltage.l1, above: 253, clear_below: 250, for: 1m,
      severity: warning, notify: []}}
    gone:
      {{quantity: device.up, equals: 0, for: 30s,
      severity: warning, notify: []}}
tariffs:
  home:
    currency: EUR
    prices:
      - rates: {{day: 0.3412, night: 0.2150}}
        rules: [{{rate: night, time: 22:30-06:00}}]
        else: day
        standing: 0.45
        feed_in: 0.082
"""


@click.command(epilog="Example: meterd demo --listen 127.0.0.1:9000")
@click.option(
    "--listen", default="127.0.0.1:8420", show_default=True, help="HOST:PORT of the page."
)
@click.option("--insecure", is_flag=True, help="Allow an address that others can reach.")
@click.option("--log", is_flag=True, help="Show the daemon's log.")
def command(listen: str, insecure: bool, log: bool) -> None:
    """Show meterd at work: three meters over Modbus TCP and a UPS on a serial line.

    Nothing is configured and nothing is kept: the store is a temporary file. The mains fail
    after 15 seconds, for 20 seconds, and again every three minutes.
    """
    host_and_port(listen) if insecure else check_loopback(listen)
    if log:
        start_log()
    with tempfile.TemporaryDirectory(prefix="meterd-demo-") as folder:
        asyncio.run(_demo(Path(folder), listen, insecure=insecure))
    click.echo("Stopped. Nothing of the demo is left.", err=True)


async def _demo(folder: Path, listen: str, *, insecure: bool) -> None:
    from meterd.sim.site import DemoSite

    simulated = DemoSite()
    addresses = await simulated.start()
    meters = "".join(
        _DEVICE.format(device=meter.device, map=meter.map, url=meter.url, unit=meter.unit)
        for meter in addresses.meters
    )
    text = _SITE.format(
        meters=meters,
        ups=addresses.ups,
        store=folder / "demo.db",
        listen=listen,
        insecure=", insecure: true" if insecure else "",
    )
    file = folder / "meterd.yaml"
    file.write_text(text, "utf-8")
    try:
        await serve(settings(text), lambda url: _print_banner(url, file))
    finally:
        await simulated.stop()


def settings(text: str) -> Settings:
    """Parse the demo's configuration, by the same loader as a file."""
    return parse(
        text,
        "demo",
        options_of=registry.options_of,
        driver_names=registry.names(),
        environ={},
    )


def _print_banner(url: str, file: Path) -> None:
    click.echo(
        f"""meterd's demo house is up: three meters and a UPS, simulated, polled every second.

  page            {url}/
  newest values   curl {url}/api/v1/latest
  alerts          curl {url}/api/v1/alerts
  one-shot poll   meterd poll main -c {file}
  configuration   {file}

In 15 seconds the mains fail for 20 seconds: watch rack-ups. Ctrl-C stops.""",
        err=True,
    )
