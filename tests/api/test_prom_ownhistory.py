import asyncio

import pytest

from meterd.api.promapi import self_metrics_history
from meterd.api.promapi.prices import PriceSource
from meterd.api.promapi.self_metrics_history import Key, OwnHistory
from meterd.api.promapi.source import SiteSource
from meterd.api.promapi.store_source import StoreSource
from meterd.daemon.metrics import DaemonMetrics
from meterd.errors import StoreCode, StoreError
from meterd.model.sample import Fault, failed
from meterd.promql.engine import instant
from meterd.promql.source import is_stale
from meterd.store.writer import WriterStatus
from tests.api.conftest import FixedClock
from tests.api.fake import NOW, FakeDevice, FakeSite, good
from tests.api.promhistory import FakeHistory

FAULT: Key = (("__name__", "meterd_poll_faults_total"), ("code", "refused"), ("device", "solar"))
UPTIME: Key = (("__name__", "meterd_uptime_seconds"),)


def watched(site: FakeSite) -> DaemonMetrics:
    daemon_metrics = DaemonMetrics()
    daemon_metrics.place({device.id: device.link for device in site.known})
    site.daemon_metrics = daemon_metrics
    return daemon_metrics


def test_it_is_the_same_as_the_exposition_tells(site: FakeSite) -> None:
    watched(site).lag.add(0.2)
    history = OwnHistory(site)
    history.look(NOW)
    found = {dict(key)["__name__"]: one.meaning for key, one in history.series().items()}
    assert found["meterd_polls_total"].type == "counter"
    assert found["meterd_build_info"].type == "info"
    lag = found["meterd_loop_lag_seconds_bucket"]
    assert (lag.name, lag.type, lag.unit) == ("meterd_loop_lag_seconds", "histogram", "seconds")
    (column,) = history.fetch([UPTIME], NOW - 1, NOW)
    assert (column[0].tolist(), column[1].tolist()) == ([NOW], [3600.0])


def test_a_series_that_goes_away_ends_with_a_stale_mark(site: FakeSite) -> None:
    daemon_metrics = watched(site)
    daemon_metrics.take(failed("solar", NOW, Fault("refused", "no")))
    history = OwnHistory(site)
    for second in (0, 15, 30, 45):
        if second == 30:
            daemon_metrics.place({})
        history.look(NOW + second * 1000)
    ((times, values),) = history.fetch([FAULT], NOW - 1, NOW + 60_000)
    assert times.tolist() == [NOW, NOW + 15_000, NOW + 30_000]
    assert is_stale(values).tolist() == [False, False, True]
    one = history.series()[FAULT]
    assert (one.first, one.last) == (NOW, NOW + 15_000)
    assert history.series()[UPTIME].last == NOW + 45_000


def test_it_looks_as_often_as_the_quickest_device_is_polled(site: FakeSite) -> None:
    history = OwnHistory(site)
    assert history.pace() == 2.0  # the UPS
    site.known = [FakeDevice("a", interval=0.2), FakeDevice("b", interval=60.0)]
    assert history.pace() == self_metrics_history.QUICKEST
    site.known = [FakeDevice("b", interval=60.0)]
    assert history.pace() == self_metrics_history.SLOWEST
    site.known = [FakeDevice(str(number), interval=1.0) for number in range(50)]
    assert history.pace() == self_metrics_history.SLOWEST


async def test_a_look_at_many_devices_leaves_the_loop_its_turns(site: FakeSite) -> None:
    for number in range(100):
        site.add(FakeDevice(str(number)), good(str(number), NOW, {"frequency": (50.0, "Hz")}))
    history = OwnHistory(site)
    looking = asyncio.create_task(history.run(FixedClock()))
    turns = 0
    while not history.series():
        turns += 1
        await asyncio.sleep(0)
    looking.cancel()
    assert turns >= 5
    assert list(history.series()) == list(_looked(site))


async def test_a_store_that_is_not_open_yet_ends_no_history(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def away() -> WriterStatus:
        asked.append(1)
        raise StoreError("the store is not open", code=StoreCode.UNAVAILABLE)

    monkeypatch.setattr(self_metrics_history, "QUICKEST", 0.0)
    monkeypatch.setattr(self_metrics_history, "SLOWEST", 0.0)
    history = OwnHistory(site)
    with monkeypatch.context() as then:
        then.setattr(site, "store_status", away)
        looking = asyncio.create_task(history.run(FixedClock()))
        while len(asked) < 2:
            await asyncio.sleep(0)
    while not history.series():
        await asyncio.sleep(0)
    looking.cancel()
    assert UPTIME in history.series()


def _looked(site: FakeSite) -> list[Key]:
    history = OwnHistory(site)
    history.look(NOW)
    return list(history.series())


def test_a_clock_that_was_set_back_adds_nothing(site: FakeSite) -> None:
    history = OwnHistory(site)
    for time in (NOW, NOW - 5000, NOW):
        history.look(time)
    ((times, _),) = history.fetch([UPTIME], 0, NOW + 1)
    assert times.tolist() == [NOW]


def test_what_a_clock_far_ahead_noted_holds_nothing_up(site: FakeSite) -> None:
    history = OwnHistory(site)
    for time in (NOW, NOW + 7_200_000, NOW + 5000, NOW + 10_000):
        history.look(time)
    ((times, _),) = history.fetch([UPTIME], 0, NOW + 8_000_000)
    assert times.tolist() == [NOW, NOW + 5000, NOW + 10_000]


def test_memory_is_bounded_where_there_are_many_series(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_metrics_history, "_MOST_VALUES", 1)
    history = OwnHistory(site)
    for number in range(100):
        history.look(NOW + number * 15_000)
    ((times, _),) = history.fetch([UPTIME], 0, NOW + 10_000_000)
    assert len(times) == 40


def test_promql_sees_the_store_and_meterd_itself_as_one(site: FakeSite) -> None:
    stored = FakeHistory()
    stored.add("main", "frequency", "Hz", [(NOW - 1000, 50.0)])
    history = OwnHistory(site)
    history.look(NOW - 1000)
    source = SiteSource(StoreSource(stored, {}), history, PriceSource({}, "UTC", 0))
    asked = 'count by (__name__) ({__name__=~"meterd_(frequency_hertz|uptime_seconds)"})'
    result = instant(source, asked, NOW)
    assert len(result.data) == 2
    mixed = instant(source, "meterd_frequency_hertz + on () meterd_uptime_seconds", NOW).data
    assert not isinstance(mixed, str)
    assert [one.values.tolist() for one in mixed] == [[3649.0]]
