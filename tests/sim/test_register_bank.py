import pytest

from meterd.drivers.registers import RegisterMap, Row
from meterd.sim.register_bank import FixedBank, MeterBank, SimulatedRefusal, Strictness
from tests.sim.clock import StoppedClock


def rows(*addresses: int) -> tuple[Row, ...]:
    return tuple(Row("x.n", 4, address, "u16", 1, "1") for address in addresses)


def bank(strictness: Strictness, **limits: object) -> MeterBank:
    fields = {"max_registers": 10, "bridge": 3, **limits}
    register_map = RegisterMap(
        "t",
        "m",
        "m",
        "",
        "high",
        rows(10, 11, 14, 30, 32),
        **fields,  # type: ignore[arg-type]
    )
    return MeterBank(
        register_map, lambda t: {"x.n": 1000 + t}, clock=StoppedClock(), strictness=strictness
    )


def refused(held: MeterBank | FixedBank, *request: int) -> int:
    with pytest.raises(SimulatedRefusal) as refusal:
        held.read(*request)
    return refusal.value.code


def test_listed_registers_are_read() -> None:
    assert bank(Strictness.ROWS).read(4, 10, 2) == [1000, 1000]


@pytest.mark.parametrize(
    ("strictness", "hole", "beyond"),
    [(Strictness.ROWS, 2, 2), (Strictness.SPANS, 0, 2), (Strictness.ANY, 0, 0)],
)
def test_strictness_decides_about_holes(strictness: Strictness, hole: int, beyond: int) -> None:
    held = bank(strictness)
    for (address, count), code in (((10, 5), hole), ((14, 8), beyond)):
        if code:
            assert refused(held, 4, address, count) == code
        else:
            assert held.read(4, address, count)[0] == 1000
    if not hole:
        assert held.read(4, 10, 5) == [1000, 1000, 0, 0, 1000]


def test_refusals_have_the_codes_of_the_protocol() -> None:
    held = bank(Strictness.SPANS)
    assert refused(held, 3, 10, 1) == 1
    assert refused(held, 4, 900, 1) == 2
    assert refused(held, 4, 10, 0) == 3
    assert refused(held, 4, 10, 11) == 3


def test_unreadable_registers_are_refused_however_lenient() -> None:
    held = bank(Strictness.ANY, unreadable=((12, 12),))
    assert refused(held, 4, 10, 5) == 2
    assert held.read(4, 13, 2) == [0, 1000]


def test_a_meter_that_insists_on_even_addresses_answers_the_word_behind_its_last() -> None:
    held = bank(Strictness.SPANS, align=2)
    assert held.read(4, 32, 2) == [1000, 0]


def test_registers_are_renewed_in_their_rhythm() -> None:
    clock = StoppedClock()
    register_map = RegisterMap("t", "m", "m", "", "high", rows(10))
    held = MeterBank(register_map, lambda t: {"x.n": 1000 + 10 * t}, clock=clock, refresh=0.5)
    first = held.read(4, 10, 1)
    clock.now += 0.4
    assert held.read(4, 10, 1) == first
    clock.now += 0.2
    assert held.read(4, 10, 1) == [1006]


def test_a_fixed_bank_has_what_was_written_down() -> None:
    held = FixedBank({3: {5: 7, 6: 8}})
    assert held.read(3, 5, 2) == [7, 8]
    assert refused(held, 3, 5, 3) == 2
    assert refused(held, 4, 5, 1) == 1
