"""What requests cost, by the arithmetic of the wire and by measures with noise in them."""

import random

import pytest

from meterd.drivers.blocks import Block
from meterd.drivers.costs import Costs, Learner, describe
from meterd.drivers.registers import Row

TC = 10 / 9600


def block(address: int, words: int, function: int = 3) -> Block:
    return Block(function, address, words, [Row("x.a", function, address, "bits", 1, "1")])


@pytest.mark.parametrize(
    ("baud", "parity", "stop", "bits"),
    [(9600, "N", 1, 10), (9600, "E", 1, 11), (19200, "N", 2, 11), (2400, "O", 1, 11)],
)
def test_a_serial_request_takes_20_characters_2_a_register_and_the_turnaround(
    baud: int, parity: str, stop: int, bits: int
) -> None:
    costs = Costs.serial(baud, parity, stop, 0.01)
    assert costs.seconds(3, 40) == pytest.approx((20 + 2 * 40) * bits / baud + 0.01)


def test_ascii_writes_every_byte_as_two_characters() -> None:
    # ":010300000001FB\r\n" and ":010302002AD0\r\n".
    costs = Costs.serial(9600, tau=0.0, framer="ascii")
    assert costs.size(3, 1) == len(":010300000001FB\r\n") + len(":010302002AD0\r\n")
    assert costs.seconds(3, 1) == pytest.approx(costs.size(3, 1) * TC)


def test_sizes_are_those_of_both_frames() -> None:
    # Request 8 and reply 5 + 2n on RTU; 12 and 9 + 2n behind an MBAP header.
    assert Costs.serial(9600).size(4, 10) == 8 + 5 + 20
    assert Costs.tcp().size(4, 10) == 12 + 9 + 20
    assert Costs.tcp(framer="rtu").size(4, 10) == 8 + 5 + 20
    assert Costs.tcp().size(1, 10) == 12 + 9 + 2


def test_sixteen_coils_travel_as_one_register() -> None:
    costs = Costs.serial(9600)
    assert costs.seconds(1, 16) == costs.seconds(3, 1)
    assert costs.seconds(2, 17) == costs.seconds(3, 2)


def test_a_plan_is_described_in_numbers() -> None:
    costs = Costs.serial(9600, tau=0.01)
    report = describe([block(0, 40), block(100, 10)], costs, 2.0)
    assert (report.reads, report.registers, report.bytes) == (2, 50, 2 * 13 + 100)
    assert report.seconds == pytest.approx((2 * 20 + 100) * TC + 0.02)
    assert report.load == pytest.approx(report.seconds / 2)


# -- learning --------------------------------------------------------------------------------


def exchange(registers: int, tau: float) -> float:
    """Seconds from the first byte sent to the last one received: without the silence behind."""
    return (20 - 3.5 + 2 * registers) * TC + tau


def test_until_enough_is_measured_the_assumption_holds() -> None:
    start = Costs.serial(9600, tau=0.02)
    learner = Learner.serial(start)
    for _ in range(6):
        learner.add(40, exchange(40, 0.5))
    assert learner.costs() == start
    learner.add(40, exchange(40, 0.5))
    assert learner.costs().fixed == pytest.approx(20 * TC + 0.5)


def test_the_turnaround_is_learned_from_requests_of_all_sizes() -> None:
    learner = Learner.serial(Costs.serial(9600, tau=0.02))
    for i in range(40):
        learner.add(10 + i % 3, exchange(10 + i % 3, 0.007))
    costs = learner.costs()
    assert costs.seconds(3, 60) == pytest.approx((20 + 120) * TC + 0.007)


def test_wild_measures_do_not_disturb() -> None:
    chance = random.Random(3)
    learner = Learner.serial(Costs.serial(9600))
    for i in range(200):
        wild = i % 3 == 0
        tau = chance.uniform(0.3, 2.0) if wild else chance.uniform(0.009, 0.011)
        learner.add(40, exchange(40, tau))
    assert learner.costs().fixed == pytest.approx(20 * TC + 0.01, abs=0.002)


def test_a_device_that_becomes_slower_is_followed() -> None:
    learner = Learner.serial(Costs.serial(9600))
    for tau in [0.01] * 50 + [0.08] * 50:
        learner.add(40, exchange(40, tau))
    assert learner.costs().fixed == pytest.approx(20 * TC + 0.08)


def test_a_buffered_port_that_seems_faster_than_the_wire_makes_no_negative_time() -> None:
    learner = Learner.serial(Costs.serial(1200))
    for _ in range(20):
        learner.add(100, 0.001)
    assert learner.costs().fixed >= 0


def test_over_a_network_registers_cost_nothing_if_all_sizes_take_as_long() -> None:
    learner = Learner.tcp(Costs.tcp())
    for i in range(60):
        learner.add((4, 40, 120)[i % 3], 0.004)
    assert learner.costs().fixed == pytest.approx(0.004)
    assert learner.costs().register == 0


def test_a_slow_bus_behind_a_gateway_is_found_out() -> None:
    chance = random.Random(5)
    learner = Learner.tcp(Costs.tcp())
    for i in range(200):
        registers = (4, 30, 62, 110)[i % 4]
        wild = 0.4 if i % 5 == 0 else 0.0
        learner.add(registers, 0.03 + registers * 2 * TC + chance.uniform(0, 0.002) + wild)
    costs = learner.costs()
    assert costs.register == pytest.approx(2 * TC, rel=0.03)
    assert costs.fixed == pytest.approx(0.031, abs=0.002)


def test_sizes_that_hardly_differ_say_nothing_about_a_register() -> None:
    learner = Learner.tcp(Costs.tcp())
    for i in range(60):
        learner.add(40 + 2 * (i % 2), 0.01 + 0.01 * (i % 2))
    assert learner.costs().register == 0


def test_memory_is_bounded_however_many_sizes_there_are() -> None:
    learner = Learner.tcp(Costs.tcp())
    for i in range(125 * 40):
        learner.add(i % 125 + 1, 0.01)
    assert sum(len(times) for times in learner._measured.values()) <= 16 * 25
    assert learner.costs().fixed == pytest.approx(0.01)
