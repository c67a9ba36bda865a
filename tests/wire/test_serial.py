"""A serial port: unplugged and back, taken by somebody else, not there at all.

What is about ports themselves runs on real ptys and waits for what happens; what is about time
runs in virtual time.
"""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from meterd.errors import LinkError
from meterd.sim.pty import PtyPort
from meterd.wire import open_link
from meterd.wire.address import parse
from meterd.wire.link import Link, Times
from meterd.wire.serial import SerialLink
from tests.virtual import virtual


def line(buffer: bytearray) -> bytes | None:
    """All up to the first CR."""
    end = buffer.find(b"\r")
    return bytes(buffer[:end]) if end >= 0 else None


# On real ptys: only ever reached where something hangs. In seconds.
PATIENCE = 60.0


def link_to(path: Path, timeout: float = PATIENCE) -> Link:
    return open_link(
        parse(f"serial://{path}"), defaults={"baud": "2400"}, times=Times(timeout=timeout)
    )


class Echo:
    """A device on a pty that says every line back, so that the client sees its own question."""

    def __init__(self, path: Path) -> None:
        self.port = PtyPort(self.hear, path)
        self.mute = False
        self.heard = asyncio.Event()
        self.port.open()

    def hear(self, data: bytes) -> None:
        self.heard.set()
        if not self.mute:
            self.port.write(data)


async def again(link: Link, question: bytes) -> bytes:
    """The answer, as soon as the link looks for its port again and gets one."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(LinkError):
                return await link.exchange(question, line)
            await asyncio.sleep(0.02)


async def test_a_port_that_is_pulled_is_gone_and_is_reopened_when_it_returns(
    tmp_path: Path,
) -> None:
    device = Echo(tmp_path / "ups")
    link = link_to(tmp_path / "ups", timeout=0.5)
    assert await again(link, b"one\r") == b"one"
    device.port.close()
    with pytest.raises(LinkError) as caught:
        await link.exchange(b"two\r", line)
    assert caught.value.code == "port_gone"
    device.port.open()
    assert await again(link, b"three\r") == b"three"
    assert link.epoch == 2
    await link.close()
    device.port.close()


async def test_pulling_it_in_the_middle_ends_the_exchange_at_once(tmp_path: Path) -> None:
    device = Echo(tmp_path / "ups")
    device.mute = True
    link = link_to(tmp_path / "ups", timeout=3600)
    question = asyncio.create_task(link.exchange(b"Q1\r", line))
    await device.heard.wait()
    device.port.close()
    with pytest.raises(LinkError) as caught:
        await asyncio.wait_for(question, PATIENCE)
    assert caught.value.code == "port_gone"
    await link.close()


async def test_a_port_that_is_not_there_costs_one_look_a_backoff(tmp_path: Path) -> None:
    link = link_to(tmp_path / "nothing")
    for _ in range(5):
        with pytest.raises(LinkError) as caught:
            await link.exchange(b"Q1\r", line)
        assert caught.value.code == "port_gone"
    assert link.counters["open_failures"] == 1


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    device = Echo(tmp_path / "ups")
    first, second = link_to(tmp_path / "ups"), link_to(tmp_path / "ups")
    await first.exchange(b"Q1\r", line)
    with pytest.raises(LinkError, match="ups is in use by another program") as caught:
        await second.exchange(b"Q1\r", line)
    assert caught.value.code == "port_taken"
    await first.close()
    await second.close()
    device.port.close()


async def test_a_port_that_may_not_be_opened_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "port").touch(mode=0o000)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)  # nothing is forbidden to root
    try:
        with pytest.raises(LinkError, match="dialout"):
            await link_to(tmp_path / "port").exchange(b"Q1\r", line)
    finally:
        os.seteuid(before)


@virtual
async def test_a_late_line_is_not_taken_for_the_next_answer(tmp_path: Path) -> None:
    device = Echo(tmp_path / "ups")
    device.mute = True
    link = link_to(tmp_path / "ups", timeout=0.1)
    with pytest.raises(LinkError):
        await link.exchange(b"old\r", line)
    asyncio.get_running_loop().call_later(0.05, device.port.write, b"late\r")
    device.mute = False
    assert await link.exchange(b"new\r", line) == b"new"
    assert link.counters["late_own"] == 1
    await link.close()
    device.port.close()


@virtual
async def test_a_line_that_comes_in_the_pause_between_two_questions_answers_neither(
    tmp_path: Path,
) -> None:
    device = Echo(tmp_path / "ups")
    times = Times(timeout=1.0, gap=0.1)
    link = open_link(parse(f"serial://{tmp_path / 'ups'}"), defaults={"baud": "2400"}, times=times)
    assert await link.exchange(b"one\r", line) == b"one"
    asyncio.get_running_loop().call_later(0.05, device.port.write, b"unasked\r")
    assert await link.exchange(b"two\r", line) == b"two"
    assert link.counters["stray"] == 2  # `line` leaves what it read; the other came by itself
    await link.close()
    device.port.close()


@virtual
async def test_the_pause_before_a_question_ends_to_the_moment(tmp_path: Path) -> None:
    """3.5 characters at 2400 baud, of which the system's timers would make 15 ms or more."""
    device = Echo(tmp_path / "ups")
    link = link_to(tmp_path / "ups", timeout=0.2)
    assert isinstance(link, SerialLink)
    pauses = []
    for _ in range(20):
        await link.exchange(b"one\r", line)
        heard = asyncio.get_running_loop().time()
        await link._rest_until(heard + 0.0146)
        pauses.append(asyncio.get_running_loop().time() - heard)
    assert pauses == pytest.approx([0.0146] * 20, abs=1e-6)
    await link.close()
    device.port.close()
