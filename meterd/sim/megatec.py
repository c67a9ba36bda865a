"""Server of the Megatec protocol for the simulated UPS, on a pty, with fault injection.

> Q1\\r
< (226.0 195.0 226.0 014 49.0 27.5 30.0 00001000\\r     input, fault, output, load, Hz, V, °C, bits
> F\\r
< #230.0 003 12.00 50.0\\r                              ratings
> I\\r
< #Meterd          SU600      1.0       \\r             company 15, model 10, firmware 10
> S.5R0003\\r                                          commands have no reply
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
# Short names on purpose: newer drivers take letters from the 8th of the company for a serial
# number, and those from the 6th of the model for a runtime.
IDENTITY = f"#{'Meterd':<15} {'SU600':<10} {'1.0':<10}"

_CR = b"\r"
_COMMAND_MAX_BYTES = 64
_BITS_PER_BYTE = 10
# Tenths of a minute from .2 on, minutes up to 10; 00 is undocumented, but widely supported.
_SHUTDOWN = re.compile(r"S(\.[2-9]|0?\d|10)(?:R(\d{4}))?")
_TEST = re.compile(r"T(\d\d)")
_DEEP_TEST_S = 99 * 60.0
# Of a reply. A real UPS takes 50 to 70 ms; this is shorter for the tests.
_LATENCY_S = 0.02
_NOISE_MAX_BYTES = 4

_NO_REPLY = ""


class UpsServer:
    """Serves a Ups on a pty. `server.faults = …` replaces the faults at any time.

    `baud` sends replies byte by byte at that speed; None: at once. `latency` is in seconds.
    """

    def __init__(
        self,
        ups: Ups,
        *,
        link_path: Path | None = None,
        faults: Iterable[SimulatedFault] = (),
        seed: int = 0,
        baud: int | None = None,
        latency: float = _LATENCY_S,
    ) -> None:
        self.ups = ups
        self.latency = latency
        self.requests = 0
        self._baud = baud
        self._port = PtyPort(self._receive, link_path)
        self._injector = Injector(_FAULT_ACTIONS.keys(), faults, seed)
        self._buffer = bytearray()

    @property
    def faults(self) -> tuple[SimulatedFault, ...]:
        return self._injector.faults

    @faults.setter
    def faults(self, faults: Iterable[SimulatedFault]) -> None:
        self._injector.set(faults)

    @property
    def injected(self) -> Counter[str]:
        """The number of injected faults by kind."""
        return self._injector.injected

    @property
    def path(self) -> str:
        """The path for a client to open: the symbolic link if there is one, else the pty."""
        return self._port.name

    @property
    def url(self) -> str:
        """The link URL for meterd.yaml."""
        return f"serial://{self.path}?baud=2400"

    def start(self) -> None:
        self._port.open()

    def stop(self) -> None:
        self._port.close()

    def unplug(self, seconds: float) -> None:
        """Remove the port; it returns after `seconds`."""
        self._buffer.clear()
        self._port.unplug(seconds)

    def send(self, data: bytes, delay: float = 0.0) -> None:
        """Send bytes after `delay` and the latency, in seconds."""
        loop, delay = asyncio.get_running_loop(), delay + self.latency
        if self._baud is None:
            loop.call_later(delay, self._port.write, data)
            return
        for index in range(len(data)):
            due = delay + (index + 1) * _BITS_PER_BYTE / self._baud
            loop.call_later(due, self._port.write, data[index : index + 1])

    def _receive(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(_CR)) >= 0:
            command = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._command(command.decode("ascii", "replace"))
        if len(self._buffer) > _COMMAND_MAX_BYTES:
            self._buffer.clear()

    def _command(self, command: str) -> None:
        if not self.ups.has_power():
            return
        self.requests += 1
        reply = answer(self.ups, command)
        fault = self._injector.next_fault(() if reply else _NEEDS_REPLY)
        frame = reply.encode() + _CR if reply else b""
        if fault is not None:
            _FAULT_ACTIONS[fault.kind](self, fault, command.encode("ascii", "replace"), frame)
        elif frame:
            self.send(frame)

    def spoil(self, frame: bytes) -> bytes:
        """The frame with flipped bits and a few random bytes before it.

        Only top bits are flipped: the protocol has no checksum, so a client cannot detect a
        digit that became another digit.
        """
        random = self._injector.random
        altered = bytearray(frame)
        for index in random.sample(range(len(frame)), random.randint(1, _NOISE_MAX_BYTES)):
            altered[index] ^= 0x80
        return random.randbytes(random.randint(0, _NOISE_MAX_BYTES)) + bytes(altered)

    def garbage(self) -> bytes:
        return self._injector.random.randbytes(self._injector.random.randint(8, 60))

    def cut(self, frame: bytes, end: int) -> bytes:
        """The first `end` bytes (0: a random number), never the whole frame."""
        end = end or self._injector.random.randrange(1, len(frame))
        return frame[: min(end, len(frame) - 1)]


def answer(ups: Ups, command: str) -> str:
    """The reply without its CR; empty for commands without reply. Unknown ones are echoed."""
    if command in _QUERIES:
        return _QUERIES[command](ups)
    if command in _COMMANDS:
        _COMMANDS[command](ups)
        return _NO_REPLY
    if (test := _TEST.fullmatch(command)) is not None and int(test[1]):
        ups.test(60.0 * int(test[1]))
        return _NO_REPLY
    if (shutdown := _SHUTDOWN.fullmatch(command)) is not None:
        _shut_down(ups, shutdown[1], shutdown[2])
        return _NO_REPLY
    return command


def _shut_down(ups: Ups, after: str, restore: str | None) -> None:
    """Shut down after minutes (`.5`: half a minute) and restore after R minutes (0000: never;
    without R: as soon as there is mains).
    """
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
        False,  # AVR: the house's voltage needs no boost
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
_COMMANDS: dict[str, Callable[[Ups], None]] = {
    "T": lambda ups: ups.test(),
    "TL": lambda ups: ups.test(_DEEP_TEST_S),
    "CT": lambda ups: ups.cancel_test(),
    "C": lambda ups: ups.cancel_shutdown(),
    "Q": lambda ups: ups.toggle_beeper(),
}

# Called with the server, the fault, the command and the correct reply with its CR.
_FAULT_ACTIONS: dict[str, Callable[[UpsServer, SimulatedFault, bytes, bytes], None]] = {
    "timeout": lambda *_: None,
    "late": lambda server, fault, _, frame: server.send(frame, fault.seconds),
    "garbage": lambda server, *_: server.send(server.garbage()),
    "noise": lambda server, _fault, _command, frame: server.send(server.spoil(frame)),
    "truncate": lambda server, fault, _, frame: server.send(server.cut(frame, fault.number)),
    "echo": lambda server, _, command, frame: server.send(command + _CR + frame),
    "nak": lambda server, *_: server.send(b"(NAK" + _CR),
    "unplug": lambda server, fault, *_: server.unplug(fault.seconds),
}
# Faults that alter a reply, so they do not apply to commands without one.
_NEEDS_REPLY = _FAULT_ACTIONS.keys() - {"echo", "nak", "unplug"}
