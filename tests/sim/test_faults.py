import pytest

from meterd.errors import ConfigError
from meterd.sim.faults import Injector, SimulatedFault, parse_fault, parse_faults


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("timeout", SimulatedFault("timeout")),
        ("timeout:0.1", SimulatedFault("timeout", 0.1)),
        ("late:0.2@1.5s", SimulatedFault("late", 0.2, seconds=1.5)),
        ("late@250ms", SimulatedFault("late", seconds=0.25)),
        ("close:1/10", SimulatedFault("close", every=10)),
        ("exception:2", SimulatedFault("exception", number=2)),
        ("exception:2:0.1", SimulatedFault("exception", 0.1, number=2)),
        ("busy:3:1/4", SimulatedFault("busy", every=4, number=3)),
        ("unplug:1/100@5s", SimulatedFault("unplug", every=100, seconds=5.0)),
    ],
)
def test_faults_are_written_so(text: str, fault: SimulatedFault) -> None:
    assert parse_fault(text) == fault


def test_several_faults_are_separated_by_commas() -> None:
    assert parse_faults("late:0.2, close:1/9") == (
        SimulatedFault("late", 0.2),
        SimulatedFault("close", every=9),
    )
    assert parse_faults("") == ()


@pytest.mark.parametrize(
    "text", ["late:", "late:2", "late:0", "late:2/3", "late@soon", "late:0.1:0.2", "Late!"]
)
def test_what_is_not_understood_says_so(text: str) -> None:
    with pytest.raises(ConfigError, match="fault"):
        parse_fault(text)


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="known here are late, timeout"):
        Injector(["timeout", "late"], [SimulatedFault("explode")])


def strikes(injector: Injector, count: int) -> list[str]:
    struck = [injector.next_fault() for _ in range(count)]
    return [fault.kind if fault else "-" for fault in struck]


def test_every_nth_request_is_struck() -> None:
    injector = Injector(["close"], [SimulatedFault("close", every=3)])
    assert strikes(injector, 6) == ["-", "-", "close", "-", "-", "close"]


def test_busy_refuses_in_runs_and_then_serves() -> None:
    injector = Injector(["busy"], [SimulatedFault("busy", number=2)])
    assert strikes(injector, 6) == ["busy", "busy", "-", "busy", "busy", "-"]


def test_the_same_seed_strikes_the_same_and_is_counted() -> None:
    faults = [SimulatedFault("late", 0.3), SimulatedFault("close", 0.2)]
    one, other = (Injector(["late", "close"], faults, seed=5) for _ in range(2))
    assert strikes(one, 500) == strikes(other, 500)
    assert strikes(Injector(["late", "close"], faults, seed=6), 500) != strikes(one, 500)
    assert 100 < other.injected["late"] < 200


def test_an_unfit_fault_is_neither_used_nor_counted() -> None:
    injector = Injector(["late"], [SimulatedFault("late")])
    assert injector.next_fault(unfit={"late"}) is None
    assert not injector.injected
