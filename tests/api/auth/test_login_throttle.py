import pytest

from meterd.api.auth import login_throttle
from meterd.api.auth.login_throttle import LoginThrottle
from meterd.testing import FakeClock


def guess(
    judge: LoginThrottle, address: str, account: str, seconds: float, clock: FakeClock
) -> int:
    """How many guesses are looked at, of a thousand in so many seconds."""
    looked = 0
    for _ in range(1000):
        if judge.wait(address, account) == 0:
            judge.failed(address, account)
            looked += 1
        clock.pass_by(seconds / 1000)
    return looked


def test_of_a_thousand_guesses_a_minute_ten_are_looked_at() -> None:
    clock = FakeClock()
    judge = LoginThrottle(clock)
    assert guess(judge, "192.0.2.1", "anna", 60, clock) <= 10
    assert guess(judge, "192.0.2.1", "anna", 60, clock) <= 2


def test_changing_the_account_does_not_help() -> None:
    clock = FakeClock()
    judge = LoginThrottle(clock)
    looked = 0
    for number in range(1000):
        if judge.wait("192.0.2.1", f"user{number}") == 0:
            judge.failed("192.0.2.1", f"user{number}")
            looked += 1
        clock.pass_by(0.06)
    assert looked <= 10


def test_neither_does_changing_the_address() -> None:
    clock = FakeClock()
    judge = LoginThrottle(clock)
    looked = 0
    for number in range(1000):
        if judge.wait(f"10.0.{number // 250}.{number % 250}", "anna") == 0:
            judge.failed(f"10.0.{number // 250}.{number % 250}", "anna")
            looked += 1
        clock.pass_by(0.06)
    assert looked <= login_throttle.FREE_ACCOUNT + 5


def test_a_network_of_ipv6_is_one_address() -> None:
    clock = FakeClock()
    judge = LoginThrottle(clock)
    for number in range(10):
        judge.failed(f"2001:db8::{number:x}", f"user{number}")
    assert judge.wait("2001:db8::ffff", "anna") > 0
    assert judge.wait("2001:db8:0:1::1", "anna") == 0


def test_who_has_logged_in_from_elsewhere_is_not_locked_out() -> None:
    clock = FakeClock()
    judge = LoginThrottle(clock)
    judge.passed("192.0.2.9", "anna")
    for number in range(100):
        judge.failed(f"198.51.100.{number}", "anna")
        judge.failed("192.0.2.9", "bob")
    assert judge.wait("192.0.2.9", "anna") == 0
    assert judge.wait("192.0.2.9", "bob") > 0
    assert judge.wait("203.0.113.1", "anna") > 0


def test_but_from_there_guessing_is_as_slow_as_anywhere() -> None:
    clock = FakeClock()
    judge = LoginThrottle(clock)
    judge.passed("192.0.2.9", "anna")
    assert guess(judge, "192.0.2.9", "anna", 60, clock) <= 10


def test_it_forgives_after_a_quarter_of_an_hour() -> None:
    clock = FakeClock()
    judge = LoginThrottle(clock)
    for _ in range(20):
        judge.failed("192.0.2.1", "anna")
    assert 0 < judge.wait("192.0.2.1", "anna") <= login_throttle.LONGEST
    clock.pass_by(901)
    assert judge.wait("192.0.2.1", "anna") == 0


def test_its_tables_do_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_throttle, "_MOST", 50)
    judge = LoginThrottle(FakeClock())
    for number in range(500):
        judge.failed(f"10.0.{number // 250}.{number % 250}", f"user{number}" * 100)
        judge.passed(f"10.1.{number // 250}.{number % 250}", f"user{number}")
    assert len(judge._failed) <= 50
    assert len(judge._good) <= 50
    assert max(len(account) for _, account in judge._failed) <= 64
