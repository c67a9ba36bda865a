"""The house of `meterd demo`: three meters on two buses, and a UPS that loses its mains."""

from dataclasses import dataclass
from typing import Literal

from meterd.model.clock import Clock
from meterd.sim.megatec import UpsServer
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import Bank
from meterd.sim.serve import meter_bank
from meterd.sim.ups import Script, Ups

# Mains fail after 15 s for 20 s, and so again every three minutes.
OUTAGES = Script(((15.0, 20.0),), repeat=180.0)
# It is late morning: the house is busy and the sun shines.
MORNING = 10.5 * 3600
# The UPS' battery ages fast, so that an outage of 20 s shows.
_DRAIN = 6.0


@dataclass(frozen=True, slots=True)
class DemoMeter:
    """What meterd.yaml has to say of one meter."""

    device: str
    map: str
    url: str
    unit: int


@dataclass(frozen=True, slots=True)
class DemoAddresses:
    """Where everything is. `ups` is the URL of its serial link."""

    meters: tuple[DemoMeter, ...]
    ups: str


@dataclass(frozen=True, slots=True)
class _Place:
    device: str
    map: str
    unit: int
    profile: Literal["house", "solar"] = "house"
    offset: float = 0.0


# One Modbus TCP gateway with two meters, and one meter behind an RTU-over-TCP adapter.
_TCP = (
    _Place("main", "eastron_sdm630", 1),
    _Place("workshop", "schneider_iem3155", 2, offset=5 * 3600),
)
_RTU = (_Place("solar", "eastron_sdm120", 1, profile="solar"),)


class DemoSite:
    """Simulators on ports that the system chooses. `start_at` is the time of day it begins at."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        script: Script = OUTAGES,
        start_at: float = MORNING,
    ) -> None:
        self._clock = clock
        self._start_at = start_at
        self.tcp = ModbusServer(self._banks(_TCP))
        self.rtu = ModbusServer(self._banks(_RTU), framer="rtu")
        self.ups = UpsServer(Ups(clock=clock, script=script, drain=_DRAIN))

    async def start(self) -> DemoAddresses:
        await self.tcp.start_tcp()
        await self.rtu.start_tcp()
        self.ups.start()
        pairs = [(place, self.tcp) for place in _TCP] + [(place, self.rtu) for place in _RTU]
        meters = (DemoMeter(p.device, p.map, server.url, p.unit) for p, server in pairs)
        return DemoAddresses(tuple(meters), self.ups.url)

    async def stop(self) -> None:
        self.ups.stop()
        await self.rtu.stop()
        await self.tcp.stop()

    def _banks(self, places: tuple[_Place, ...]) -> dict[int, Bank]:
        return {
            place.unit: meter_bank(
                place.map,
                profile=place.profile,
                offset=self._start_at + place.offset,
                clock=self._clock,
            )
            for place in places
        }
