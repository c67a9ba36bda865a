"""What the guarded counters of a device add to its polls, and what they say about it."""

import json
from dataclasses import asdict, replace

import pytest

from meterd.model.event import Notice
from meterd.model.sample import Fault, Poll, Quality, QualityFlag, Reading, failed
from meterd.poll.counters import (
    NOTICE_INTERVAL_S,
    Counters,
    CountersState,
    Form,
    Origin,
    is_guarded,
)
from meterd.poll.guard_state import GuardState
from meterd.poll.normalise import Normaliser

IMPORT, GUARDED = "active_energy.import", "guarded.active_energy.import"
START = 1_800_000_000_000


class Bench:
    """One device with its normaliser, polled each ten seconds."""

    def __init__(self, counters: Counters | None = None) -> None:
        self.counters = counters or Counters("main")
        self.normaliser = Normaliser("main")
        self.now = 100.0
        self.events: list[Notice] = []
        self.times: list[int] = []

    def poll(self, *readings: Reading, after: float = 10.0) -> Poll:
        self.now += after
        time = START + round(self.now * 1000)
        read = self.normaliser.poll(readings, time, 0.1)
        poll, notices = self.counters.step(read, now=self.now)
        self.times += [time] * len(notices)
        self.events += notices
        return poll

    def energy(self, *values: float | None) -> Poll:
        """One poll for each value of kWh; the last one."""
        return [self.poll(Reading(IMPORT, value, "kWh")) for value in values][-1]

    def restart(self) -> None:
        saved = json.loads(json.dumps(asdict(self.counters.state())))
        guards = {name: GuardState.of(state) for name, state in saved["guards"].items()}
        self.counters = Counters("main", state=CountersState(guards, saved["identity"]))
        self.normaliser = Normaliser("main")


def test_the_total_stands_beside_the_counter_and_the_poll_still_ends_with_up() -> None:
    bench = Bench()
    bench.energy(50, 50.001)
    poll = bench.poll(
        Reading("voltage.l1", 230.1, "V"),
        Reading(IMPORT, 50.002, "kWh"),
        Reading("active_energy.net", 3.0, "kWh"),
        Reading("operating_time", 7.0, "h"),
    )
    assert poll.layout.quantities == (
        "voltage.l1",
        IMPORT,
        "active_energy.net",
        "operating_time",
        GUARDED,
        "device.up",
    )
    assert poll.layout.units[-2:] == ("Wh", "1")
    assert tuple(poll.values) == (230.1, 50_002.0, 3000.0, 25_200.0, 50_002.0, 1.0)
    assert poll.doubts == {}
    assert (poll.device, poll.time, poll.took) == ("main", START + 130_000, 0.1)


def test_the_layout_is_one_object_for_all_polls_of_a_shape() -> None:
    bench = Bench()
    assert bench.energy(1).layout is bench.energy(2).layout


def test_a_held_total_is_absent_with_its_reason_and_the_raw_counter_stays() -> None:
    bench = Bench()
    poll = bench.energy(50, 50, 50, 0)
    assert poll.value(IMPORT) == 0.0
    assert poll.value(GUARDED) is None
    (doubt,) = poll.doubts.values()
    assert doubt == QualityFlag(
        Quality.SUSPECT, "held: the counter fell, from 50000 Wh to 0 Wh, 1 of 3 reads agree"
    )
    assert next(s for s in poll.samples() if s.value is None).quantity == GUARDED


def test_a_counter_without_a_value_gives_its_own_reason() -> None:
    poll = Bench().poll(Reading(IMPORT, None, "kWh", "the meter answers: not available"))
    doubt = QualityFlag(Quality.INVALID, "the meter answers: not available")
    assert poll.doubts == {0: doubt, 1: doubt}


@pytest.mark.parametrize("quality", [Quality.STALE, Quality.SUSPECT, Quality.INVALID])
def test_a_value_in_doubt_is_not_counted_by(quality: Quality) -> None:
    bench = Bench()
    bench.energy(50, 50, 50)
    poll = bench.poll(Reading(IMPORT, 51.0, "kWh", "old", quality))
    assert poll.value(GUARDED) is None
    assert poll.doubts[1] == QualityFlag(quality, "old")
    assert bench.energy(50.001).value(GUARDED) == 50_001.0


def test_a_total_that_waits_is_estimated() -> None:
    bench = Bench()
    poll = bench.energy(50, 50, 50, 70, 50.01, 50.01, 50.02, 50.03)
    assert poll.value(GUARDED) == 70_000.0
    assert poll.doubts[1].quality is Quality.ESTIMATED
    assert "waits" in poll.doubts[1].reason


def test_polls_without_counters_and_failed_ones_come_back_as_they_are() -> None:
    counters = Counters("main")
    down = failed("main", START, Fault("timeout", "no answer"))
    assert counters.step(down, now=1.0) == (down, ())
    plain = Normaliser("main").poll([Reading("voltage.l1", 230.0, "V")], START, 0.1)
    assert counters.step(plain, now=2.0)[0].values == plain.values


def test_polls_that_leave_a_slow_counter_out_do_not_disturb_it() -> None:
    bench = Bench()
    bench.energy(50, 50, 50)
    other = bench.poll(Reading("voltage.l1", 230.0, "V"))
    assert GUARDED not in other.layout.quantities
    assert bench.energy(50.007).value(GUARDED) == 50_007.0


def test_a_reset_is_one_event() -> None:
    bench = Bench()
    bench.energy(50, 50, 50, 0.001, 0.002, 0.003, 0.004)
    waits, event = bench.events
    assert (waits.kind, waits.data) == ("guard_waits", {"quantity": IMPORT})
    assert "held: the counter fell" in waits.text
    assert (event.kind, event.data) == ("reset", {"quantity": IMPORT})
    assert bench.times == [START + 140_000, START + 160_000]
    assert event.text == "the counter went from 50000 Wh to 1 Wh: a new segment"


def test_a_rollover_and_a_glitch_are_events() -> None:
    bench = Bench(Counters("main", forms={IMPORT: Form.of("u32", 1.0, 10_000_000)}))
    last = bench.energy(9_999.99, 9_999.99, 9_999.99, 0.01, 0.02, 0.03, 5_000_000, 0.04)
    assert last.value(GUARDED) == 10_000_040.0
    kinds = [event.kind for event in bench.events if event.kind != "guard_waits"]
    assert kinds == ["rollover", "glitch"]


@pytest.mark.parametrize("kind", ["glitch", "guard_waits"])
def test_a_flood_of_glitches_is_two_events_in_its_first_quarter_of_an_hour(kind: str) -> None:
    bench = Bench()
    bench.energy(50, 50, 50)
    for _ in range(45):
        bench.energy(0, 50)
    events = zip(bench.events, bench.times, strict=True)
    (one, first), (two, second) = [(e, time) for e, time in events if e.kind == kind]
    assert "times more since" not in one.text
    assert "times more since" in two.text
    assert second - first >= NOTICE_INTERVAL_S * 1000


def test_a_guard_that_waits_is_an_event_and_so_is_that_it_goes_on() -> None:
    bench = Bench()
    bench.energy(50, 50, 50)
    bench.poll(Reading(IMPORT, 1000.0, "kWh"), after=86_400)
    assert [event.kind for event in bench.events] == ["guard_waits"]
    assert bench.energy(1000.001).value(GUARDED) is None
    assert bench.energy(1000.002).value(GUARDED) == 1_000_002.0
    waits, goes_on = bench.events
    assert "86400 s" in waits.text
    assert (goes_on.kind, goes_on.data) == ("guard_resolved", {"quantity": IMPORT})
    bench.energy(1000.003, 1000.004)
    assert len(bench.events) == 2


def test_a_total_that_is_ahead_of_its_counter_waits_until_it_is_reached() -> None:
    bench = Bench()
    bench.energy(50, 50, 50, 70, 50.01, 50.02, 50.03, 50.04)
    kinds = [event.kind for event in bench.events]
    assert kinds == ["guard_waits", "glitch", "guard_waits"]
    assert "counted too much" in bench.events[2].text
    assert bench.energy(60, 70, 70.001).value(GUARDED) == 70_001.0
    assert [event.kind for event in bench.events[3:]] == ["guard_resolved"]


def test_all_counters_of_a_meter_wait_in_one_event() -> None:
    bench = Bench()
    names = (IMPORT, "active_energy.export", "reactive_energy.import")
    units = ("kWh", "kWh", "kvarh")
    for kwh, after in ((50, 10), (50, 10), (50, 10), (900, 86_400), (900, 10), (900, 10)):
        readings = [Reading(n, float(kwh), u) for n, u in zip(names, units, strict=True)]
        bench.poll(*readings, after=after)
    waits, goes_on = bench.events
    assert (waits.kind, goes_on.kind) == ("guard_waits", "guard_resolved")
    assert waits.data == goes_on.data == {"quantities": " ".join(names)}


def test_the_first_reads_of_a_meter_are_no_event() -> None:
    bench = Bench()
    bench.energy(50, 50, 50, 50.001)
    assert bench.events == []


@pytest.mark.parametrize("kwh", [3.4028235e38, 1e11, -0.01, -2147483.648])
def test_what_no_counter_can_show_never_enters_the_total(kwh: float) -> None:
    bench = Bench()
    for value in (kwh, kwh, kwh, kwh, 50, 50, 50):
        poll = bench.energy(value)
        assert (poll.value(IMPORT) is None) is (value == kwh)
    assert poll.value(GUARDED) == 50_000.0
    poll = bench.energy(kwh)
    assert poll.doubts[0].quality is poll.doubts[1].quality is Quality.INVALID
    assert poll.doubts[0].reason
    assert bench.energy(50.001).value(GUARDED) == 50_001.0


def test_a_remembered_total_that_no_counter_has_begins_anew() -> None:
    wrong = GuardState(total=3.4e41, raw=3.4e41, segment=4)
    bench = Bench(Counters("main", state=CountersState({IMPORT: wrong}, {})))
    assert bench.energy(50, 50, 50).value(GUARDED) == 50_000.0
    (event,) = bench.events
    assert (event.kind, event.data) == ("reset", {"quantity": IMPORT})
    assert bench.counters.state().guards[IMPORT].segment == 5


def identified(serial: str, value: float) -> tuple[Reading, ...]:
    return (
        Reading("info.serial_number", serial, ""),
        Reading("info.model", "SDM630", ""),
        Reading(IMPORT, value, "kWh"),
        Reading("active_energy.export", value / 2, "kWh"),
    )


def test_a_swapped_meter_is_one_event_and_no_energy() -> None:
    bench = Bench()
    for serial, value in (("1", 50), ("1", 50), ("1", 50), ("2", 51), ("2", 51), ("2", 51.001)):
        poll = bench.poll(*identified(serial, value))
    assert poll.value(GUARDED) == 50_001.0
    assert poll.value("guarded.active_energy.export") == 25_000.5
    (event,) = bench.events
    assert event.kind == "swap"
    assert event.data["quantity"] == "info.serial_number"
    assert "was 1, is 2" in event.text


def test_a_meter_swapped_while_down_is_seen_at_the_start() -> None:
    """Its identity comes in a poll of its own, before the first counter."""
    bench = Bench()
    for _ in range(3):
        bench.poll(*identified("1", 50))
    bench.restart()
    bench.poll(Reading("info.serial_number", "2", ""))
    assert bench.energy(50.5, 50.5, 50.501).value(GUARDED) == 50_001.0
    assert [event.kind for event in bench.events] == ["swap"]


def test_texts_that_come_late_or_not_at_all_are_no_swap() -> None:
    bench = Bench()
    bench.energy(50, 50, 50)
    for serial in ("1", "", "1"):
        bench.poll(*identified(serial, 50))
    bench.energy(50)
    assert bench.events == []


def test_after_a_restart_it_goes_on_at_once() -> None:
    bench = Bench()
    bench.energy(50, 50, 50, 0.001, 0.002, 0.003)
    bench.restart()
    assert bench.energy(0.010).value(GUARDED) == 50_010.0


def test_counters_that_were_not_seen_are_saved_again() -> None:
    state = CountersState({"active_energy.export": GuardState(total=5.0, raw=5.0)}, {})
    bench = Bench(Counters("main", state=state))
    bench.energy(1, 1, 1)
    assert set(bench.counters.state().guards) == {"active_energy.export", IMPORT}


@pytest.mark.parametrize(
    ("kind", "scale", "wrap", "form"),
    [
        ("u32", 1000.0, None, (4_294_967_296_000.0, 1000.0)),
        ("s32", 10.0, None, (21_474_836_480.0, 10.0)),
        ("u32", 0.1, None, (429_496_729.6, 0.1)),
        ("u16", 1.0, None, (65_536.0, 1.0)),
        ("u64", 1.0, None, (2.0**64, 1.0)),
        ("s64", 1.0, None, (2.0**63, 1.0)),
        ("u32", 1.0, 10_000_000, (10_000_000.0, 1.0)),
        ("bcd", 10.0, 100_000_000, (1_000_000_000.0, 10.0)),
        ("bcd", 10.0, None, (None, 10.0)),
        ("f32", 1000.0, None, (None, None)),
        ("f64", 1.0, None, (None, None)),
        ("u32", None, 10, (None, None)),
    ],
)
def test_where_a_register_wraps(
    kind: str, scale: float | None, wrap: int | None, form: tuple[float | None, float | None]
) -> None:
    found = Form.of(kind, scale, wrap)
    assert (found.wrap, found.resolution) == form


@pytest.mark.parametrize(
    ("quantity", "unit", "guarded"),
    [
        ("active_energy.import.l1", "Wh", True),
        ("reactive_energy.q1", "varh", True),
        ("apparent_energy.total", "VAh", True),
        ("active_energy.net", "Wh", False),
        ("active_energy.today", "Wh", False),
        ("operating_time", "s", False),
        ("x.my.energy", "Wh", False),
        (GUARDED, "Wh", False),
    ],
)
def test_energy_counters_are_guarded(quantity: str, unit: str, guarded: bool) -> None:
    assert is_guarded(quantity, unit) is guarded


@pytest.mark.parametrize(
    ("unit", "kept", "jump"),
    [("m³", "m³", 50.0), ("gal", "l", 1e5), ("MJ", "J", 1e6), ("1", "1", 1e6), ("kWh", "Wh", 1e3)],
)
def test_a_counter_of_ones_own_is_guarded_in_its_unit(unit: str, kept: str, jump: float) -> None:
    name = f"x.c.{kept}".lower().replace("³", "3")
    bench = Bench(Counters("main", forms={name: Form()}))
    for value in (10.0, 10.0, 10.0, 10.01, 10.02):
        poll = bench.poll(Reading(name, value, unit))
    guarded = f"guarded.{name}"
    assert poll.layout.units[poll.layout.index[guarded]] == kept
    before = poll.value(guarded)
    assert before == poll.value(name)
    # One read that is too high enters no total, and is told.
    poll = bench.poll(Reading(name, 10.02 + jump, unit))
    assert poll.value(guarded) is None
    poll = bench.poll(Reading(name, 10.03, unit))
    assert poll.value(guarded) == pytest.approx(poll.value(name))
    assert [event.kind for event in bench.events] == ["guard_waits", "glitch"]


def test_the_rate_of_a_counter_of_ones_own_can_be_given() -> None:
    bench = Bench(Counters("main", forms={"x.c.gas": Form(resolution=0.01, rate=6.0)}))
    for value in (10.0, 10.0, 10.0):
        bench.poll(Reading("x.c.gas", value, "m³"))
    # 6 m³/h are 0.017 m³ in ten seconds; 0.2 m³ are none.
    assert bench.poll(Reading("x.c.gas", 10.02, "m³")).value("guarded.x.c.gas") == 10.02
    assert bench.poll(Reading("x.c.gas", 10.22, "m³")).value("guarded.x.c.gas") is None


def test_what_no_driver_calls_a_counter_is_none() -> None:
    bench = Bench()
    poll = bench.poll(Reading("x.c.level", 3.0, "m³"))
    assert poll.layout.quantities == ("x.c.level", "device.up")


FORMER = Origin(
    {"driver": "modbus", "map": "eastron_sdm630", "unit": "1", "link": "tcp://192.0.2.1:502"},
    {IMPORT: "aa", "active_energy.export": "bb"},
)


def moved(serial: str = "", **settings: str) -> tuple[Bench, list[Notice]]:
    """A counter at 50 kWh whose device comes back with other settings; then 1 kWh more."""
    bench = Bench(Counters("main", origin=FORMER))
    info = [Reading("info.serial_number", serial, "")] if serial else []
    for _ in range(3):
        bench.poll(*info, Reading(IMPORT, 50, "kWh"))
    saved = bench.counters.state()
    origin = replace(FORMER, settings={**FORMER.settings, **settings})
    bench.counters = Counters("main", state=saved, origin=origin)
    for kwh in (51.0, 51.0, 51.001):
        poll = bench.poll(*info, Reading(IMPORT, kwh, "kWh"), after=60)
    total = poll.value(GUARDED)
    assert total is not None
    bench.times.append(round(total))
    return bench, bench.events


@pytest.mark.parametrize(
    "settings",
    [{"map": "eastron_sdm120"}, {"unit": "2"}, {"driver": "acme"}, {"unit": "2", "link": "x"}],
)
@pytest.mark.parametrize("serial", ["", "17"])
def test_another_map_unit_or_driver_is_a_new_segment(settings: dict[str, str], serial: str) -> None:
    bench, events = moved(serial, **settings)
    (event,) = events
    assert event.kind == "swap"
    for key, text in settings.items():
        assert f"{key} was {FORMER.settings[key]}, is {text}" in event.text
    assert bench.times[-1] == 50_001
    assert bench.counters.state().guards[IMPORT].segment == 2


def test_another_link_is_a_new_segment_unless_the_serial_number_says_the_same_meter() -> None:
    bench, events = moved(link="tcp://192.0.2.9:502")
    assert [event.kind for event in events] == ["swap"]
    assert bench.times[-1] == 50_001
    bench, events = moved("17", link="tcp://192.0.2.9:502")
    assert events == []
    assert bench.times[-1] == 51_001


def test_the_same_settings_go_on() -> None:
    bench, events = moved()
    assert events == []
    assert bench.times[-1] == 51_001


def test_a_counter_of_other_registers_is_a_new_segment_alone() -> None:
    bench = Bench(Counters("main", origin=FORMER))
    both = Reading(IMPORT, 50, "kWh"), Reading("active_energy.export", 7, "kWh")
    for _ in range(3):
        bench.poll(*both)
    saved = bench.counters.state()
    origin = replace(FORMER, registers={**FORMER.registers, IMPORT: "cc"})
    bench.counters = Counters("main", state=saved, origin=origin)
    for wh in (50.0, 50.0, 51.0):  # It was kWh, and is Wh.
        poll = bench.poll(Reading(IMPORT, wh, "Wh"), Reading("active_energy.export", 7, "kWh"))
    assert poll.value(GUARDED) == 50_001.0
    assert poll.value("guarded.active_energy.export") == 7_000.0
    (event,) = bench.events
    assert (event.kind, event.data) == ("swap", {"quantity": IMPORT})
    segments = {name: one.segment for name, one in bench.counters.state().guards.items()}
    assert segments == {IMPORT: 2, "active_energy.export": 1}


def test_a_change_is_not_forgotten_by_a_second_restart_before_the_first_poll() -> None:
    bench = Bench(Counters("main", origin=FORMER))
    bench.energy(50, 50, 50)
    other = replace(FORMER, settings={**FORMER.settings, "link": "tcp://192.0.2.9:502"})
    for _ in range(2):
        bench.counters = Counters("main", state=bench.counters.state(), origin=other)
    assert bench.energy(51, 51, 51).value(GUARDED) == 50_000.0
    assert [event.kind for event in bench.events] == ["swap"]


def test_a_state_of_before_there_were_origins_goes_on() -> None:
    bench = Bench()
    bench.energy(50, 50, 50)
    bench.counters = Counters("main", state=bench.counters.state(), origin=FORMER)
    assert bench.energy(50.001).value(GUARDED) == 50_001.0
    assert bench.events == []
