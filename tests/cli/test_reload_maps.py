"""A map file that was edited is read anew by a reload, as meterd.yaml is."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meterd.cli.configuration import load_settings
from meterd.daemon.site import Site
from meterd.drivers.modbus import ModbusMeter
from meterd.errors import ConfigError
from meterd.model.clock import SystemClock
from meterd.model.event import EventKind
from meterd.sim.modbus import ModbusServer
from meterd.sim.serve import meter_bank

_HEAD = "source: a test of this\nmaker: Acme\nmodel: One\nrows:\n"
_VOLTAGE = "  voltage.l1: {function: 4, address: 0, type: f32, unit: V}\n"
_POWER = "  active_power: {function: 4, address: 12, type: f32, unit: W}\n"
_TAKEN = "  active_energy.import: {function: 4, address: 72, type: f32, unit: kWh}\n"
_GIVEN = "  active_energy.import: {function: 4, address: 74, type: f32, unit: kWh}\n"


class House:
    """Meters at one bus: two with a map file each, and one with a shipped map."""

    maps = {"a": "./maps/one.yaml", "b": "./maps/two.yaml", "c": "eastron_sdm120"}  # noqa: RUF012

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = Site(SystemClock())
        self.server = ModbusServer({unit: meter_bank("eastron_sdm120") for unit in (1, 2, 3)})

    def write(self, name: str, rows: str, head: str = _HEAD) -> None:
        (self.folder / "maps").mkdir(exist_ok=True)
        (self.folder / "maps" / f"{name}.yaml").write_text(head + rows)

    async def start(self) -> None:
        await self.server.start_tcp()
        devices = "".join(
            f"  {name}: {{driver: modbus, map: {map_}, link: '{self.server.url}', unit: {unit}, "
            "interval: 100ms, slow: 100ms}\n"
            for unit, (name, map_) in enumerate(self.maps.items(), 1)
        )
        store = f"store: {{url: 'sqlite:///{self.folder}/m.db'}}\napi: {{listen: '127.0.0.1:0'}}\n"
        (self.folder / "meterd.yaml").write_text(f"{store}devices:\n{devices}")
        self.write("one", _VOLTAGE + _TAKEN)
        self.write("two", _VOLTAGE + _TAKEN)
        await self.reload()

    async def reload(self) -> None:
        await self.site.apply(load_settings(self.folder / "meterd.yaml"))

    async def polled(self, name: str, more: int = 2) -> set[str]:
        """What the newest poll of a device has, some polls later."""
        known = self.site.latest.states.get(name)
        wanted = (known.polls if known else 0) + more
        async with asyncio.timeout(60):
            while (state := self.site.latest.states.get(name)) is None or state.polls < wanted:
                await asyncio.sleep(0.01)
        assert state.good is not None
        return set(state.good.layout.quantities)

    def meter(self, name: str) -> ModbusMeter:
        found = self.site.modbus(name)
        assert found is not None
        return found[0]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    found = House(tmp_path)
    await found.start()
    yield found
    await found.site.close()
    await found.server.stop()


async def test_new_rows_of_a_map_are_polled_after_a_reload_and_no_other_meter_starts_anew(
    house: House,
) -> None:
    assert "active_power" not in await house.polled("a")
    meters = {name: house.meter(name) for name in "abc"}
    ((_, link, _),) = (house.site.modbus("a") or (),)  # type: ignore[misc]
    house.write("one", _VOLTAGE + _TAKEN + _POWER)
    await house.reload()
    assert "active_power" in await house.polled("a")
    assert house.meter("a") is not meters["a"]
    assert [house.meter(name) for name in "bc"] == [meters[name] for name in "bc"]
    assert link.counters["opened"] == 1
    # A row that is taken away is polled no more.
    house.write("one", _TAKEN)
    await house.reload()
    assert "voltage.l1" not in await house.polled("a")


async def test_a_reload_after_words_of_no_matter_leaves_every_meter_alone(house: House) -> None:
    meters = {name: house.meter(name) for name in "abc"}
    house.write("one", "# a word of nobody\n" + _VOLTAGE + _TAKEN)
    await house.reload()
    assert {name: house.meter(name) for name in "abc"} == meters


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (_VOLTAGE + "  active_power: {function: 4, adress: 12, type: f32}\n", "one.yaml:6:"),
        (_VOLTAGE + "  active_power: {function: 4\n", "one.yaml:7:"),
        ("", "one.yaml:4:"),
        (None, "no such file"),
    ],
)
async def test_a_mistake_in_a_map_refuses_the_reload(
    house: House, rows: str | None, said: str
) -> None:
    await house.polled("a")
    meters = {name: house.meter(name) for name in "abc"}
    if rows is None:
        (house.folder / "maps" / "one.yaml").unlink()
    else:
        house.write("one", rows)
    with pytest.raises(ConfigError, match=said):
        await house.reload()
    assert {name: house.meter(name) for name in "abc"} == meters
    assert "voltage.l1" in await house.polled("a")
    # And once it is mended, the reload is as any other.
    house.write("one", _VOLTAGE + _TAKEN + _POWER)
    await house.reload()
    assert "active_power" in await house.polled("a")


async def test_another_register_of_a_counter_is_another_segment(house: House) -> None:
    """The energy given is not what was taken: nothing is booked from the one to the other."""
    await house.polled("a", 4)
    house.write("one", _VOLTAGE + _GIVEN)
    await house.reload()
    await house.polled("a", 4)
    swaps = [one for one in house.site.events() if one.kind is EventKind.SWAP]
    assert [one.device for one in swaps] == ["a"]
    guarded = "guarded.active_energy.import"
    (stored,) = await house.site.reader.range(["a"], [guarded], 0, 2**50, 0, "avg")
    totals = [value for _, value, *_ in stored.points if value is not None]
    assert totals
    assert max(totals) - min(totals) < 100  # Wh; between the two registers lie more


async def test_what_links_and_limits_get_from_a_map_is_of_its_new_text(house: House) -> None:
    await house.polled("a")
    ((_, link, _),) = (house.site.modbus("a") or (),)  # type: ignore[misc]
    head = _HEAD.replace("rows:", "max_power: 5000\ndefaults: {timeout: 3s, gap: 20ms}\nrows:")
    house.write("one", _VOLTAGE + _TAKEN, head)
    await house.reload()
    assert link.timeout == 3.0
    said = house.site.settings.devices["a"].options.power_limit
    assert said == (5000, "as rated in the map")
    assert house.site.settings.devices["b"].options.power_limit is None
