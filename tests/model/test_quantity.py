"""The catalogue: names, units, codes, and what is plausible."""

import re
from collections import Counter

import pytest

from meterd.model.quantity import (
    CATALOGUE,
    INFO,
    UNIT_WORDS,
    Kind,
    declare,
    describe,
    is_known,
    prometheus_name,
    suggest,
)


def test_names_are_dotted_lower_case_with_the_phase_last() -> None:
    for quantity in CATALOGUE.values():
        assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*", quantity.name)
        assert not quantity.phase or quantity.name.endswith(f".{quantity.phase}"), quantity


def test_units_are_kept_units() -> None:
    assert {quantity.unit for quantity in CATALOGUE.values()} <= UNIT_WORDS.keys()


def test_every_quantity_is_told_in_words() -> None:
    for quantity in CATALOGUE.values():
        assert re.fullmatch(r"[A-Z].{3,}", quantity.text), quantity


def test_prometheus_names_are_valid() -> None:
    for quantity in CATALOGUE.values():
        assert re.fullmatch(r"meterd_[a-z][a-z0-9_]*", quantity.prometheus), quantity
        assert quantity.prometheus.endswith("_total") == (quantity.kind is Kind.COUNTER)


def test_no_two_quantities_share_a_prometheus_series() -> None:
    series = Counter((quantity.prometheus, quantity.phase) for quantity in CATALOGUE.values())
    assert [one for one, times in series.items() if times > 1] == []


def test_no_two_quantities_share_an_obis_code() -> None:
    codes = Counter(quantity.obis for quantity in CATALOGUE.values() if quantity.obis)
    assert [code for code, times in codes.items() if times > 1] == []


@pytest.mark.parametrize(
    ("name", "unit", "obis"),
    [
        ("active_power", "W", "16.7.0"),
        ("active_power.l3", "W", "76.7.0"),
        ("active_power.import", "W", "1.7.0"),
        ("reactive_power.l1", "var", "151.7.0"),
        ("voltage.l1", "V", "32.7.0"),
        ("voltage.l12", "V", ""),
        ("voltage.avg", "V", ""),
        ("current", "A", "90.7.0"),
        ("current.l2", "A", "51.7.0"),
        ("current.n", "A", "91.7.0"),
        ("frequency", "Hz", "14.7.0"),
        ("power_factor", "1", "13.7.0"),
        ("phase_angle.l2", "°", "81.7.15"),
        ("thd.voltage.l1", "%", "32.7.124"),
        ("active_energy.import", "Wh", "1.8.0"),
        ("active_energy.export", "Wh", "2.8.0"),
        ("active_energy.import.t2", "Wh", "1.8.2"),
        ("active_energy.export.l1", "Wh", "22.8.0"),
        ("active_energy.total", "Wh", "15.8.0"),
        ("active_energy.net", "Wh", "16.8.0"),
        ("reactive_energy.import", "varh", "3.8.0"),
        ("reactive_energy.q4", "varh", "8.8.0"),
        ("apparent_energy.export", "VAh", "10.8.0"),
        ("demand.active_power.import.max", "W", "1.6.0"),
        ("demand.current.max.l1", "A", "31.6.0"),
    ],
)
def test_quantities_have_the_codes_of_the_standard(name: str, unit: str, obis: str) -> None:
    assert (CATALOGUE[name].unit, CATALOGUE[name].obis) == (unit, obis)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("active_energy.import", Kind.COUNTER),
        ("active_energy.import.partial", Kind.COUNTER),
        ("active_energy.net", Kind.GAUGE),
        ("active_energy.today", Kind.GAUGE),
        ("demand.active_power.max", Kind.GAUGE),
        ("operating_time", Kind.COUNTER),
    ],
)
def test_only_what_never_falls_is_a_counter(name: str, kind: Kind) -> None:
    assert CATALOGUE[name].kind is kind


def test_ups_quantities_have_the_names_of_nut() -> None:
    assert CATALOGUE["battery.charge"].nut == "battery.charge"
    assert CATALOGUE["ups.status.ob"].nut == "ups.status"
    assert CATALOGUE["input.voltage.l2"].nut == "input.L2-N.voltage"


def test_prometheus_leaves_the_phase_to_a_label() -> None:
    assert CATALOGUE["voltage.l1"].prometheus == "meterd_voltage_volts"
    assert (
        prometheus_name("active_energy.import", "Wh", Kind.COUNTER)
        == "meterd_active_energy_import_watthours_total"
    )
    assert prometheus_name("x.flow", "m³/h", Kind.GAUGE) == "meterd_flow_m_h"


@pytest.mark.parametrize(
    ("name", "value", "plausible"),
    [
        ("frequency", 50.0, True),
        ("frequency", 16.7, True),
        ("frequency", 0.0, True),
        ("frequency", 6000.0, False),
        ("voltage.l1", -230.0, True),
        ("voltage.l1", 5e-39, False),
        ("power_factor", -1.7, True),
        ("power_factor", 2.5, False),
    ],
)
def test_values_that_no_installation_has_are_not_plausible(
    name: str, value: float, plausible: bool
) -> None:
    assert CATALOGUE[name].plausible(value) is plausible


def test_an_own_name_is_a_gauge_in_its_unit() -> None:
    own = describe("x.flow_rate", "l/h")
    assert own is not None
    assert (own.unit, own.kind) == ("l/h", Kind.GAUGE)
    assert describe("X.flow") is None
    assert describe("flow") is None


def test_an_unknown_name_gets_a_hint() -> None:
    assert "voltage.l1" in suggest("voltage.1")
    assert "x." in suggest("qqqq")


def test_texts_are_no_quantities() -> None:
    assert not set(INFO) & CATALOGUE.keys()


def test_what_was_declared_of_a_users_own_quantity_holds_wherever_it_is_described() -> None:
    declare("x.t.declared", "m³", Kind.COUNTER)
    own, total = describe("x.t.declared"), describe("guarded.x.t.declared")
    assert own is not None
    assert total is not None
    assert (own.unit, own.kind) == ("m³", Kind.COUNTER)
    assert (total.unit, total.kind) == ("m³", Kind.COUNTER)
    assert own.prometheus == "meterd_t_declared_cubic_meters_total"
    # A series in another unit stays in it.
    litres = describe("x.t.declared", "l")
    assert litres is not None
    assert litres.unit == "l"


def test_a_map_knows_better_than_the_store_and_a_counter_goes_first() -> None:
    declare("x.t.mapped", "1", Kind.GAUGE)
    declare("x.t.mapped", "1", Kind.COUNTER, stored=True)
    assert describe("x.t.mapped") == describe("x.t.mapped", "1")
    assert getattr(describe("x.t.mapped"), "kind", None) is Kind.GAUGE
    declare("x.t.mapped", "1", Kind.COUNTER)
    declare("x.t.mapped", "1", Kind.GAUGE)
    assert getattr(describe("x.t.mapped"), "kind", None) is Kind.COUNTER


@pytest.mark.parametrize(
    ("name", "unit", "kind", "phase", "text", "obis"),
    [
        ("frequency.l2", "Hz", Kind.GAUGE, "l2", "Frequency, L2", "54.7.0"),
        ("voltage.ch1", "V", Kind.GAUGE, "ch1", "Voltage, CH1", ""),
        ("voltage.dc1", "V", Kind.GAUGE, "dc1", "Voltage, DC1", ""),
        ("current.dc24", "A", Kind.GAUGE, "dc24", "Current, sum, DC24", ""),
        ("active_power.ch13", "W", Kind.GAUGE, "ch13", "Active power, CH13", ""),
        ("active_power.ch13.l2", "W", Kind.GAUGE, "ch13.l2", "Active power, CH13.L2", ""),
        ("power_factor.ch84", "1", Kind.GAUGE, "ch84", "Power factor, CH84", ""),
        ("thd.current.ch2", "%", Kind.GAUGE, "ch2", "THD of current, CH2", ""),
        ("voltage.max.ch2", "V", Kind.GAUGE, "ch2", "Highest voltage, CH2", ""),
        ("output.voltage.l12", "V", Kind.GAUGE, "l12", "Output voltage, L12", ""),
        (
            "active_energy.export.ch1",
            "Wh",
            Kind.COUNTER,
            "ch1",
            "Active energy given to the grid, CH1",
            "",
        ),
        (
            "active_energy.import.t5",
            "Wh",
            Kind.COUNTER,
            "",
            "Active energy taken from the grid, tariff 5",
            "1.8.5",
        ),
        (
            "reactive_energy.import.t2.l1",
            "varh",
            Kind.COUNTER,
            "l1",
            "Reactive energy taken from the grid, tariff 2, L1",
            "23.8.2",
        ),
        ("demand.active_power.import.max.t1", "W", Kind.GAUGE, "", "", "1.6.1"),
        (
            "guarded.active_energy.export.ch1",
            "Wh",
            Kind.COUNTER,
            "ch1",
            "Active energy given to the grid, CH1, running total",
            "",
        ),
    ],
)
def test_what_is_measured_may_have_any_place(
    name: str, unit: str, kind: Kind, phase: str, text: str, obis: str
) -> None:
    found = describe(name)
    assert found is not None
    assert is_known(name)
    assert (found.name, found.unit, found.kind) == (name, unit, kind)
    assert (found.phase, found.obis) == (phase, obis)
    assert not text or found.text == text
    assert found.prometheus.endswith("_total") == (kind is Kind.COUNTER)


@pytest.mark.parametrize(
    "name",
    [
        "tariff.l1",
        "phase_sequence.ch2",
        "voltage.l4",
        "voltage.ch0",
        "voltage.ch1000",
        "voltage.t1",
        "frequency.t100",
        "l1",
        "ch1.l1",
        "battery.voltage.l1",
        "device.up.l1",
        "guarded.frequency.l2",
        "guarded.voltage.l1",
        "voltage..l1",
        "voltage.l1.l2",
    ],
)
def test_what_has_no_place_has_none(name: str) -> None:
    assert describe(name) is None
    assert not is_known(name)


def test_places_have_an_order() -> None:
    assert suggest("active_energy.import.l1.t2") == "did you mean active_energy.import.t2.l1?"
    assert suggest("current.l2.ch7") == "did you mean current.ch7.l2?"


def test_what_a_place_adds_is_plausible_where_the_whole_is() -> None:
    for name, known in CATALOGUE.items():
        if (found := describe(f"{name}.ch7")) is not None and not known.phase:
            assert (found.unit, found.kind) == (known.unit, known.kind), name
            assert (found.low, found.high) == (known.low, known.high), name
            family = found.prometheus
            assert family == known.prometheus, name
