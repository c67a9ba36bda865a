"""Where a SunSpec device keeps its chain of models, and which models are in it.

"SunS" | 1 | length | ... | 103 | length | ... | 0xFFFF | 0 |
base    the first model      the next one       the end
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meterd.drivers.sunspec.models import MODELS, Model
from meterd.errors import DeviceCode, DeviceError, Unsupported
from meterd.wire.modbus import ModbusClient

# Where the chain may begin, the usual place first (SunSpec Device Information Model, 6.1).
BASES: Final = (40000, 50000, 0)
# Models of one chain: real devices have up to 30; a device that never ends is left here.
MAX_MODELS: Final = 64

_MARKER = b"SunS"
_END = 0xFFFF
_LAST_REGISTER = 0xFFFF
# Holding registers are what SunSpec asks for; input registers for those that have no other.
_FUNCTIONS = (3, 4)
_HEADER = struct.Struct(">HH")
# Modbus exceptions: the function is none of the device's, and a failure, which is what some
# devices answer instead of a refusal where they have no registers.
_NO_FUNCTION = DeviceCode.EXCEPTION_1
_FAILURE = DeviceCode.EXCEPTION_4


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """Where the marker is: register, and the function that reads it."""

    base: int
    function: int


@dataclass(frozen=True, slots=True)
class FoundModel:
    """One model of a chain: its number, the register that holds it, and its stated length.

    `model` is None if its rows are not known here, or if its length is none that it can have.
    """

    number: int
    address: int
    length: int
    model: Model | None

    @property
    def text(self) -> str:
        """What to tell people of it."""
        known = MODELS.get(self.number)
        if known is None:
            return f"model {self.number} (not known, {self.length} registers)"
        if self.model is None:
            right = " or ".join(map(str, known.lengths))
            return f"model {self.number} (length {self.length} instead of {right}: not read)"
        return f"model {self.number} ({known.title})"


@dataclass(frozen=True, slots=True)
class ModelSurvey:
    """All that is in a device. `end` says why the chain ends; "" is its own end marker.

    `stop` is the register of the model, or end, that was looked at last, with its `header`:
    number and length.
    """

    place: ModelAddress
    found: tuple[FoundModel, ...]
    end: str = ""
    stop: int = 0
    header: tuple[int, int] = (_END, 0)


async def survey(client: ModbusClient, bases: Sequence[int] = BASES) -> ModelSurvey:
    """What one unit offers. Costs two requests, and one for each model.

    Raises DeviceError with code `no_sunspec` if there is no chain, or LinkError.
    """
    return await walk(client, await locate(client, bases))


async def locate(client: ModbusClient, bases: Sequence[int] = BASES) -> ModelAddress:
    """The first of `bases` that holds the marker. Raises like `survey`."""
    for function in _FUNCTIONS:
        known = False
        for base in bases:
            answer = await _marker(client, function, base)
            if answer == _MARKER:
                return ModelAddress(base, function)
            known = known or answer is not None
        if known:
            break
    where = ", ".join(map(str, bases))
    text = f'no SunSpec device: none of the registers {where} begins with "SunS"'
    hint = "is SunSpec (Modbus) enabled in the device, and is the unit id right?"
    raise DeviceError(f"{text}; {hint}", code=DeviceCode.NO_SUNSPEC)


async def _marker(client: ModbusClient, function: int, base: int) -> bytes | None:
    """What is where the marker may be; b"" where nothing is, None if the function is unknown."""
    try:
        return await client.read(function, base, 2)
    except DeviceError as error:
        if error.code == _NO_FUNCTION:
            return None
        if not _absent(error):
            raise
        return b""


async def walk(client: ModbusClient, place: ModelAddress) -> ModelSurvey:
    """From model to model, until the end marker or whatever makes going on impossible.

    The address only rises and the models are counted, so any device comes to an end. A known
    model needs its number and its length right, which by chance happens nowhere: so a length
    that is a lie costs what follows it, but never makes other registers pass for a model.
    """
    found: list[FoundModel] = []
    address = place.base + 2
    end = f"more than {MAX_MODELS} models"
    number, length = _END, 0
    while len(found) < MAX_MODELS:
        if address >= _LAST_REGISTER:
            end = f"no end up to register {_LAST_REGISTER}"
            break
        number, length = await header_at(client, place.function, address)
        if number in (0, _END):
            end = "" if number else f"register {address} holds no model: the map is cut off"
            break
        if address + 1 + length > _LAST_REGISTER:
            end = f"model {number} claims {length} registers from register {address + 2} on"
            break
        known = MODELS.get(number)
        right = known if known and length in known.lengths else None
        found.append(FoundModel(number, address, length, right))
        address += 2 + length
    return ModelSurvey(place, tuple(found), end, address, (number, length))


async def header_at(client: ModbusClient, function: int, address: int) -> tuple[int, int]:
    """Number and length of the model at `address`; number 0 if the device refuses to tell."""
    try:
        header = await client.read(function, address, 2)
    except DeviceError as error:
        if not _absent(error):
            raise
        return await _last(client, function, address), 0
    number, length = _HEADER.unpack(header)
    return number, length


async def _last(client: ModbusClient, function: int, address: int) -> int:
    """Some devices end with the first half of the end marker."""
    try:
        word = await client.read(function, address, 1)
    except DeviceError as error:
        if not _absent(error):
            raise
        return 0
    return _END if word == b"\xff\xff" else 0


def _absent(error: DeviceError) -> bool:
    """Whether this no means that there are no such registers."""
    return isinstance(error, Unsupported) or error.code == _FAILURE
