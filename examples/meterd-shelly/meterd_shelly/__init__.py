"""Shelly EM and 3EM of the first generation, which tell all they know as JSON over HTTP.

GET /status
{"mac": "C45BBE7928B9", "emeters": [{"power": 1066.0, "pf": 0.97, "voltage": 232.06,
 "is_valid": true, "total": 5300.2, "total_returned": 0.0}, …], …}           W, V, Wh
"""

from collections.abc import Mapping
from typing import Any

import aiohttp
from pydantic import Field

from meterd.plugin import (
    ConfigError,
    DeviceError,
    Link,
    LinkCode,
    LinkError,
    Options,
    PluginCode,
    ProtocolError,
    Reading,
)

# What each number of an emeter is: its quantity and its unit. The EM has `reactive`, the 3EM
# `current` in its place.
VALUES = {
    "power": ("active_power", "W"),
    "reactive": ("reactive_power", "var"),
    "pf": ("power_factor", "1"),
    "voltage": ("voltage.l1", "V"),
    "current": ("current.l1", "A"),
    "total": ("active_energy.import", "Wh"),
    "total_returned": ("active_energy.export", "Wh"),
}
_MODBUS_PORT = ":502"
_OK = 200


class ShellyCode(PluginCode):
    """Why a Shelly gives no readings, beside the codes that meterd has."""

    NO_CHANNEL = "no_channel"
    NO_EMETERS = "no_emeters"
    HTTP_STATUS = "http_status"


class ShellyOptions(Options):
    """The keys that a Shelly has in meterd.yaml beside those of every device."""

    channel: int = Field(0, ge=0, le=2, description="which of its clamps, from 0")


class Shelly:
    """A clamp of a Shelly EM or 3EM, by JSON over HTTP."""

    Options = ShellyOptions

    def __init__(self, link: Link, options: ShellyOptions) -> None:
        if link.url.endswith(_MODBUS_PORT):
            raise ConfigError("a Shelly answers on port 80: write link: tcp://HOST:80")
        # The link itself is never opened: aiohttp has connections of its own.
        self._link = link
        self._url = f"http://{link.url.removeprefix('tcp://')}/status"
        self._channel = options.channel
        self._session: aiohttp.ClientSession | None = None

    async def read(self) -> list[Reading]:
        """Ask for the status. Raises LinkError or DeviceError."""
        status = await self._status()
        try:
            meter = status["emeters"][self._channel]
        except IndexError as error:
            raise DeviceError(
                f"it has no channel {self._channel}", code=ShellyCode.NO_CHANNEL
            ) from error
        except (LookupError, TypeError) as error:
            raise ProtocolError("its status has no emeters", code=ShellyCode.NO_EMETERS) from error
        reason = "" if meter.get("is_valid") else "the Shelly says that this is not valid"
        readings = [
            Reading(quantity, None if reason else meter[key], unit, reason)
            for key, (quantity, unit) in VALUES.items()
            if key in meter
        ]
        return [*readings, Reading("info.serial_number", status.get("mac", ""))]

    def quantities(self) -> set[str]:
        """What `read` may give, so that `meterd check` knows rules that would never fire."""
        return {quantity for quantity, _ in VALUES.values()}

    async def close(self) -> None:
        """The device is polled no more, or the next `read` makes another session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _status(self) -> Mapping[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        patience = aiohttp.ClientTimeout(total=self._link.timeout)
        try:
            async with self._session.get(self._url, timeout=patience) as reply:
                if reply.status != _OK:
                    raise DeviceError(
                        f"it answers with status {reply.status}", code=ShellyCode.HTTP_STATUS
                    )
                status: Mapping[str, Any] = await reply.json(content_type=None)
        except TimeoutError as error:
            text = f"no answer within {self._link.timeout:g} s"
            raise LinkError(text, code=LinkCode.TIMEOUT) from error
        except aiohttp.ClientError as error:
            raise LinkError(f"it cannot be reached: {error}", code=LinkCode.UNREACHABLE) from error
        except ValueError as error:
            raise ProtocolError("it answers with something that is no JSON") from error
        return status
