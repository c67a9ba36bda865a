"""What is remembered of each device."""

from meterd.model.sample import Fault, Poll, Reading, failed
from meterd.poll.latest import Latest
from meterd.poll.normalise import Normaliser


def good(time: int, took: float = 0.1) -> Poll:
    return Normaliser("a").poll([Reading("voltage.l1", 230.0, "V")], time, took)


def test_the_last_good_poll_is_kept_beside_the_fault() -> None:
    latest = Latest(["a", "b"])
    latest.take(good(1000))
    latest.take(failed("a", 2000, Fault("timeout", "no answer")))
    state = latest.states["a"]
    assert state.up is False
    assert state.since == 2000
    assert state.good is not None
    assert state.good.time == 1000
    assert state.fault == Fault("timeout", "no answer")
    assert (state.polls, state.failures) == (2, 1)
    assert latest.states["b"].up is None


def test_since_is_when_it_changed() -> None:
    latest = Latest()
    for time in (1, 2, 3):
        latest.take(good(time))
    assert latest.states["a"].since == 1


def test_latency_is_a_quantile_of_good_polls() -> None:
    latest = Latest()
    for n in range(1, 101):
        latest.take(good(n, took=n / 100))
    assert latest.states["a"].latency(0.5) == 0.51
    assert latest.states["a"].latency(0.99) == 1.0
    assert Latest(["x"]).states["x"].latency(0.5) is None


def test_a_reload_forgets_what_is_gone() -> None:
    latest = Latest(["a", "b"])
    latest.take(good(1))
    latest.keep_only(["a", "c"])
    assert list(latest.states) == ["a", "c"]
    assert latest.states["a"].polls == 1


def test_slow_columns_stay_beside_the_newest_poll() -> None:
    latest = Latest()
    normaliser = Normaliser("a")
    fast = Reading("voltage.l1", 230.0, "V")
    slow = Reading("active_energy.import", 5.0, "kWh")
    for n in range(13):
        readings = [fast, slow] if n % 6 == 0 else [fast]
        latest.take(normaliser.poll(readings, 10_000 * (n + 1), 0.1))
    latest.take(normaliser.poll([fast], 140_000, 0.1))
    newest, older = latest.states["a"].parts
    assert newest.poll.layout.quantities == ("voltage.l1", "device.up")
    assert older.poll.value("active_energy.import") == 5000.0
    assert older.poll.time == 130_000
    assert older.interval(10_000) == 60_000
