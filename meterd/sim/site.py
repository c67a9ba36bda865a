"""The simulated site of `meterd demo`: three meters on two links, a UPS with mains failures."""

from dataclasses import dataclass
from typing import Literal

from meterd.model.clock import Clock
from meterd.sim.megatec import UpsServer
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import Bank
from meterd.sim.serve import meter_bank
from meterd.sim.ups import Script, Ups

# The mains fail after 15 s for 20 s, and again every three minutes.
OUTAGES = Script(((15.0, 20.0),), repeat=180.0)
# Seconds: late morning, with load in the house and sun on the roof.
MORNING = 10.5 * 3600
# Speeds up the discharge of the UPS, so that an outage of 20 s is visible.
_DRAIN = 6.0


@dataclass(frozen=True, slots=True)
class DemoMeter:
    """The settings of one meter for meterd.yaml."""

    device: str
    map: str
    url: str
    unit: int


@dataclass(frozen=True, slots=True)
class DemoAddresses:
    """The addresses of all simulators. `ups` is the URL of its serial link."""

    meters: tuple[DemoMeter, ...]
    ups: str


@dataclass(frozen=True, slots=True)
class _SimulatedDevice:
    device: str
    map: str
    unit: int
    profile: Literal["house", "solar"] = "house"
    offset: float = 0.0


# One Modbus TCP gateway with two meters, and one meter behind an RTU-over-TCP adapter.
_TCP = (
    _SimulatedDevice("main", "eastron_sdm630", 1),
    _SimulatedDevice("workshop", "schneider_iem3155", 2, offset=5 * 3600),
)
_RTU = (_SimulatedDevice("solar", "eastron_sdm120", 1, profile="solar"),)


class DemoSite:
    """The simulators, on free ports. `start_at`: the time of day at the start, in seconds."""

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
        pairs = [(device, self.tcp) for device in _TCP] + [(device, self.rtu) for device in _RTU]
        meters = (
            DemoMeter(device.device, device.map, server.url, device.unit)
            for device, server in pairs
        )
        return DemoAddresses(tuple(meters), self.ups.url)

    async def stop(self) -> None:
        self.ups.stop()
        await self.rtu.stop()
        await self.tcp.stop()

    def _banks(self, devices: tuple[_SimulatedDevice, ...]) -> dict[int, Bank]:
        return {
            device.unit: meter_bank(
                device.map,
                profile=device.profile,
                offset=self._start_at + device.offset,
                clock=self._clock,
            )
            for device in devices
        }
