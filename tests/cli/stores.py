"""A configuration with a store that holds some days, for the commands that read stores."""

import shutil
from pathlib import Path

import pytest

from meterd.model.clock import SystemClock
from tests.cli.command import Ended
from tests.cli.inside import inside

CONFIGURATION = """\
site: {timezone: Europe/Berlin}
devices:
  main: {driver: modbus, map: eastron_sdm630, link: "tcp://127.0.0.1:502"}
"""
MINUTE = 60_000
DAYS = 3
# Power, energy, and its guarded total.
SERIES = 3


class Site:
    """Runs commands in this process, on a store of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.config = folder / "meterd.yaml"
        self.config.write_text(f'{CONFIGURATION}store: {{url: "sqlite:///{self.path}"}}\n')
        self._capsys = capsys
        self.start = SystemClock().now_ms() // MINUTE * MINUTE - DAYS * 1440 * MINUTE

    @property
    def path(self) -> Path:
        return self.folder / "meterd.db"

    def __call__(self, *words: str) -> Ended:
        return inside(self._capsys, *words, "-c", str(self.config))

    def take_over(self, other: "Site") -> None:
        """All that another one's folder holds but the configuration."""
        self.start = other.start
        for file in other.folder.iterdir():
            if file.name != other.config.name:
                shutil.copy2(file, self.folder)

    def fill(self) -> None:
        """Three days of power and energy, a sample a minute, until a minute ago."""
        head = "time,main/active_power,main/active_energy.import [kWh]"
        lines = (
            f"{self.start + number * MINUTE},{number % 100},{number / 100}"
            for number in range(DAYS * 1440)
        )
        file = self.folder / "history.csv"
        file.write_text("\n".join([head, *lines, ""]))
        done = self("import", str(file))
        assert done.code == 0, done.err
