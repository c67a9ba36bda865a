import asyncio
from asyncio.subprocess import PIPE, STDOUT

import pytest
from aiohttp import ClientSession
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from meterd.api import prometheus
from meterd.api.answer import ApiCall
from meterd.api.app import Running
from meterd.api.promapi.names import (
    device_labels,
    metric_name,
    metric_text,
    metric_type,
    metric_unit,
)
from meterd.api.query import NoQuery
from meterd.daemon.metrics import DaemonMetrics
from meterd.model.alert import AlertState
from meterd.model.quantity import CATALOGUE, Kind, declare, describe
from tests.api.fake import NOW, FakeDevice, FakeSite, FakeStatus, alert, good, home

ACCEPTS_OPENMETRICS = {
    "Accept": "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
}


@pytest.fixture
def site() -> FakeSite:
    """The home, and a second in which its devices were polled once."""
    site = home()
    daemon_metrics = DaemonMetrics()
    daemon_metrics.place({device.id: device.link for device in site.known})
    for state in site.latest.states.values():
        if state.last is not None:
            daemon_metrics.take(state.last)
    daemon_metrics.lag.add(0.002)
    site.daemon_metrics = daemon_metrics
    return site


async def scrape(client: ClientSession) -> dict[str, Metric]:
    """Families by name; both formats have to parse, and to say the same."""
    async with client.get("/metrics") as reply:
        assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = list(plain(await reply.text()))
    async with client.get("/metrics", headers=ACCEPTS_OPENMETRICS) as reply:
        kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert reply.headers["Content-Type"] == kind
        strict = list(openmetrics(await reply.text()))  # type: ignore[no-untyped-call]
    lines = [(s.name, tuple(sorted(s.labels.items()))) for f in families for s in f.samples]
    assert len(lines) == len(set(lines)), "a series came twice"
    assert {s.name for f in strict for s in f.samples} == {name for name, _ in lines}
    return {sample.name: family for family in families for sample in family.samples}


def values(families: dict[str, Metric], name: str) -> dict[tuple[str, str], float]:
    return {
        (s.labels.get("device", ""), s.labels.get("phase", "")): s.value
        for s in families[name].samples
    }


async def test_quantities_become_families_with_phases_as_labels(client: ClientSession) -> None:
    families = await scrape(client)
    volts = values(families, "meterd_voltage_volts")
    assert (volts["main", "l1"], volts["main", "l3"]) == (229.8, 231.2)
    assert values(families, "meterd_active_power_watts")["main", ""] == 3412.5
    labels = families["meterd_active_power_watts"].samples[0].labels
    assert labels == {"device": "main", "building": "A"}
    energy = families["meterd_active_energy_import_watthours_total"]
    assert energy.type == "counter"
    assert all(family.documentation for family in families.values())


async def test_devices_that_are_down_or_overdue_have_nothing_but_their_up(
    client: ClientSession,
) -> None:
    families = await scrape(client)
    up = values(families, "meterd_device_up")
    assert (up["garage", ""], up["main", ""], up["kitchen", ""]) == (0.0, 1.0, 1.0)
    samples = {
        s.name for f in families.values() for s in f.samples if s.labels.get("device") == "garage"
    }
    assert samples == {
        "meterd_device_up",
        "meterd_device_info",
        "meterd_polls_total",
        "meterd_poll_failures_total",
        "meterd_poll_faults_total",
        "meterd_poll_duration_seconds_bucket",
        "meterd_poll_duration_seconds_count",
        "meterd_poll_duration_seconds_sum",
    }
    assert ("kitchen", "") not in values(families, "meterd_active_power_watts")


async def test_meterd_tells_how_it_fares_itself(client: ClientSession, site: FakeSite) -> None:
    site.firing = [alert(NOW), alert(NOW, id="b", state=AlertState.PENDING, severity="warning")]
    families = await scrape(client)
    assert values(families, "meterd_poll_failures_total")["garage", ""] == 1
    assert families["meterd_store_committed_samples_total"].samples[0].value == 3400
    events = families["meterd_link_events_total"].samples
    dropped = next(s for s in events if s.labels["event"] == "dropped_wrong_unit")
    assert (dropped.labels["link"], dropped.value) == ("tcp://192.0.2.7:502", 2)
    alerts = {
        (s.labels["state"], s.labels["severity"]): s.value
        for s in families["meterd_alerts"].samples
    }
    assert alerts == {
        ("firing", "critical"): 1,
        ("firing", "warning"): 0,
        ("pending", "warning"): 1,
    }
    assert families["meterd_uptime_seconds"].samples[0].value == 3600
    info = families["meterd_device_info"].samples[0].labels
    assert (info["driver"], info["model"], info["serial_number"]) == (
        "modbus",
        "eastron_sdm630",
        "1234",
    )


async def test_polls_links_and_the_loop_are_measured(client: ClientSession) -> None:
    families = await scrape(client)
    buckets = {
        s.labels["le"]: s.value
        for s in families["meterd_poll_duration_seconds_bucket"].samples
        if s.name.endswith("_bucket") and s.labels["device"] == "main"
    }
    assert (buckets["0.01"], buckets["0.025"], buckets["+Inf"]) == (0, 1, 1)
    faults = families["meterd_poll_faults_total"].samples
    assert [(s.labels["device"], s.labels["code"], s.value) for s in faults] == [
        ("garage", "timeout", 1)
    ]
    busy = {s.labels["link"]: s.value for s in families["meterd_link_busy_seconds_total"].samples}
    assert busy["tcp://192.0.2.8:502"] == pytest.approx(0.034)
    samples = families["meterd_loop_lag_seconds_sum"].samples
    assert [s.value for s in samples if s.name.endswith("_sum")] == [0.002]


async def test_openmetrics_names_the_units(client: ClientSession) -> None:
    async with client.get("/metrics", headers=ACCEPTS_OPENMETRICS) as reply:
        lines = (await reply.text()).splitlines()
    assert "# UNIT meterd_active_energy_import_watthours watthours" in lines
    assert "# TYPE meterd_active_energy_import_watthours counter" in lines
    assert "# UNIT meterd_poll_duration_seconds seconds" in lines
    assert lines[-1] == "# EOF"


async def test_a_value_that_is_not_known_is_absent(client: ClientSession, site: FakeSite) -> None:
    site.add(FakeDevice("part"), good("part", NOW, {"frequency": (None, "Hz")}))
    assert ("part", "") not in values(await scrape(client), "meterd_frequency_hertz")


async def test_before_the_first_commit_there_is_no_time_of_it(
    client: ClientSession, site: FakeSite
) -> None:
    site.status = FakeStatus(last_commit=0.0)
    assert "meterd_store_last_commit_timestamp_seconds" not in await scrape(client)


async def test_own_quantities_cannot_spoil_the_exposition(
    client: ClientSession, site: FakeSite
) -> None:
    columns = {
        name: (float(number), unit)
        for number, (name, unit) in enumerate(
            [
                ("x.current", "A"),  # the name of a family of the catalogue
                ("x.active_energy.import", "Wh"),  # that of a counter, less its _total
                ("x.polls_total", "1"),  # one of meterd's own
                ("x.device", "1"),
                ("x.build", "1"),
                ("x.store.writable", "1"),
                ("x.flow_count", "1"),
                ("x.a.b", "m³/h"),  # the same letters once they are plain
                ("x.a_b", "m³/h"),
                ("x.speed", "µm"),
                ("x.pressure", "bar"),
            ]
        )
    }
    site.add(FakeDevice("own"), good("own", NOW, columns))
    site.add(FakeDevice("other"), good("other", NOW, {"x.pressure": (7.0, "Pa")}))
    families = await scrape(client)
    own = {
        s.labels["quantity"]: s.value
        for f in families.values()
        for s in f.samples
        if s.labels.get("device") == "own" and "quantity" in s.labels
    }
    assert own == {name: value for name, (value, _) in columns.items()}
    assert values(families, "meterd_pressure_bar") == {("own", ""): 10.0}
    assert values(families, "meterd_pressure_Pa") == {("other", ""): 7.0}


async def test_labels_of_devices_cannot_spoil_the_exposition(
    client: ClientSession, site: FakeSite
) -> None:
    labels = {"device": "no", "floor-2": 'a"b\\c\nd', "floor_2": "e", "2nd": "f", "größe": "g"}
    site.add(FakeDevice("odd", labels=labels), good("odd", NOW, {"frequency": (50.0, "Hz")}))
    families = await scrape(client)
    found = [s for s in families["meterd_frequency_hertz"].samples if s.labels["device"] == "odd"]
    assert len(found) == 1
    assert 'a"b\\c\nd' in found[0].labels.values()
    assert set(device_labels(labels).values()) == set(labels.values())


def test_a_register_and_its_running_total_have_names_of_their_own() -> None:
    register, total = (
        metric_name(CATALOGUE[f"{prefix}active_energy.import"]) for prefix in ("", "guarded.")
    )
    assert register == "meterd_active_energy_import_watthours_total"
    assert total == "meterd_guarded_active_energy_import_watthours_total"


def test_all_phases_of_a_metric_share_type_help_and_unit() -> None:
    found: dict[str, set[tuple[str, str, str]]] = {}
    for quantity in CATALOGUE.values():
        meaning = metric_type(quantity), metric_text(quantity), metric_unit(quantity)
        found.setdefault(metric_name(quantity), set()).add(meaning)
    assert [name for name, meanings in found.items() if len(meanings) > 1] == []
    assert found["meterd_voltage_volts"] == {("gauge", "Voltage", "volts")}


def test_no_two_quantities_of_the_catalogue_share_a_series() -> None:
    series = [(metric_name(q), q.phase) for q in CATALOGUE.values()]
    assert len(series) == len(set(series))


def test_an_own_name_is_plain_where_nothing_is_in_its_way() -> None:
    quantity = describe("x.pool.level", "1")
    assert quantity is not None
    assert metric_name(quantity) == "meterd_pool_level"


@pytest.mark.needs("promtool")
async def test_promtool_finds_nothing_to_complain_about(client: ClientSession) -> None:
    async with client.get("/metrics") as reply:
        text = await reply.read()
    process = await asyncio.create_subprocess_exec(
        *("promtool", "check", "metrics"), stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await process.communicate(text)
    assert (process.returncode, said) == (0, b"")


async def test_clients_are_counted_and_those_that_fall_behind(running: Running) -> None:
    async with ClientSession(running.url) as client:
        before = await scrape(client)
        assert before["meterd_streams"].samples[0].value == 0
        async with client.get("/api/v1/stream") as stream:
            await stream.content.readline()
            during = await scrape(client)
            assert during["meterd_streams"].samples[0].value == 1
            assert during["meterd_connections"].samples[0].value == 2
    for name in ("meterd_streams_slow_total", "meterd_connections_refused_total"):
        (sample,) = [one for one in during[name].samples if one.name == name]
        assert sample.value == 0


async def test_what_the_store_could_not_take_is_told(site: FakeSite, client: ClientSession) -> None:
    site.status = FakeStatus(writable=False, spooled=120, set_aside=1)
    families = await scrape(client)
    assert families["meterd_store_spooled_samples"].samples[0].value == 120
    assert families["meterd_store_files_set_aside_total"].samples[0].value == 1


async def test_many_devices_are_told_in_portions_between_which_polls_go_on() -> None:
    site = home()
    for number in range(100):
        name = f"meter-{number}"
        site.add(FakeDevice(name), good(name, NOW, {"active_power": (1.0, "W")}))
    turns = 0

    async def polls() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(polls())
    answer = await prometheus.show(ApiCall(site, NOW, {}, ""), NoQuery())
    task.cancel()
    assert answer.body.count(b"meterd_active_power_watts{") >= 100
    assert turns >= 10


def test_a_counter_of_ones_own_ends_in_total() -> None:
    declare("x.p.water", "m³", Kind.COUNTER)
    own = describe("x.p.water")
    assert own is not None
    assert metric_name(own) == "meterd_p_water_cubic_meters_total"
    declare("x.active_energy.import", "Wh", Kind.COUNTER)
    taken = describe("x.active_energy.import")
    assert taken is not None
    assert metric_name(taken) == "meterd_x_active_energy_import_watthours_value_total"
