import math
from dataclasses import replace

import numpy as np
import pytest

from meterd.api.promapi.names import metric_name, stored_quantity
from meterd.api.promapi.store_source import SourceDevice, StoreSource, devices, marked
from meterd.model.quantity import CATALOGUE
from meterd.promql.result import QueryError
from meterd.promql.source import Times, Values, is_stale
from tests.api.fake import NOW, FakeDevice, FakeSite, good
from tests.api.promhistory import FakeHistory


def source(history: FakeHistory, **known: SourceDevice) -> StoreSource:
    return StoreSource(history, known)


def labels_of(one: StoreSource) -> list[dict[str, str]]:
    return [dict(labelled.labels) for labelled in one.names()]


def spell(column: tuple[Times, Values]) -> list[tuple[int, float | str]]:
    times, values = column
    pairs = zip(times.tolist(), values.tolist(), is_stale(values).tolist(), strict=True)
    return [(time, "stale" if stale else value) for time, value, stale in pairs]


def test_a_users_own_counter_is_one_where_no_map_declares_it() -> None:
    for kind, metric in (
        ("counter", "meterd_heat_undeclared_watthours_total"),
        ("gauge", "meterd_heat_undeclared_watthours"),
    ):
        quantity = stored_quantity("x.heat.undeclared", "Wh", kind)
        assert metric_name(quantity) == metric


def test_series_are_named_as_the_exposition_names_them() -> None:
    history = FakeHistory()
    history.add("main", "active_energy.import.l1", "Wh", [])
    history.add("main", "guarded.active_energy.import.l1", "Wh", [])
    history.add("main", "x.pool", "bar", [])
    found = labels_of(source(history, main=SourceDevice((("building", "A"),), 5000)))
    energy, guarded, own = found
    assert energy == {
        "__name__": "meterd_active_energy_import_watthours_total",
        "device": "main",
        "phase": "l1",
        "building": "A",
    }
    assert energy["__name__"] == metric_name(CATALOGUE["active_energy.import.l1"])
    assert guarded["__name__"] == "meterd_guarded_active_energy_import_watthours_total"
    assert (own["__name__"], own["quantity"]) == ("meterd_pool_bar", "x.pool")


def test_a_device_that_is_no_longer_configured_keeps_its_series() -> None:
    history = FakeHistory()
    history.add("old", "frequency", "Hz", [(1000, 50.0)])
    one = source(history)
    assert labels_of(one) == [{"__name__": "meterd_frequency_hertz", "device": "old"}]
    assert one.names()[0].interval == 0


def test_a_quantity_that_the_catalogue_forgot_is_still_there() -> None:
    history = FakeHistory()
    history.add("main", "forgotten.thing", "V", [])
    assert labels_of(source(history))[0]["__name__"] == "meterd_forgotten_thing_volts"


def test_the_unit_that_is_stored_is_the_one_in_the_name() -> None:
    history = FakeHistory()
    history.add("main", "frequency", "Hz", [])
    history.add("main", "frequency", "1", [])
    names = [labels["__name__"] for labels in labels_of(source(history))]
    assert names == ["meterd_frequency_hertz", "meterd_frequency"]


def test_no_two_series_have_the_same_labels() -> None:
    history = FakeHistory()
    history.add("main", "x.level", "a³", [(1000, 1.0)])
    history.add("main", "x.level", "a_", [(1000, 2.0)])
    assert len(labels_of(source(history))) == 1


def test_windows_are_left_open() -> None:
    history = FakeHistory()
    history.add("main", "frequency", "Hz", [(1000, 1.0), (2000, 2.0), (3000, 3.0)])
    found = source(history).fetch([0], 1000, 3000)
    assert spell(found[0]) == [(2000, 2.0), (3000, 3.0)]
    assert history.asked == [([("main", "frequency", "Hz")], 1001, 3001)]


def test_a_null_ends_the_series_until_the_next_value() -> None:
    history = FakeHistory()
    history.add("main", "frequency", "Hz", [(1000, 50.0), (2000, math.nan), (3000, 50.1)])
    found = source(history).fetch([0], 0, 9000)
    assert spell(found[0]) == [(1000, 50.0), (2000, "stale"), (3000, 50.1)]


def test_every_series_of_a_device_ends_at_the_first_poll_that_it_missed() -> None:
    history = FakeHistory()
    history.add("main", "frequency", "Hz", [(1000, 50.0), (6000, 50.1)])
    history.add("main", "voltage.l1", "V", [(1000, 230.0)])
    ups = [(1000, 1.0), (2000, 0.0), (3000, 0.0), (6000, 1.0), (7000, 0.0)]
    history.add("main", "device.up", "1", ups)
    history.add("other", "frequency", "Hz", [(1000, 49.9)])
    found = source(history).fetch([0, 1, 2, 3], 0, 9000)
    assert spell(found[0]) == [(1000, 50.0), (2000, "stale"), (6000, 50.1), (7000, "stale")]
    assert spell(found[1]) == [(1000, 230.0), (2000, "stale")]
    assert spell(found[2]) == list(ups)
    assert spell(found[3]) == [(1000, 49.9)]


def test_an_outage_that_began_before_the_window_is_known_in_it() -> None:
    history = FakeHistory()
    history.add("main", "frequency", "Hz", [(1000, 50.0)])
    history.add("main", "device.up", "1", [(1000, 1.0), (2000, 0.0), (3000, 0.0)])
    assert spell(source(history).fetch([0], 2500, 9000)[0]) == [(3000, "stale")]


def test_the_stale_mark_keeps_its_bits() -> None:
    times = np.arange(4, dtype=np.int64) * 1000
    values = np.array([1.0, math.nan, 3.0, 4.0])
    _, found = marked(times, values, np.array([500, 600, 3500], dtype=np.int64))
    assert is_stale(found).tolist() == [False, True, True, False, False, True]


def test_what_would_fill_the_memory_is_refused_at_once() -> None:
    history = FakeHistory()
    history.add("main", "frequency", "Hz", [(0, 50.0), (10 * 365 * 86_400_000, 50.0)])
    with pytest.raises(QueryError, match="too many samples"):
        source(history, main=SourceDevice((), 1000)).fetch([0], 0, 1 << 50)
    assert history.asked == []


def test_slow_rows_come_at_their_own_pace() -> None:
    site = FakeSite()
    fast = good("main", NOW, {"active_power": (1.0, "W")})
    slow = good("main", NOW, {"active_power": (1.0, "W"), "active_energy.import": (5.0, "Wh")})
    site.add(FakeDevice("main", interval=5.0, labels={"floor": "1"}), fast)
    for poll, time in ((slow, 15_000), (slow, 1_815_000), (fast, 1_820_000), (fast, 1_825_000)):
        site.latest.take(replace(poll, time=NOW + time))
    known = devices(site)["main"]
    assert (known.labels, known.interval) == ((("floor", "1"),), 5000)
    assert known.paces()["active_power"] == 5000
    assert known.paces()["active_energy.import"] == 1_800_000
