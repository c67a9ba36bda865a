"""Serial lines on real ptys: they lose their plug, and keep their place in a folder."""

import asyncio
import contextlib
import os
import tty
from pathlib import Path

import pytest

from meterd.errors import ConfigError
from meterd.sim.faults import SimulatedFault
from meterd.sim.frames import with_crc
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import FixedBank
from meterd.sim.serve import serve_ups

# Seconds; only ever reached where something hangs.
PATIENCE = 60.0
READ = with_crc(bytes.fromhex("01 03 0005 0001"))
GOOD = with_crc(bytes.fromhex("01 03 02 0007"))


async def ask(port: int) -> bytes:
    """The answer; empty at a hang-up."""
    os.write(port, READ)
    heard = b""
    async with asyncio.timeout(PATIENCE):
        while len(heard) < len(GOOD):
            try:
                data = os.read(port, 100)
            except BlockingIOError:
                await asyncio.sleep(0.005)
                continue
            if not data:
                return b""
            heard += data
    return heard


async def opened(link: Path) -> int:
    """The client's end, as soon as the port is there."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(FileNotFoundError):
                port = os.open(link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
                tty.setraw(port)
                return port
            await asyncio.sleep(0.005)


async def test_closing_a_serial_line_pulls_its_plug_for_a_moment(tmp_path: Path) -> None:
    link = tmp_path / "meter"
    server = ModbusServer(
        {1: FixedBank({3: {5: 7}})}, framer="rtu", faults=[SimulatedFault("close", every=2)]
    )
    server.start_pty(link)
    assert server.url == f"serial://{link}?framer=rtu"
    heard = []
    for _ in range(2):
        port = await opened(link)
        heard += [await ask(port), await ask(port)]
        os.close(port)
    await server.stop()
    assert heard == [GOOD, b"", GOOD, b""]
    assert not link.exists()


async def test_the_link_never_replaces_a_file(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(ConfigError, match="choose another path"):
        async with serve_ups(link_path=taken):
            pass
    assert taken.read_text() == "mine"
