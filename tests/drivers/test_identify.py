"""Guessing register maps: by what the unit says of itself, and by what its values would mean."""

import struct
from collections import Counter

import pytest

from meterd.drivers.identify import TIMEOUTS_MAX, Guess, Registers, identify, probe_requests
from meterd.drivers.map_library import load_map, shipped
from meterd.drivers.registers import RegisterMap
from meterd.sim.register_bank import RefusalRule
from meterd.sim.serve import meter_bank
from meterd.testing import FakeClock

NOON = 12 * 3600.0
KNOWN = ("eastron_sdm630", "eastron_sdm120", "abb_b23", "schneider_iem3155", "peacefair_pzem-016")


def maps() -> list[RegisterMap]:
    return [load_map(name) for name in shipped()]


class Unit:
    """A simulated meter of one map, and what it was asked."""

    def __init__(self, name: str) -> None:
        self._bank = meter_bank(name, offset=NOON, clock=FakeClock())
        self.asked: Counter[tuple[int, int, int]] = Counter()

    async def read(self, function: int, address: int, count: int) -> bytes | None:
        self.asked[function, address, count] += 1
        try:
            words = self._bank.read(function, address, count)
        except RefusalRule:
            return None
        return struct.pack(f">{count}H", *words)


def words(guesses: list[Guess]) -> dict[str, str]:
    return {guess.map: guess.word for guess in guesses}


@pytest.mark.parametrize("name", KNOWN)
async def test_a_meters_own_map_is_among_the_likely_ones_and_no_request_is_sent_twice(
    name: str,
) -> None:
    unit = Unit(name)
    guesses = await identify(Registers(unit.read), maps())
    assert words(guesses).get(name) == "likely"
    assert max(unit.asked.values()) == 1
    assert guesses == sorted(guesses, key=lambda guess: -guess.score)


async def test_nearly_every_shipped_map_is_among_the_guesses_for_its_own_meter() -> None:
    # The simulated house has no direct current and no UPS: their maps show nothing real.
    known = maps()
    missed = [
        one.name
        for one in known
        if one.name not in words(await identify(Registers(Unit(one.name).read), known))
    ]
    assert len(missed) <= len(known) / 20, missed


async def test_a_smaller_model_that_is_a_part_of_the_larger_one_stands_behind_it() -> None:
    pair = [load_map("eastron_sdm120"), load_map("eastron_sdm630")]
    assert [g.map for g in await identify(Registers(Unit("eastron_sdm630").read), pair)] == [
        "eastron_sdm630",
        "eastron_sdm120",
    ]
    assert words(await identify(Registers(Unit("eastron_sdm120").read), pair)) == {
        "eastron_sdm120": "likely"
    }


async def test_a_guess_says_which_values_speak_for_it() -> None:
    one = [load_map("eastron_sdm120")]
    [guess] = await identify(Registers(Unit("eastron_sdm120").read), one)
    assert any(text.startswith("frequency 5") and text.endswith(" Hz") for text in guess.because)
    assert any(text.startswith("voltage.l1 2") for text in guess.because)


async def test_zeros_everywhere_are_no_meter() -> None:
    async def zeros(function: int, address: int, count: int) -> bytes:
        return bytes(2 * count)

    assert await identify(Registers(zeros), maps()) == []


async def test_random_registers_are_no_likely_meter() -> None:
    async def noise(function: int, address: int, count: int) -> bytes:
        return b"".join(struct.pack(">H", (address + i) * 40503 % 65536) for i in range(count))

    assert "likely" not in words(await identify(Registers(noise), maps())).values()


async def test_a_unit_that_stays_silent_is_not_asked_for_ever() -> None:
    asked = []

    async def silence(function: int, address: int, count: int) -> bytes:
        asked.append(address)
        raise TimeoutError

    assert await identify(Registers(silence), maps()) == []
    assert len(asked) == TIMEOUTS_MAX


async def test_sunspec_is_known_by_its_mark_with_maker_and_model() -> None:
    names = b"Acme".ljust(32, b"\0") + b"Inverter 5".ljust(32, b"\0")

    async def device(function: int, address: int, count: int) -> bytes | None:
        return {(3, 40000, 2): b"SunS", (3, 40004, 32): names}.get((function, address, count))

    [guess] = await identify(Registers(device), maps())
    assert (guess.map, guess.word) == ("sunspec", "likely")
    assert guess.because == ("SunS at 40000", "Acme", "Inverter 5")


def test_the_telling_request_of_a_map_is_the_one_for_its_frequency() -> None:
    assert probe_requests(load_map("eastron_sdm630")) == [(4, 70, 2)]
