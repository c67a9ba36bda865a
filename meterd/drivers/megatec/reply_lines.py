"""Parser of the three reply lines of a Megatec UPS: status, ratings, names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from meterd.errors import LinkCode, ProtocolError
from meterd.model.sample import Quality, Reading

_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?")
_NEGATIVE = re.compile(r"-[0-9]+(\.[0-9]*)?")
# Fields without value: Megatec fills them with @, Voltronic with - and #.
_FILLER = re.compile(r"\.?[@#-][@#.-]*")
_BITS = re.compile(r"[01]{8}")
_DIGIT = re.compile(r"[0-9@-]")
# A cell's voltage has two decimals.
_TWO_DECIMALS = re.compile(r"[0-9]+\.[0-9]{2}")


@dataclass(frozen=True, slots=True)
class Field:
    """One word of a reply line, and the range of its valid values."""

    quantity: str
    unit: str
    low: float
    high: float
    zero: bool = True

    def allows(self, value: float) -> bool:
        return self.low <= value <= self.high or (self.zero and value == 0)


@dataclass(frozen=True, slots=True)
class Dialect:
    """A status command and its fields; dialects differ in whose frequency they report."""

    command: str
    status: tuple[Field, ...]
    ratings: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """A status line: readings by quantity, and the eight characters b7 to b0.

    `fine`: the battery's voltage has two decimals, as that of one cell.
    """

    fields: dict[str, Reading]
    bits: str
    fine: bool = False

    def bit(self, number: int) -> bool:
        """b7 is the leftmost."""
        return self.bits[7 - number] == "1"

    def value(self, quantity: str) -> float | None:
        """The number in a field; None where it is unknown."""
        return number(self.fields[quantity])


def _status(side: str) -> tuple[Field, ...]:
    # > Q1
    # < (226.0 195.0 226.0 014 49.0 27.5 30.0 00001000
    #    in    fault out   %   Hz   V    °C   b7....b0
    return (
        Field("input.voltage", "V", 0, 600),
        Field("input.voltage.fault", "V", 0, 600),
        Field("output.voltage", "V", 0, 600),
        Field("ups.load", "%", 0, 999),
        Field(f"{side}.frequency", "Hz", 40, 70),
        Field("battery.voltage", "V", 0, 600),
        Field("ups.temperature", "°C", -40, 100),
    )


def _ratings(side: str) -> tuple[Field, ...]:
    # > F
    # < #220.0 003 12.00 50.0
    #    V     A   V     Hz
    return (
        Field(f"{side}.voltage.nominal", "V", 50, 600, zero=False),
        Field(f"{side}.current.nominal", "A", 0.1, 1000, zero=False),
        Field("battery.voltage.nominal", "V", 1, 600, zero=False),
        Field(f"{side}.frequency.nominal", "Hz", 40, 70, zero=False),
    )


# Index of the battery voltage's word in both dialects.
_BATTERY_WORD = 5
MEGATEC = Dialect("Q1", _status("input"), _ratings("input"))
MUSTEK = Dialect("QS", _status("output"), _ratings("output"))


def unknown(quantity: str, unit: str, reason: str) -> Reading:
    """A reading without value, with the reason."""
    return Reading(quantity, None, unit, reason, Quality.INVALID)


def number(reading: Reading) -> float | None:
    """The reading's number, if it has one."""
    return reading.value if isinstance(reading.value, float) else None


# Shapes of the documents' lines: each digit as 0.
_DOCUMENTED_SHAPES = (
    "(000.0 000.0 000.0 000 00.0 00.0 00.0 00000000",
    "(000.0 000.0 000.0 000 00.0 0.00 00.0 00000000",
    "#000.0 000 00.00 00.0",
    "#000.0 000 000.0 00.0",
)


def shape(line: str) -> str:
    """The line with each digit as 0; a lost or doubled byte changes it."""
    return _DIGIT.sub("0", line)


def is_documented(line: str) -> bool:
    """Whether the line has a shape of the documents, to the byte."""
    if shape(line) in _DOCUMENTED_SHAPES or _is_newer_info(line):
        return True
    return len(line) == _INFO_SIZE and line[16] == line[27] == " "


def parse_status(line: str, dialect: Dialect) -> Status:
    """Parses a status line: exactly eight words, the last of eight bits. Raises ProtocolError."""
    words = _words(line)
    if len(words) != len(dialect.status) + 1 or not _BITS.fullmatch(words[-1]):
        raise _garbled(line, "status line")
    fields = _parse_fields(line, words[:-1], dialect.status)
    fine = _TWO_DECIMALS.fullmatch(words[_BATTERY_WORD]) is not None
    return Status({reading.quantity: reading for reading in fields}, words[-1], fine)


def parse_ratings(line: str, dialect: Dialect) -> list[Reading]:
    """Parses ratings: four words, or three without the frequency. Raises ProtocolError."""
    words = _words(line)
    if len(words) not in (3, 4):
        raise _garbled(line, "line of ratings")
    return _parse_fields(line, words, dialect.ratings[: len(words)])


def _words(line: str) -> list[str]:
    """Splits at blanks only: other white space is noise."""
    return [word for word in line[1:].split(" ") if word]


def _parse_fields(line: str, words: Sequence[str], fields: Sequence[Field]) -> list[Reading]:
    return [_parse_field(line, word, field) for word, field in zip(words, fields, strict=True)]


def _parse_field(line: str, word: str, field: Field) -> Reading:
    if _FILLER.fullmatch(word):
        return unknown(field.quantity, field.unit, "the unit does not supply it")
    signed = field.low < 0 and _NEGATIVE.fullmatch(word)
    if not signed and not _NUMBER.fullmatch(word):
        raise _garbled(line, "line of numbers")
    value = float(word) + 0.0  # -0.0 is 0.0
    if not field.allows(value):
        return unknown(field.quantity, field.unit, f"the unit says {word}, which cannot be")
    return Reading(field.quantity, value, field.unit)


# Names contain blanks, so these lines are cut by position (bytes from the start of the line).
#   > I
#   < #MUSTEK          PowerMust  B10.10
#     0123456789012345678901234567890123456
#      ^company        ^model     ^firmware
_INFO = (
    ("info.manufacturer", 1, 16),
    ("info.model", 17, 27),
    ("info.firmware", 28, 38),
)
# Newer chips reply with one byte less, and a serial number and five digits of runtime in between.
_NEWER_INFO = (
    ("info.manufacturer", 1, 8),
    ("info.serial_number", 8, 16),
    ("info.model", 17, 22),
    ("info.firmware", 28, 38),
)
_INFO_SIZES = range(28, 41)
_INFO_SIZE = 38
_NEWER_INFO_SIZE = 37
_DIGITS = re.compile(r"[0-9]{5}")


def parse_info(line: str) -> list[Reading]:
    """Parses names; blank ones are left out. Raises ProtocolError."""
    if len(line) not in _INFO_SIZES:
        raise _garbled(line, "line of names")
    places = _NEWER_INFO if _is_newer_info(line) else _INFO
    texts = ((name, line[a:b].strip(" #")) for name, a, b in places)
    return [Reading(name, text) for name, text in texts if text.strip("@-. ")]


def _is_newer_info(line: str) -> bool:
    is_size = len(line) == _NEWER_INFO_SIZE
    return is_size and line[16] == " " and _DIGITS.fullmatch(line[22:27]) is not None


def _garbled(line: str, what: str) -> ProtocolError:
    return ProtocolError(f"{line[:60]!r} is no {what}", code=LinkCode.GARBLED)
