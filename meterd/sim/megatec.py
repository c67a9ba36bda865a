"""The serial face of the simulated UPS: the Megatec protocol on a pty, able to misbehave.

> Q1\\r
< (226.0 195.0 226.0 014 49.0 27.5 30.0 00001000\\r     input, fault, output, load, Hz, V, °C, bits
> F\\r
< #230.0 003 12.00 50.0\\r                              ratings
> I\\r
< #Meterd          SU600      1.0       \\r             company 15, model 10, firmware 10
> S.5R0003\\r                                          orders are obeyed without a word
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from meterd.sim.faults import Injector, SimulatedFault
from meterd.sim.pty import PtyPort
from meterd.sim.ups import Ups, UpsView

RATINGS = "#230.0 003 12.00 50.0"
# Short names on purpose: newer drivers look for a serial number behind the 7th letter of the
# company and for a runtime behind the 5th of the model.
IDENTITY = f"#{'Meterd':<15} {'SU600':<10} {'1.0':<10}"

_CR = b"\r"
_LONGEST = 64
_BITS = 10
# Tenths of a minute from .2 on, minutes up to 10; 00 is in no document, but works widely.
_SHUTDOWN = re.compile(r"S(\.[2-9]|0?\d|10)(?:R(\d{4}))?")
_TEST = re.compile(r"T(\d\d)")
_DEEP = 99 * 60.0
# A real UPS thinks 50 to 70 ms; tests are in a hurry.
_LATENCY = 0.02
_NOISE = 4

_SILENT = ""


class UpsServer:
    """Serves a Ups on a pty. Faults are set by `server.faults = …` at any time.

    `baud` paces the replies as a line of that speed does; without it they come in one piece.
    """

    def __init__(
        self,
        ups: Ups,
        *,
        link_path: Path | None = None,
        faults: Iterable[SimulatedFault] = (),
        seed: int = 0,
        baud: int | None = None,
        latency: float = _LATENCY,
    ) -> None:
        self.ups = ups
        self.latency = latency
        self.requests = 0
        self._baud = baud
        self._port = PtyPort(self._receive, link_path)
        self._injector = Injector(_MISCHIEF.keys(), faults, seed)
        self._buffer = bytearray()

    @property
    def faults(self) -> tuple[SimulatedFault, ...]:
        return self._injector.faults

    @faults.setter
    def faults(self, faults: Iterable[SimulatedFault]) -> None:
        self._injector.set(faults)

    @property
    def injected(self) -> Counter[str]:
        """How often each kind of fault has struck."""
        return self._injector.injected

    @property
    def path(self) -> str:
        """What a client opens: the link if there is one, else the pty itself."""
        return self._port.name

    @property
    def url(self) -> str:
        """The link as meterd.yaml writes it."""
        return f"serial://{self.path}?baud=2400"

    def start(self) -> None:
        self._port.open()

    def stop(self) -> None:
        self._port.close()

    def unplug(self, seconds: float) -> None:
        """Pull the plug; it is back after `seconds`."""
        self._buffer.clear()
        self._port.unplug(seconds)

    def send(self, data: bytes, delay: float = 0.0) -> None:
        """Put bytes on the line, after the UPS has thought about it."""
        loop, delay = asyncio.get_running_loop(), delay + self.latency
        if self._baud is None:
            loop.call_later(delay, self._port.write, data)
            return
        for place in range(len(data)):
            moment = delay + (place + 1) * _BITS / self._baud
            loop.call_later(moment, self._port.write, data[place : place + 1])

    def _receive(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(_CR)) >= 0:
            command = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._command(command.decode("ascii", "replace"))
        if len(self._buffer) > _LONGEST:
            self._buffer.clear()

    def _command(self, command: str) -> None:
        if not self.ups.awake():
            return
        self.requests += 1
        reply = answer(self.ups, command)
        fault = self._injector.strike(() if reply else _NEEDS_REPLY)
        frame = reply.encode() + _CR if reply else b""
        if fault is not None:
            _MISCHIEF[fault.kind](self, fault, command.encode("ascii", "replace"), frame)
        elif frame:
            self.send(frame)

    def spoil(self, frame: bytes) -> bytes:
        """The frame with flipped bits and a few stray bytes before it.

        Only top bits flip: the protocol has no checksum, so nobody could tell a digit that
        became another digit.
        """
        dice = self._injector.random
        spoilt = bytearray(frame)
        for place in dice.sample(range(len(frame)), dice.randint(1, _NOISE)):
            spoilt[place] ^= 0x80
        return dice.randbytes(dice.randint(0, _NOISE)) + bytes(spoilt)

    def garbage(self) -> bytes:
        return self._injector.random.randbytes(self._injector.random.randint(8, 60))

    def cut(self, frame: bytes, end: int) -> bytes:
        """The first `end` bytes (0: any number), never the last one."""
        end = end or self._injector.random.randrange(1, len(frame))
        return frame[: min(end, len(frame) - 1)]


def answer(ups: Ups, command: str) -> str:
    """The reply without its CR; empty where the protocol says nothing. Echoes what is unknown."""
    if command in _QUERIES:
        return _QUERIES[command](ups)
    if command in _ORDERS:
        _ORDERS[command](ups)
        return _SILENT
    if (test := _TEST.fullmatch(command)) is not None and int(test[1]):
        ups.test(60.0 * int(test[1]))
        return _SILENT
    if (shutdown := _SHUTDOWN.fullmatch(command)) is not None:
        _shut_down(ups, shutdown[1], shutdown[2])
        return _SILENT
    return command


def _shut_down(ups: Ups, after: str, restore: str | None) -> None:
    """`.5` is half a minute; R0000 is for ever; without R it waits only for the mains."""
    seconds = 60.0 * float(after)
    if restore is None:
        ups.shutdown(seconds)
    else:
        ups.shutdown(seconds, 60.0 * int(restore) if int(restore) else None)


def status(view: UpsView) -> str:
    """The Q1 reply without its CR."""
    bits = (
        view.utility_failed,
        view.battery_low,
        False,  # AVR: this house's voltage needs no boost
        False,  # UPS failed
        True,  # line-interactive
        view.testing,
        view.shutting_down,
        view.beeper,
    )
    return (
        f"({view.input_voltage:05.1f} {view.fault_voltage:05.1f} {view.output_voltage:05.1f}"
        f" {round(view.load):03d} {view.frequency:04.1f} {view.battery_voltage:04.1f}"
        f" {view.temperature:04.1f} {''.join(str(int(bit)) for bit in bits)}"
    )


_QUERIES: dict[str, Callable[[Ups], str]] = {
    "Q1": lambda ups: status(ups.view()),
    "F": lambda _: RATINGS,
    "I": lambda _: IDENTITY,
}
_ORDERS: dict[str, Callable[[Ups], None]] = {
    "T": lambda ups: ups.test(),
    "TL": lambda ups: ups.test(_DEEP),
    "CT": lambda ups: ups.cancel_test(),
    "C": lambda ups: ups.cancel_shutdown(),
    "Q": lambda ups: ups.toggle_beeper(),
}

# Each gets the server, the fault, the command and the reply that was due, CR included.
_MISCHIEF: dict[str, Callable[[UpsServer, SimulatedFault, bytes, bytes], None]] = {
    "timeout": lambda *_: None,
    "late": lambda server, fault, _, frame: server.send(frame, fault.seconds),
    "garbage": lambda server, *_: server.send(server.garbage()),
    "noise": lambda server, _fault, _command, frame: server.send(server.spoil(frame)),
    "truncate": lambda server, fault, _, frame: server.send(server.cut(frame, fault.number)),
    "echo": lambda server, _, command, frame: server.send(command + _CR + frame),
    "nak": lambda server, *_: server.send(b"(NAK" + _CR),
    "unplug": lambda server, fault, *_: server.unplug(fault.seconds),
}
# Where the protocol is silent there is nothing to delay or to spoil.
_NEEDS_REPLY = _MISCHIEF.keys() - {"echo", "nak", "unplug"}
