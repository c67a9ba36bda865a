"""A site is what its settings say, and a reload touches only what differs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meterd.cli.demo import settings
from meterd.config.settings import Settings
from meterd.daemon import timeline
from meterd.daemon.site import Site
from meterd.errors import ConfigError, MeterdError, StoreError
from meterd.model.clock import EARLIEST_MS, SystemClock
from meterd.model.event import Event, EventKind
from meterd.model.sample import Layout, Poll
from meterd.sim.modbus import ModbusServer
from meterd.sim.serve import meter_bank
from meterd.store.db import replacements
from tests.store.rigs import rows, samples

VOLTAGE = Layout.of([("voltage.l3", "V")])
_DEVICE = (
    "  {name}: {{driver: modbus, map: eastron_sdm120, link: '{url}', unit: 1, "
    "interval: 100ms, slow: 100ms}}\n"
)


class House:
    """Two simulated meters, and the text of a configuration that names some of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meters = {name: ModbusServer({1: meter_bank("eastron_sdm120")}) for name in "ab"}

    def text(self, *names: str, rules: str = "") -> str:
        devices = "".join(_DEVICE.format(name=name, url=self.meters[name].url) for name in names)
        store = f"store: {{url: 'sqlite:///{self.folder}/m.db', commit: 1s}}\n"
        return f"{store}devices:\n{devices}" + (
            f"alerts: {{rules: {{{rules}}}}}\n" if rules else ""
        )

    def settings(self, *names: str, rules: str = "") -> Settings:
        return settings(self.text(*names, rules=rules))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    found = House(tmp_path)
    for meter in found.meters.values():
        await meter.start_tcp()
    yield found
    for meter in found.meters.values():
        await meter.stop()


class Unset(SystemClock):
    """A machine's clock that nobody has set, until `is_set`."""

    is_set = False

    def now_ms(self) -> int:
        now = super().now_ms()
        return now if self.is_set else now - EARLIEST_MS


async def until_polled(site: Site, *names: str, more: int = 1) -> None:
    """Wait until each of these has been polled so many times more."""
    wanted = {name: site.latest.states[name].polls + more for name in names}
    async with asyncio.timeout(60):
        while any(site.latest.states[name].polls < n for name, n in wanted.items()):
            await asyncio.sleep(0.02)


async def test_from_empty_to_polling_and_stored(house: House) -> None:
    site = Site(SystemClock())
    await site.apply(house.settings("a"))
    assert site.ready() == (False, "not polled yet: a")
    await until_polled(site, "a", more=3)
    assert site.ready() == (True, "")
    # What was polled is visible at once, committed or not.
    (points,) = await site.reader.range(["a"], ["voltage.l1"], 0, 2**50, 0, "avg")
    assert len(points.points) >= 3
    assert site.overdue() == {}
    await site.close()


async def test_a_reload_keeps_the_connection_of_what_did_not_change(house: House) -> None:
    site = Site(SystemClock())
    await site.apply(house.settings("a"))
    await until_polled(site, "a")
    before = dict(site.link_counters())
    await site.apply(house.settings("a", "b"))
    await until_polled(site, "a", "b")
    assert [device.id for device in site.devices()] == ["a", "b"]
    counters = site.link_counters()[next(iter(before))]
    assert counters["opened"] == 1
    await site.apply(house.settings("b"))
    assert list(site.latest.states) == ["b"]
    await until_polled(site, "b")
    await site.close()


async def test_a_bad_reload_leaves_the_site_as_it_was(house: House, tmp_path: Path) -> None:
    site = Site(SystemClock())
    await site.apply(house.settings("a"))
    await until_polled(site, "a")
    polls = site.latest.states["a"].polls
    clash = house.text("a").replace("unit: 1", "unit: 1") + _DEVICE.format(
        name="c", url=house.meters["a"].url + "?framer=rtu"
    )
    with pytest.raises(ConfigError, match="a and c share"):
        await site.apply(settings(clash))
    nowhere = house.text("a").replace(str(house.folder), f"{tmp_path}/missing")
    with pytest.raises(StoreError):
        await site.apply(settings(nowhere))
    await until_polled(site, "a")
    assert site.latest.states["a"].polls > polls
    assert list(site.latest.states) == ["a"]
    await site.close()


async def test_the_same_store_with_other_settings_misses_no_poll(house: House) -> None:
    site = Site(SystemClock())
    await site.apply(house.settings("a"))
    await until_polled(site, "a", more=2)
    slower = house.text("a").replace("commit: 1s", "commit: 7s")
    assert slower != house.text("a")
    await site.apply(settings(slower))
    await until_polled(site, "a", more=2)
    state = site.latest.states["a"]
    assert state.last is not None
    (points,) = await site.reader.range(["a"], ["device.up"], 0, state.last.time + 1, 0, "avg")
    assert len(points.points) == state.polls
    await site.close()


async def test_a_changed_rule_is_there_after_a_reload(house: House) -> None:
    site = Site(SystemClock())
    await site.apply(house.settings("a"))
    assert site.alerts() == []
    await site.apply(house.settings("a", rules="low: {quantity: voltage.l1, below: 1000}"))
    await until_polled(site, "a", more=2)
    assert [(alert.rule, alert.device, alert.state) for alert in site.alerts()] == [
        ("low", "a", "firing")
    ]
    await site.close()


async def test_a_dead_meter_is_down_and_its_neighbour_is_not(house: House) -> None:
    site = Site(SystemClock())
    await site.apply(house.settings("a", "b"))
    await until_polled(site, "a", "b")
    await house.meters["a"].stop()
    await until_polled(site, "a", "b", more=2)
    assert site.latest.states["a"].up is False
    assert site.latest.states["b"].up is True
    await site.close()


async def test_a_running_total_goes_on_after_a_restart(house: House) -> None:
    name = "guarded.active_energy.import"
    totals: list[float] = []
    for _ in range(2):
        site = Site(SystemClock())
        await site.apply(house.settings("a"))
        await until_polled(site, "a", more=6)
        newest = next(p.poll for p in site.latest.states["a"].parts if name in p.poll.layout.index)
        value = newest.value(name)
        assert value is not None, newest.doubts
        totals.append(value)
        await site.close()
    assert totals[1] >= totals[0] > 0
    assert totals[1] - totals[0] < 1000


async def test_polls_before_the_clock_is_set_are_stored_with_their_right_times(
    house: House,
) -> None:
    clock, started = Unset(), SystemClock().now_ms()
    site = Site(clock)
    await site.apply(house.settings("a"))
    await until_polled(site, "a", more=3)
    clock.is_set = True
    await until_polled(site, "a", more=2)
    polled = site.latest.states["a"].polls
    await site.close()
    found = [time for time, name, _ in samples(house.folder / "m.db") if name == "device.up"]
    assert len(found) >= polled
    assert min(found) >= started


async def test_what_is_being_dated_when_meterd_ends_is_stored(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "_PIECE", 1)  # a poll a turn of the loop
    clock = Unset()
    site = Site(clock)
    await site.apply(house.settings("a"))
    sink = site._timeline
    for number in range(2000):
        sink.take(Poll("other", clock.now_ms() + number, VOLTAGE, (float(number),)))
    clock.is_set = True
    sink.take(Poll("other", clock.now_ms(), VOLTAGE, (2000.0,)))
    await site.close()
    values = [value for _, name, value in samples(house.folder / "m.db") if name == "voltage.l3"]
    assert sorted(value or 0.0 for value in values) == [float(number) for number in range(2001)]


async def test_a_renamed_device_goes_on_without_a_gap_and_as_one_series(house: House) -> None:
    """Over its connection; a reload and a restart that still say the old name change nothing."""
    file = house.settings("a", "b", rules="up: {device: a, quantity: device.up, equals: 1}")
    site = Site(SystemClock())
    await site.apply(file)
    await until_polled(site, "a", more=3)
    link, opened = site.modbus("a"), dict(site.link_counters())
    assert link is not None
    await site.rename("a", "kitchen", "anna")
    # Who was told its name before may still ask by it, as the proxy does.
    assert site.modbus("kitchen") == site.modbus("a") == link
    assert [device.id for device in site.devices()] == ["kitchen", "b"]
    assert list(site.latest.states) == ["kitchen", "b"]
    # Its times go on after those that it has.
    assert set(site._timeline._newest) == {"kitchen", "b"}
    await until_polled(site, "kitchen", more=3)
    assert {alert.device for alert in site.alerts()} == {"kitchen"}
    (told,) = (one.text for one in site.events() if one.kind == "renamed")
    assert "write kitchen in the configuration wherever it says a" in told
    await site.apply(file)
    assert site.modbus("kitchen") == link
    assert [one["opened"] for one in site.link_counters().values()] == [1, 1]
    assert opened.keys() == site.link_counters().keys()
    await until_polled(site, "kitchen")
    assert {alert.device for alert in site.alerts()} == {"kitchen"}
    assert sum(one.kind == "renamed" for one in site.events()) == 1
    await site.close()
    again = Site(SystemClock())
    await again.apply(file)
    await until_polled(again, "kitchen", more=2)
    (told,) = (one.text for one in again.events() if one.kind == "renamed")
    assert "it is polled as kitchen" in told
    assert {one.device for one in await again.reader.series()} == {"kitchen", "b"}
    (totals,) = await again.reader.range(
        ["kitchen"], ["guarded.active_energy.import"], 0, 2**50, 0, "avg"
    )
    values = [value for _, value in totals.points]
    assert values == sorted(values)
    assert len(values) >= 5
    await again.close()


async def test_a_former_name_in_the_file_beside_the_new_one_is_another_device(
    house: House,
) -> None:
    site = Site(SystemClock())
    await site.apply(house.settings("a"))
    await until_polled(site, "a")
    await site.rename("a", "b")
    await site.apply(house.settings("a", "b"))
    await until_polled(site, "a", "b")
    assert {one.device for one in await site.reader.series()} == {"a", "b"}
    await site.close()
    (first,) = rows(house.folder / "m.db", "SELECT name FROM device WHERE id = 1")
    assert first == ("b",)


async def test_only_free_names_are_given(house: House) -> None:
    site = Site(SystemClock())
    await site.apply(house.settings("a", "b"))
    await until_polled(site, "a", "b")
    for old, new in (("a", "b"), ("a", "a"), ("lost", "c")):
        with pytest.raises(MeterdError):
            await site.rename(old, new)
    assert [device.id for device in site.devices()] == ["a", "b"]
    await site.close()


async def test_a_meter_that_was_replaced_goes_on_as_one_history(house: House) -> None:
    site = Site(SystemClock())
    await site.apply(house.settings("a"))
    await until_polled(site, "a", more=6)
    at = SystemClock().now_ms()
    await site.replace("a", at, "anna")
    await until_polled(site, "a", more=8)
    (told,) = (one for one in site.events() if one.kind == "replaced")
    assert "is another meter since" in told.text
    (totals,) = await site.reader.range(["a"], ["guarded.active_energy.import"], 0, 2**50, 0, "avg")
    values = [value for _, value in totals.points]
    assert values == sorted(values)
    assert max(time for time, _ in totals.points) > at
    # What it says of itself is of the next meter: no second segment.
    assert not [one for one in site.events() if one.kind == "swap"]
    await site.rename("a", "kitchen")
    await site.close()
    ((body,),) = rows(house.folder / "m.db", "SELECT body FROM memo WHERE name LIKE 'replaced %'")
    assert f'"at": {at}' in str(body)


async def test_another_meter_that_meterd_noticed_is_kept_for_later_counts(house: House) -> None:
    site = Site(SystemClock())
    await site.apply(house.settings("a"))
    await until_polled(site, "a", more=8)
    now = SystemClock().now_ms()
    site.event_log.add(Event(EventKind.SWAP, "a", now, "another meter answers"))
    await site.replace("a", now - 1, "anna")  # the same, as a person says it
    writer = site._open_store.writer
    found = await writer.do(lambda ledger: replacements.of(ledger, "a"))
    assert [(one.at, one.who) for one in found] == [(now - 1, "anna")]
    site.event_log.add(Event(EventKind.SWAP, "a", now + 10 * 86_400_000, "another"))
    await site.close()
    ((body,),) = rows(house.folder / "m.db", "SELECT body FROM memo WHERE name = 'replaced a'")
    assert str(body).count('"at"') == 2


async def test_who_renamed_in_the_file_first_merges_while_it_is_polled(house: House) -> None:
    """Polled as a, then as b: one history, and its totals rise over the join."""
    await house.meters["b"].stop()
    house.meters["b"] = house.meters["a"]
    site = Site(SystemClock())
    await site.apply(house.settings("a"))
    await until_polled(site, "a", more=8)
    await site.apply(house.settings("b"))
    await until_polled(site, "b", more=8)
    with pytest.raises(MeterdError, match="already"):
        await site.rename("a", "b")
    await site.rename("a", "b", merge=True)
    await until_polled(site, "b", more=4)
    assert {one.device for one in await site.reader.series()} == {"b"}
    (totals,) = await site.reader.range(["b"], ["guarded.active_energy.import"], 0, 2**50, 0, "avg")
    values = [value for _, value in totals.points]
    assert values == sorted(values)
    assert len(values) > 12
    await site.close()
    assert rows(house.folder / "m.db", "SELECT name FROM device") == [("b",)]
