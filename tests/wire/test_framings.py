"""Every kind of link and frame against pymodbus' servers, which share none of our link code."""

import asyncio
import contextlib
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer, ModbusTlsServer, ModbusUdpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from meterd.errors import LinkError
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Link, Times
from meterd.wire.modbus import ModbusClient, Refused
from tests.ports import free_port

# Only ever reached where something hangs.
PATIENT = Times(timeout=60.0)
REGISTERS = [(n * 257 + 3) & 0xFFFF for n in range(200)]
UNIT = 5


def device() -> SimDevice:
    data = SimData(0, values=REGISTERS, datatype=DataType.REGISTERS)
    return SimDevice(UNIT, simdata=[data])


@contextlib.asynccontextmanager
async def serving(build: Callable[[], Any]) -> AsyncIterator[None]:
    server = build()
    await server.serve_forever(background=True)
    try:
        yield
    finally:
        await server.shutdown()
        await asyncio.sleep(0.01)


async def check(link: Link) -> None:
    """The registers are what the server holds, and its no is understood."""
    client = ModbusClient(link, UNIT)
    for address, count in ((0, 1), (10, 60), (75, 125)):
        data = await client.read(3, address, count)
        words = [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]
        assert words == REGISTERS[address : address + count]
    with pytest.raises(Refused) as caught:
        await client.read(3, 190, 20)
    assert caught.value.exception == 2
    data = await client.read(4, 0, 5)
    assert len(data) == 10
    await link.close()


@pytest.mark.parametrize("framer", ["socket", "rtu", "ascii"])
async def test_tcp(framer: str) -> None:
    place = ("127.0.0.1", free_port())
    async with serving(lambda: ModbusTcpServer(device(), framer=FramerType(framer), address=place)):
        await check(
            open_link(
                parse(f"tcp://127.0.0.1:{place[1]}?framer={framer}"), defaults={}, times=PATIENT
            )
        )


async def test_udp() -> None:
    place = ("127.0.0.1", free_port())
    async with serving(lambda: ModbusUdpServer(device(), address=place)):
        await check(open_link(parse(f"udp://127.0.0.1:{place[1]}"), defaults={}, times=PATIENT))


async def test_udp_where_nobody_listens() -> None:
    # Another address than ours: a socket that happens to get this port would talk to itself.
    link = open_link(parse(f"udp://127.0.0.2:{free_port()}"), defaults={})
    with pytest.raises(LinkError) as caught:
        await ModbusClient(link, UNIT).read(3, 0, 4)
    assert caught.value.code in ("refused", "timeout")
    await link.close()


def pump(source: int, target: int) -> None:
    os.write(target, os.read(source, 4096))


@pytest.mark.parametrize(("framer", "options"), [("rtu", ""), ("ascii", "&bytes=8")])
async def test_serial(framer: str, options: str) -> None:
    master, slave = os.openpty()
    # Two ptys back to back: one end for each side, as a null modem cable.
    other_master, other_slave = os.openpty()
    loop = asyncio.get_running_loop()
    for source, target in ((master, other_master), (other_master, master)):
        os.set_blocking(source, False)
        loop.add_reader(source, pump, source, target)
    with contextlib.ExitStack() as stack:
        for number in (master, slave, other_master, other_slave):
            stack.callback(os.close, number)
        async with serving(
            lambda: ModbusSerialServer(
                device(), framer=FramerType(framer), port=os.ttyname(other_slave), baudrate=115200
            )
        ):
            url = f"serial://{os.ttyname(slave)}?baud=115200&framer={framer}{options}"
            await check(open_link(parse(url), defaults={}, times=PATIENT))
        for number in (master, other_master):
            loop.remove_reader(number)


class Certificates:
    """A key and a self-signed certificate for 127.0.0.1, made by openssl."""

    def __init__(self, folder: Path) -> None:
        self.key, self.cert = folder / "key.pem", folder / "cert.pem"
        subprocess.run(
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=meter -addext "
            f"subjectAltName=IP:127.0.0.1 -keyout {self.key} -out {self.cert}".split(),
            check=True,
            capture_output=True,
        )

    def server_side(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


@pytest.mark.needs("openssl")
async def test_tls(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    place = ("127.0.0.1", free_port())
    url = f"tls://127.0.0.1:{place[1]}"
    async with serving(lambda: ModbusTlsServer(device(), address=place, sslctx=made.server_side())):
        for options in (f"?ca={made.cert}", f"?ca={made.cert}&verify=host", "?verify=0"):
            await check(open_link(parse(url + options), defaults={}, times=PATIENT))
        stranger = open_link(parse(url), defaults={})
        with pytest.raises(LinkError, match="no trust") as caught:
            await ModbusClient(stranger, UNIT).read(3, 0, 4)
        assert caught.value.code == "tls"


@pytest.mark.needs("openssl")
async def test_a_certificate_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    link = open_link(parse(f"tls://127.0.0.1:1?ca={tmp_path}/none.pem"), defaults={})
    with pytest.raises(LinkError, match="No such file"):
        await ModbusClient(link, UNIT).read(3, 0, 4)
