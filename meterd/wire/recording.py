"""Recordings: every byte of a link with its time, as a text that people can read and cut.

# meterd recording 1
# link: tcp://192.0.2.5:502
# framer: socket
# device: main driver=modbus map=eastron_sdm630 unit=1
+0.0123 > 000100000006010400000002          sent, seconds since the start
+0.0456 < 0001000000070104044366199a        received, as it came
+1.0460 ! timeout                           how an exchange failed; `closed`: the peer hung up
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from meterd.errors import ConfigError, LinkCode
from meterd.model.clock import Clock
from meterd.wire.link import Link
from meterd.wire.streamlink import StreamLink

Kind = Literal[">", "<", "!"]

TITLE = "meterd recording 1"
CLOSED = str(LinkCode.CLOSED)
# Of a link's options only these are written down: nothing that could be a secret.
OPTIONS = ("framer", "baud", "bytes", "parity", "stop")

_EVENT = re.compile(r"\+(\d+(?:\.\d+)?) ([><!]) (.*)")
_HEAD = re.compile(r"# ([a-z]+): (.*)")
_REMARK = re.compile(r"\s+#.*")
_PRINTABLE = re.compile(rb"[ -~]+\r?")


@dataclass(frozen=True, slots=True)
class WireEvent:
    """Bytes one way or the other, or (`!`) how an exchange ended; `time` in s since the start."""

    time: float
    kind: Kind
    data: bytes = b""
    note: str = ""

    def __str__(self) -> str:
        # Lines of text are shown as such, for the eye only.
        text = self.data.strip().decode("ascii") if _PRINTABLE.fullmatch(self.data) else ""
        remark = f"  # {text}" if text else ""
        return f"+{self.time:.4f} {self.kind} {self.note or self.data.hex()}{remark}"


Sink = Callable[[WireEvent], None]


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording as it was read; `head` by its keys, `device` lines in `devices`."""

    head: Mapping[str, str]
    devices: tuple[str, ...]
    events: tuple[WireEvent, ...]


def head(facts: Sequence[tuple[str, str]]) -> str:
    """The commented lines that a recording begins with."""
    lines = [TITLE, *(f"{key}: {' '.join(value.split())}" for key, value in facts)]
    return "".join(f"# {line}\n" for line in lines)


def parse(text: str, source: str) -> Recording:
    """Raises ConfigError, with the line, where the text is no recording."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != f"# {TITLE}":
        raise ConfigError(f"{source}: no recording: its first line is not `# {TITLE}`")
    facts = [found.groups() for line in lines if (found := _HEAD.fullmatch(line.strip()))]
    events = tuple(
        _event(line, f"{source}:{number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    )
    devices = tuple(value for key, value in facts if key == "device")
    return Recording({key: value for key, value in facts if key != "device"}, devices, events)


def _event(line: str, place: str) -> WireEvent:
    found = _EVENT.fullmatch(_REMARK.sub("", line).strip())
    if found is None:
        raise ConfigError(f"{place}: not written like `+0.0123 > 0104…`: {line[:60]!r}")
    time, kind, rest = float(found[1]), found[2], found[3]
    if kind == "!":
        return WireEvent(time, "!", note=rest)
    try:
        return WireEvent(time, ">" if kind == ">" else "<", bytes.fromhex(rest))
    except ValueError as error:
        raise ConfigError(f"{place}: {rest[:60]!r} is no hex") from error


def record(link: Link, sink: Sink, clock: Clock) -> Link:
    """The same link; from now on `sink` is told every byte on it, and how exchanges fail.

    Bytes are heard where they arrive, so late ones that the link throws away are told as well.
    Raises ConfigError for a link without a stream.
    """
    if not isinstance(link, StreamLink):
        raise ConfigError(f"{link.url} cannot be recorded: it carries no stream of bytes")
    link.watch(_Recorder(sink, clock))
    return link


class _Recorder:
    """Makes events of what a link tells, with their time since the recording began."""

    def __init__(self, sink: Sink, clock: Clock) -> None:
        self._sink = sink
        self._clock = clock
        self._start = clock.monotonic()

    def sent(self, data: bytes) -> None:
        self._write(">", data)

    def received(self, data: bytes | memoryview) -> None:
        self._write("<", bytes(data))

    def closed(self) -> None:
        self._write("!", note=CLOSED)

    def failed(self, code: str) -> None:
        # That the connection was closed is told when it happens.
        if code != CLOSED:
            self._write("!", note=code)

    def _write(self, kind: Kind, data: bytes = b"", note: str = "") -> None:
        self._sink(WireEvent(self._clock.monotonic() - self._start, kind, data, note))
