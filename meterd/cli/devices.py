"""`meterd devices`: what the configuration names."""

from pathlib import Path

import click

from meterd.cli import output
from meterd.cli.configuration import config_option, load_settings
from meterd.model.duration import spell

_COLUMNS = ("device", "driver", "map", "link", "interval", "enabled")


@click.command(epilog="Example: meterd devices -c meterd.yaml")
@config_option
@output.format_option
def command(config: Path | None, format_: str | None) -> None:
    """List the configured devices; `meterd poll` reads them."""
    settings = load_settings(config)
    rows = [
        {
            "device": name,
            "driver": device.driver,
            "map": getattr(device.options, "map", None),
            "link": device.link,
            "interval": spell(device.interval),
            "enabled": device.enabled,
        }
        for name, device in settings.devices.items()
    ]
    output.show(_COLUMNS, rows, format_, rows, minor=("driver", "interval", "enabled", "map"))
