"""A meter on a serial line that loses its plug."""

import asyncio
import os
import tty
from pathlib import Path

from meterd.sim.bank import FixedBank
from meterd.sim.faults import Fault
from meterd.sim.frames import with_crc
from meterd.sim.modbus import ModbusServer

READ = with_crc(bytes.fromhex("01 03 0005 0001"))
GOOD = with_crc(bytes.fromhex("01 03 02 0007"))


async def ask(port: int) -> bytes:
    """What has come after a short while; empty at a hang-up too."""
    os.write(port, READ)
    await asyncio.sleep(0.1)
    try:
        return os.read(port, 100)
    except BlockingIOError:
        return b"silence"


async def test_closing_a_serial_line_pulls_its_plug_for_a_moment(tmp_path: Path) -> None:
    link = tmp_path / "meter"
    server = ModbusServer(
        {1: FixedBank({3: {5: 7}})}, framer="rtu", faults=[Fault("close", every=2)]
    )
    server.start_pty(link)
    assert server.url == f"serial://{link}?framer=rtu"
    heard = []
    for _ in range(2):
        port = os.open(link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(port)
        heard += [await ask(port), await ask(port)]
        os.close(port)
        await asyncio.sleep(0.3)
    await server.stop()
    assert heard == [GOOD, b"", GOOD, b""]
    assert not link.exists()
