"""Bytes that a broken line, gateway or neighbour may send: an answer is ours, or there is none."""

import gc
import random
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import pytest

from meterd.errors import DeviceError, LinkError
from meterd.wire.link import Link
from meterd.wire.replies import AsciiReply, RtuReply, TcpReply

Framing = Literal["socket", "rtu", "ascii"]
FRAMINGS: tuple[Framing, ...] = ("socket", "rtu", "ascii")

TICKET, UNIT, FUNCTION = 0x1234, 7, 4
# Small, so that what is random meets what is meant often.
COUNTS = (1, 2, 20)
PAGE = 4096


class NoLink:
    """What a reply asks of its link."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()

    def count(self, what: str, n: int = 1) -> None:
        self.counters[what] += n

    def expired(self, ticket: int) -> bool:
        return ticket == TICKET - 1


def crc(data: bytes) -> int:
    """Bit by bit, as the specification draws it."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value


def wrapped(framing: Framing, pdu: bytes, unit: int = UNIT, ticket: int = TICKET) -> bytes:
    """A PDU as it travels."""
    if framing == "socket":
        return struct.pack(">HHHB", ticket, 0, len(pdu) + 1, unit) + pdu
    body = bytes([unit]) + pdu
    if framing == "rtu":
        return body + struct.pack("<H", crc(body))
    return b":" + (body + bytes([-sum(body) & 0xFF])).hex().upper().encode() + b"\r\n"


@dataclass
class Tally:
    """What became of what was fed."""

    frames: int = 0
    answers: int = 0
    errors: int = 0
    waiting: int = 0


class Fuzzer:
    """Makes streams of frames, right ones among them, spoils them, and judges what is taken."""

    def __init__(self, framing: Framing, seed: int) -> None:
        self.framing: Framing = framing
        self.dice = random.Random(seed)
        self.link = NoLink()
        self.tally = Tally()
        dice = random.Random(seed)
        self._pool = [self._frame(dice) for _ in range(400)]

    def _frame(self, dice: random.Random) -> bytes:
        """One whole frame: ours, somebody else's, or a no."""
        size = 2 * dice.choice(COUNTS)
        function = dice.choice((*[FUNCTION] * 8, 3, 1, 6, 0x41))
        pdu = bytes([function, size]) + dice.randbytes(size)
        if dice.random() < 0.1:
            pdu = bytes([FUNCTION | 0x80, dice.choice((1, 2, 4, 6, 11, 66))])
        unit = dice.choice((*[UNIT] * 8, 8, 0, 255))
        ticket = dice.choice((*[TICKET] * 4, TICKET - 1, 0))
        return wrapped(self.framing, pdu, unit, ticket)

    def _spoilt(self, frame: bytes) -> bytes:
        """The frame with something wrong, half of the time."""
        dice, data = self.dice, bytearray(frame)
        match dice.randrange(14):
            case 0:
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            case 1:
                del data[dice.randrange(len(data)) :]
            case 2:
                del data[: dice.randrange(len(data))]
            case 3:
                at = dice.randrange(len(data))
                data[at:at] = dice.randbytes(dice.randrange(1, 5))
            case 4:
                del data[dice.randrange(len(data))]
            case 5:
                data[dice.randrange(len(data))] = dice.choice((0, 0xFF, 0x3A, 0x0D, 0x0A))
            case 6:
                data = bytearray(dice.randbytes(dice.randrange(1, 40)))
        return bytes(data)

    def feed(self, frames: int) -> None:
        """One exchange: so many frames in pieces, until there is an answer or an error."""
        count = self.dice.choice(COUNTS)
        reply = self._reply(2 * count)
        stream = b"".join(self._spoilt(self.dice.choice(self._pool)) for _ in range(frames))
        self.tally.frames += frames
        buffer, heard, at = bytearray(), b"", 0
        while at < len(stream):
            step = self.dice.choice((1, 3, 7, len(stream)))
            piece = stream[at : at + step]
            at += step
            buffer += piece
            heard += piece
            try:
                answer = reply.parse(buffer)
            except (LinkError, DeviceError):
                self.tally.errors += 1
                return
            assert len(buffer) <= len(heard)
            if answer is not None:
                self.tally.answers += 1
                self._judge(answer, count, heard)
                return
        self.tally.waiting += 1

    def _reply(self, size: int) -> TcpReply | RtuReply | AsciiReply:
        link = cast("Link", self.link)
        if self.framing == "socket":
            return TcpReply(link, TICKET, UNIT, FUNCTION, size)
        kind = RtuReply if self.framing == "rtu" else AsciiReply
        return kind(link, UNIT, FUNCTION, size)

    def _judge(self, answer: bytes, count: int, heard: bytes) -> None:
        """These registers did arrive, whole, in a frame that answers the request."""
        assert len(answer) == 2 * count
        frame = wrapped(self.framing, bytes([FUNCTION, 2 * count]) + answer)
        if self.framing == "ascii":
            # Hexadecimal says the same in small letters.
            assert frame in heard.upper()
        else:
            assert frame in heard


def rss() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def run(framing: Framing, frames: int, seed: int) -> Tally:
    fuzzer = Fuzzer(framing, seed)
    while fuzzer.tally.frames < frames // 4:
        fuzzer.feed(fuzzer.dice.choice((1, 1, 2, 5)))
    gc.collect()
    before = rss()
    while fuzzer.tally.frames < frames:
        fuzzer.feed(fuzzer.dice.choice((1, 1, 2, 5)))
    gc.collect()
    assert rss() - before < 1 << 20
    # A fuzzer that never meets the good path tests nothing.
    tally = fuzzer.tally
    assert tally.answers > frames / 100
    assert tally.errors > frames / 100
    assert tally.waiting > frames / 100
    assert len(fuzzer.link.counters) >= 3
    return tally


@pytest.mark.parametrize("framing", FRAMINGS)
def test_no_wrong_answer_and_no_surprise_in_30_000_frames(framing: Framing) -> None:
    run(framing, 30_000, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("framing", FRAMINGS)
def test_no_wrong_answer_and_no_surprise_in_a_million_frames(framing: Framing) -> None:
    run(framing, 1_000_000, seed=2)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_right_frame_is_taken_in_whatever_pieces_it_comes(framing: Framing) -> None:
    """What the fuzzer judges by: a frame that nobody touched is an answer."""
    fuzzer = Fuzzer(framing, 2)
    for count in COUNTS:
        data = fuzzer.dice.randbytes(2 * count)
        frame = wrapped(framing, bytes([FUNCTION, 2 * count]) + data)
        for step in (1, 2, 5, len(frame)):
            reply, buffer = fuzzer._reply(2 * count), bytearray()
            found = []
            for at in range(0, len(frame), step):
                buffer += frame[at : at + step]
                found.append(reply.parse(buffer))
            assert found[-1] == data
            assert set(found[:-1]) <= {None}
