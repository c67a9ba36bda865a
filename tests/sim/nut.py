"""NUT's real driver and server on a simulated UPS, for as long as a test needs them."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port

# Distributions keep drivers out of PATH.
DRIVER_FOLDERS = ("/lib/nut", "/usr/lib/nut", "/usr/libexec/nut", "/usr/lib/ups/driver")
NAME = "sim"
_PATIENCE = 20.0
_STEP = 0.1


def find(name: str) -> str:
    """The path of one of NUT's programs. Debian's upsd in PATH is a script that may refuse."""
    path = os.pathsep.join((*DRIVER_FOLDERS, os.environ.get("PATH", ""), "/usr/sbin"))
    found = shutil.which(name, path=path)
    assert found is not None, f"{name} of NUT is not installed"
    return found


@dataclass(frozen=True, slots=True)
class Nut:
    """A running upsd with one UPS."""

    port: int
    environment: dict[str, str]

    async def upsc(self) -> dict[str, str]:
        """What upsc prints, by variable; empty while upsd does not know yet."""
        process = await asyncio.create_subprocess_exec(
            "upsc",
            f"{NAME}@127.0.0.1:{self.port}",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=self.environment,
        )
        out, _ = await process.communicate()
        pairs = (line.split(": ", 1) for line in out.decode().splitlines())
        return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}

    async def wait_for(self, variable: str, value: str | None = None) -> dict[str, str]:
        """upsc's answer as soon as it has the variable (with this value among its words)."""
        seen: dict[str, str] = {}
        for _ in range(int(_PATIENCE / _STEP)):
            seen = await self.upsc()
            if variable in seen and (value is None or value in seen[variable].split()):
                return seen
            await asyncio.sleep(_STEP)
        raise AssertionError(f"upsc never showed {variable} = {value}; last it said {seen}")


def _configure(folder: Path, device: str, port: int, settings: str) -> dict[str, str]:
    ups = ("driver = nutdrv_qx", f"port = {device}", "pollinterval = 1", settings)
    files = {
        "ups.conf": "\n".join((f"[{NAME}]", *ups, "")),
        "upsd.conf": f"LISTEN 127.0.0.1 {port}\nMAXAGE 5\n",
        "upsd.users": "",
        "nut.conf": "MODE=standalone\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o640)
    folder.chmod(0o750)
    places = dict.fromkeys(("NUT_CONFPATH", "NUT_STATEPATH", "NUT_ALTPIDPATH"), str(folder))
    return os.environ | places | {"NUT_QUIET_INIT_SSL": "true"}


@asynccontextmanager
async def nut(device: str, folder: Path, settings: str = "") -> AsyncIterator[Nut]:
    """nutdrv_qx on the serial port `device` and upsd on a free loopback port.

    `settings` are further lines for ups.conf. Both end with the block.
    """
    port = free_port()
    environment = _configure(folder, device, port, settings)
    user = ("-u", "root") if os.geteuid() == 0 else ()
    commands = ((find("nutdrv_qx"), "-a", NAME, "-F", *user), (find("upsd"), "-F", *user))
    running: list[asyncio.subprocess.Process] = []
    log = (folder / "nut.log").open("wb")
    try:
        for command in commands:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=log, stderr=log, env=environment
            )
            running.append(process)
        yield Nut(port, environment)
    finally:
        for process in running:
            if process.returncode is None:
                process.terminate()
        for process in running:
            await process.wait()
        log.close()
