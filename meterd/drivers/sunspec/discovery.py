"""Discovery of SunSpec devices: finds the chain of models, and walks through it.

"SunS" | 1 | length | ... | 103 | length | ... | 0xFFFF | 0 |
base    the first model      the next one       the end
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meterd.drivers.sunspec.models import MAX_MODELS, MODELS, Model
from meterd.errors import DeviceCode, DeviceError, Unsupported
from meterd.wire.modbus import ModbusClient

# Registers where the chain may begin, the usual one first (SunSpec Device Information Model, 6.1).
BASES: Final = (40000, 50000, 0)

_MARKER = b"SunS"
_END = 0xFFFF
_LAST_REGISTER = 0xFFFF
# SunSpec uses holding registers; some devices have input registers only.
_FUNCTIONS = (3, 4)
_HEADER = struct.Struct(">HH")
# Modbus exceptions: an unsupported function; and a device failure, which some devices send in place
# of "illegal address" where they have no registers.
_NO_FUNCTION = DeviceCode.EXCEPTION_1
_FAILURE = DeviceCode.EXCEPTION_4


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """Register of the marker, and the function that reads it."""

    base: int
    function: int


@dataclass(frozen=True, slots=True)
class FoundModel:
    """One model of a chain: its number, the register of that, and its stated length.

    `model` is None if its rows are unknown here, or if the length is invalid for the number.
    """

    number: int
    address: int
    length: int
    model: Model | None

    @property
    def text(self) -> str:
        """The model for people."""
        model = MODELS.get(self.number)
        if model is None:
            return f"model {self.number} (not known, {self.length} registers)"
        if self.model is None:
            right = " or ".join(map(str, model.lengths))
            return f"model {self.number} (length {self.length} instead of {right}: not read)"
        return f"model {self.number} ({model.title})"


@dataclass(frozen=True, slots=True)
class ModelSurvey:
    """All models of a device. `end` is why the chain ends; "" for its end marker.

    `stop` is the register of the last model header that was read, `header` its number and length.
    """

    place: ModelAddress
    found: tuple[FoundModel, ...]
    end: str = ""
    stop: int = 0
    header: tuple[int, int] = (_END, 0)


async def survey(client: ModbusClient, bases: Sequence[int] = BASES) -> ModelSurvey:
    """The models of one unit. Costs two requests, and one per model.

    Raises DeviceError with code `no_sunspec` if there is no chain, or LinkError.
    """
    return await walk(client, await locate(client, bases))


async def locate(client: ModbusClient, bases: Sequence[int] = BASES) -> ModelAddress:
    """The first of `bases` that holds the marker. Raises like `survey`."""
    for function in _FUNCTIONS:
        function_known = False
        for base in bases:
            answer = await _marker(client, function, base)
            if answer == _MARKER:
                return ModelAddress(base, function)
            function_known = function_known or answer is not None
        if function_known:
            break
    where = ", ".join(map(str, bases))
    text = f'no SunSpec device: none of the registers {where} begins with "SunS"'
    hint = "is SunSpec (Modbus) enabled in the device, and is the unit id right?"
    raise DeviceError(f"{text}; {hint}", code=DeviceCode.NO_SUNSPEC)


async def _marker(client: ModbusClient, function: int, base: int) -> bytes | None:
    """Registers where the marker may be; b"" if there are none, None for an unknown function."""
    try:
        return await client.read(function, base, 2)
    except DeviceError as error:
        if error.code == _NO_FUNCTION:
            return None
        if not _is_absent(error):
            raise
        return b""


async def walk(client: ModbusClient, place: ModelAddress) -> ModelSurvey:
    """Reads the headers from model to model, until the end marker or an invalid header.

    The address only rises and the models are counted, so it always ends. A known model must have
    its number and a valid length, which does not happen by chance: after a wrong length the rest of
    the chain is lost, but no other registers are taken for a model.
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
        model = MODELS.get(number)
        valid_model = model if model and length in model.lengths else None
        found.append(FoundModel(number, address, length, valid_model))
        address += 2 + length
    return ModelSurvey(place, tuple(found), end, address, (number, length))


async def header_at(client: ModbusClient, function: int, address: int) -> tuple[int, int]:
    """Number and length of the model at `address`; number 0 if the device refuses the read."""
    try:
        header = await client.read(function, address, 2)
    except DeviceError as error:
        if not _is_absent(error):
            raise
        return await _end_marker_half(client, function, address), 0
    number, length = _HEADER.unpack(header)
    return number, length


async def _end_marker_half(client: ModbusClient, function: int, address: int) -> int:
    """The end marker where only its first register can be read, as on some devices; else 0."""
    try:
        word = await client.read(function, address, 1)
    except DeviceError as error:
        if not _is_absent(error):
            raise
        return 0
    return _END if word == b"\xff\xff" else 0


def _is_absent(error: DeviceError) -> bool:
    """Whether this error means that there are no such registers."""
    return isinstance(error, Unsupported) or error.code == _FAILURE
