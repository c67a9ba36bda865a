"""Debian's mbpoll (libmodbus in C) reads the simulated meter."""

import asyncio
import re
import struct
from pathlib import Path

import pytest

from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import MeterBank
from meterd.sim.serve import meter_bank, serve_meter
from tests.sim.clock import StoppedClock

pytestmark = pytest.mark.needs("mbpoll")

COUNT = 10


async def mbpoll(*arguments: str) -> list[float]:
    """The numbers that it prints, with their references in order."""
    process = await asyncio.create_subprocess_exec(
        "mbpoll",
        *("-0", "-1", "-B", "-t", "3:float", "-r", "0", "-c", str(COUNT), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, out.decode()
    printed = re.findall(r"^\[\d+\]:\s+(\S+)", out.decode(), re.MULTILINE)
    return [float(number) for number in printed]


def floats(bank: MeterBank) -> list[float]:
    words = bank.read(4, 0, 2 * COUNT)
    return list(struct.unpack(f">{COUNT}f", struct.pack(f">{2 * COUNT}H", *words)))


async def test_over_tcp_it_reads_what_the_bank_holds() -> None:
    async with serve_meter("eastron_sdm630", unit=7, clock=StoppedClock()) as server:
        found = await mbpoll("-m", "tcp", "-p", str(server.port), "-a", "7", "127.0.0.1")
        bank = server.banks[7]
    assert isinstance(bank, MeterBank)
    assert found == pytest.approx(floats(bank), rel=1e-5)
    assert all(200 < volts < 260 for volts in found[:3])


async def test_over_a_serial_line_too(tmp_path: Path) -> None:
    bank = meter_bank("eastron_sdm630", clock=StoppedClock())
    server = ModbusServer({1: bank}, framer="rtu")
    server.start_pty(tmp_path / "meter")
    try:
        found = await mbpoll("-m", "rtu", "-b", "9600", "-P", "none", str(tmp_path / "meter"))
    finally:
        await server.stop()
    assert found == pytest.approx(floats(bank), rel=1e-5)
