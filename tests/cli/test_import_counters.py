"""`meterd import` of counters: guarded like live ones, and told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.stores import Site

DAY = 86_400
START = 1_772_323_200  # 2026-03-01T00:00:00Z


def written(folder: Path, name: str, rows: list[tuple[int, float]], unit: str = "Wh") -> str:
    lines = [f"time,main/active_energy.import [{unit}]", *(f"{t},{v}" for t, v in rows)]
    (folder / name).write_text("\n".join([*lines, ""]))
    return str(folder / name)


def register(
    days: int, *, since: int = START, step: int = 900, first: float = 5e6
) -> list[tuple[int, float]]:
    """1 kW, from midnight on, in Wh."""
    count = days * DAY // step
    return [(since + n * step, round(first + n * step / 3.6, 1)) for n in range(count)]


def energy(site: Site, days: int, start: int = START) -> list[tuple[float | None, bool]]:
    window = ("--start", str(start), "--end", str(start + days * DAY), "--period", "hour")
    done = site("energy", "main", *window, "--format", "json")
    assert done.code == 0, done.err
    hours = json.loads(done.out)["energy"]
    return [(one["value"], one["complete"]) for one in hours]


def imported(site: Site, file: str, *more: str) -> str:
    done = site("import", file, *more)
    assert done.code == 0, done.err
    return done.err


TROUBLES: dict[str, tuple[Callable[[float], float], int, str]] = {
    "zero": (lambda value: 0.0, 1, "0 Wh was a dip"),
    "spike": (lambda value: value + 900e3, 1, "was a spike"),
    "small spike": (lambda value: value + 9e3, 2, "was a spike"),
    "dip": (lambda value: value - 50e3, 1, "was a dip"),
    "long dip": (lambda value: value - 50e3, 5, "was a dip"),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_one_wrong_read_changes_no_energy_and_is_told(empty: Site, name: str) -> None:
    change, count, says = TROUBLES[name]
    rows = register(2)
    rows[50 : 50 + count] = [(time, change(value)) for time, value in rows[50 : 50 + count]]
    file = written(empty.folder, "h.csv", rows)
    told = imported(empty, file, "--dry-run")
    assert says in told
    assert "main active_energy.import, line 52, 2026-03-01T12:30:00.000Z: glitch: left out" in told
    assert not empty.path.exists()
    assert says in imported(empty, file)
    assert energy(empty, 1) == [(1000, True)] * 24


def test_another_meter_is_told_and_nothing_is_booked_across(empty: Site) -> None:
    rows = [(time, value + (7e6 if n >= 60 else 0)) for n, (time, value) in enumerate(register(2))]
    file = written(empty.folder, "h.csv", rows)
    assert "line 62, 2026-03-01T15:00:00.000Z: reset:" in imported(empty, file, "--dry-run")
    assert "2026-03-01T15:00:00.000Z: reset:" in imported(empty, file)
    hours = [value for value, _ in energy(empty, 1)]
    assert hours == [1000] * 14 + [750] + [1000] * 9


def test_a_last_digit_that_dithers_adds_nothing(empty: Site) -> None:
    rows = [
        (time, round(value / 1000 - n % 2 * 0.1, 1))
        for n, (time, value) in enumerate(register(2, step=60))
    ]
    imported(empty, written(empty.folder, "h.csv", rows, "kWh"))
    assert sum(value or 0 for value, _ in energy(empty, 1)) == pytest.approx(24_000, abs=200)


def test_real_values_replace_the_estimate_of_a_hole(empty: Site) -> None:
    rows = register(2)
    kept = [row for row in rows if not START + 8 * 3600 <= row[0] < START + 16 * 3600]
    late = [(time, value) for time, value in rows if (time, value) not in kept]
    # Of the hole's 8 kWh, 2 came in its first half.
    late = [(t, rows[31][1] + 250 + _risen(t - START - 8 * 3600)) for t, _ in late]
    imported(empty, written(empty.folder, "kept.csv", kept))
    assert energy(empty, 1)[8:16] == [(1000, True)] * 8
    imported(empty, written(empty.folder, "late.csv", late))
    hours = [value for value, _ in energy(empty, 1)]
    assert hours[8:16] == [500] * 4 + [1500] * 4
    assert hours[:8] + hours[16:] == [1000] * 16


def _risen(seconds: int) -> float:
    """Wh, in so many seconds of the hole."""
    half = 4 * 3600
    return min(seconds, half) / 7.2 + max(0, seconds - half) / 2.4


def test_of_one_time_with_two_values_the_last_imported_counts(empty: Site) -> None:
    imported(empty, written(empty.folder, "a.csv", register(2, first=1e6)))
    imported(empty, written(empty.folder, "b.csv", register(2)))
    assert energy(empty, 1) == [(1000, True)] * 24
    wrong = [(START + 5 * 3600, 5_005_900.0), (START + 5 * 3600, 5_005_400.0)]
    imported(empty, written(empty.folder, "c.csv", wrong))
    assert [value for value, _ in energy(empty, 1)][4:6] == [1400, 600]


def test_what_the_map_says_can_flow_is_the_limit(site: Site) -> None:
    """The guard of a configured device knows its registers."""
    rows = register(2)
    rows = [(time, value + (300e3 if n >= 60 else 0)) for n, (time, value) in enumerate(rows)]
    assert "reset" in imported(site, written(site.folder, "h.csv", rows), "--dry-run")


def test_totals_that_the_file_brings_stay_and_go_on(empty: Site) -> None:
    """As an export of meterd's has them: its guard knew more than the register tells."""
    head = "time,main/active_energy.import [Wh],main/guarded.active_energy.import [Wh]"
    rows = register(2)
    # After an hour another meter was read, 20 kWh higher.
    both = [(t, value + (20e3 if n >= 4 else 0), value) for n, (t, value) in enumerate(rows)]
    lines = [head, *(f"{t},{raw},{total}" for t, raw, total in both[:100])]
    (empty.folder / "both.csv").write_text("\n".join(lines))
    imported(empty, str(empty.folder / "both.csv"))
    assert energy(empty, 1) == [(1000, True)] * 24
    later = [(time, raw) for time, raw, _ in both[100:]]
    imported(empty, written(empty.folder, "later.csv", later))
    assert [value for value, _ in energy(empty, 2)] == [1000] * 47 + [750]
