from collections.abc import Mapping

import pytest

from meterd.energy.quarter import QUARTER, QuarterSeries
from meterd.energy.sampled import PowerSamples, quarters

Series = Mapping[str, PowerSamples]


async def ask(series: Series, quantity: str = "active_energy.import") -> QuarterSeries:
    async def read(device: str, name: str, start: int, end: int) -> PowerSamples | None:
        return series.get(name)

    return await quarters(read, "main", quantity, 0, 2 * QUARTER, interval=QUARTER)


def power(watts: float) -> PowerSamples:
    return [(n * QUARTER, watts) for n in range(3)]


@pytest.mark.parametrize(
    ("quantity", "increases"),
    [
        ("active_energy.import", [0, 0]),
        ("active_energy.export", [100_000, 100_000]),
        ("active_energy.export.l2", [50_000, 50_000]),
        ("reactive_energy.import", []),
        ("active_energy.import.t1", []),
    ],
)
async def test_without_a_counter_power_is_integrated(quantity: str, increases: list[int]) -> None:
    series = {"active_power": power(-400), "active_power.l2": power(-200)}
    found, _ = await ask(series, quantity)
    assert [one.increase for one in found] == increases
    assert all(one.estimated for one in found)


async def test_without_a_sum_the_phases_are_added_up() -> None:
    found, method = await ask({f"active_power.l{n}": power(100 * n) for n in (1, 2, 3)})
    assert [one.increase for one in found] == [150_000, 150_000]
    assert method == "integrated"
