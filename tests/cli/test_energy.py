"""`meterd energy`: formats, options and mistakes; sums are tested in tests/energy."""

import contextlib
import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import click
import pytest

from meterd.api.energy import Energy
from meterd.cli.energy import OpenedStore, make_command
from meterd.config.settings import Settings
from meterd.energy.quarter import QUARTER, Quarter, QuarterSeries
from meterd.errors import StoreCode, StoreError

CONFIGURATION = """\
site: {timezone: Europe/Berlin}
devices:
  main: {driver: modbus, map: eastron_sdm630, link: "tcp://192.0.2.7:502"}
  rack-ups: {driver: megatec, link: "serial:///dev/ttyUSB0"}
tariffs:
  home:
    currency: EUR
    prices:
      - rates: {day: 0.3412, night: 0.2}
        rules: [{rate: night, time: 22:30-06:00}]
        else: day
        standing: 0.45
"""
SPRING = ("--start", "2026-03-28T23:00:00Z", "--end", "2026-03-30T22:00:00Z")


@contextlib.asynccontextmanager
async def stored(settings: Settings) -> AsyncIterator[OpenedStore]:
    """A store in which the main meter counted 250 Wh each quarter hour, but for one hour."""

    async def fetch(device: str, quantity: str, start: int, end: int) -> QuarterSeries:
        times = range(start, end, QUARTER) if device == "main" else ()
        hole = 1_774_900_800_000  # 2026-03-30T20:00Z
        return [Quarter(time, 250_000) for time in times if not 0 <= time - hole < 3_600_000], (
            "counter"
        )

    yield OpenedStore(fetch, {"main": 1_774_900_800_000})


@pytest.fixture
def energy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> "Run":
    file = tmp_path / "meterd.yaml"
    file.write_text(CONFIGURATION)
    return Run(file, capsys)


class Run:
    """Runs the command in this process."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = config
        self._capsys = capsys

    def __call__(self, *arguments: str) -> str:
        words = [*arguments, "-c", str(self.config)]
        make_command(stored).main(words, prog_name="meterd energy", standalone_mode=False)
        return self._capsys.readouterr().out

    def rows(self, *arguments: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self(*arguments, "--format", "csv"))))


def test_days_of_the_sites_clock_are_printed(energy: Run) -> None:
    rows = energy.rows(*SPRING)
    assert [(row["device"], row["value"], row["complete"]) for row in rows] == [
        ("main", "23000", "yes"),
        ("main", "23000", "no"),
    ]
    # Local days are local dates: spreadsheets have no time zone.
    assert [(row["start"], row["end"]) for row in rows] == [
        ("2026-03-29", "2026-03-30"),
        ("2026-03-30", "2026-03-31"),
    ]
    assert rows[1]["known_share"] == "0.958333"


def test_what_is_not_known_is_empty_and_not_zero(energy: Run) -> None:
    (row,) = energy.rows("rack-ups", *SPRING[:2], "--end", "2026-03-29T22:00:00Z")
    assert (row["value"], row["method"], row["complete"]) == ("", "", "no")


def test_json_is_what_the_api_answers(energy: Run) -> None:
    document = json.loads(energy(*SPRING, "--tariff", "home", "--format", "json"))
    head = {"period": "day", "timezone": "Europe/Berlin", "tariff": "home"}
    rows = Energy.model_validate(head | document).energy
    assert rows[0].rates is not None
    assert rows[0].rates["night"].cost == "1.3"
    lines = energy(*SPRING, "--tariff", "home", "--format", "ndjson").splitlines()
    assert [json.loads(line) for line in lines] == document["energy"]


def test_a_tariff_adds_costs_and_a_column_for_each_rate(energy: Run) -> None:
    row, _ = energy.rows(*SPRING, "--tariff", "home")
    assert row["rates.night.value"] == "6500"  # 22:30 to 06:00, less the hour that was skipped
    assert row["rates.day.cost"] == "5.6298"
    assert (row["energy_cost"], row["standing_cost"], row["cost"]) == ("6.9298", "0.45", "7.3798")


def test_people_get_local_times_and_cents(energy: Run) -> None:
    table = energy(*SPRING, "--tariff", "home", "--format", "table")
    assert " 2026-03-29 " in table
    assert " 2026-03-30 " in table
    assert " 7.38 " in table
    assert "7.3798" not in table
    # What is the same in every row is no column: 80 are all that many terminals have.
    assert "estimated" not in table
    # kWh for people, Wh for programs.
    assert " 23.000" in table
    assert " kWh" in table
    assert " Wh" not in table
    plain = energy(*SPRING, "--format", "table")
    assert max(len(line.rstrip()) for line in plain.splitlines()) <= 80
    hours = energy(*SPRING, "--period", "hour", "--format", "table")
    assert "2026-03-29 01:00+01:00" in hours
    assert "2026-03-29 03:00+02:00" in hours


def test_other_quantities_and_periods_can_be_asked_for(energy: Run) -> None:
    words = ("main", "--quantity", "active_energy.net", "--period", "month", "--snap")
    (row,) = energy.rows(*words, *SPRING)
    assert (row["quantity"], row["start"]) == ("active_energy.net", "2026-03-01")


def test_without_times_it_shows_the_last_days(energy: Run) -> None:
    assert len(energy.rows("main")) == 31


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("mian",), "Did you mean main"),
        (("--tariff", "hoem"), "Did you mean home"),
        (("--quantity", "active_power"), "no energy that is counted"),
        (("--quantity", "activ_energy.import"), "Did you mean active_energy.import"),
        (("--tariff", "home", "--quantity", "reactive_energy.import"), "for active energy"),
        (("--start", "someday"), "--start 'someday' is no time"),
        (("--start", "2026-13"), "a month that does not exist"),
        (("--start", "2026-02-30"), "a day or a month that does not exist"),
        (("--start", "2026-03-29T02:30"), "was skipped by the clocks of Europe/Berlin"),
        (("--start", "2026-10", "--end", "2026-10"), "write --in 2026-10"),
        (("--in", "2026-10", "--end", "now"), "leave --start and --end out"),
        (("--in", "now-7d"), "names no day, month or year"),
        (("--start", "now", "--end", "now-1d"), "start is not before end"),
        (("--start", "0", "--period", "hour"), "longer period"),
        (("--period", "fortnight"), "'week'"),
    ],
)
def test_wrong_usage_says_what_to_do(energy: Run, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        energy(*words)
    assert said.lower() in caught.value.format_message().lower()


def test_no_tariffs_in_the_configuration_are_told(energy: Run) -> None:
    energy.config.write_text(CONFIGURATION.partition("tariffs:")[0])
    with pytest.raises(click.UsageError, match=r"the configuration has no `tariffs:`"):
        energy("--tariff", "home")


def test_trouble_of_the_store_is_not_hidden(energy: Run) -> None:
    @contextlib.asynccontextmanager
    async def broken(settings: Settings) -> AsyncIterator[OpenedStore]:
        async def fetch(device: str, quantity: str, start: int, end: int) -> QuarterSeries:
            raise StoreError("there is no store yet", code=StoreCode.UNAVAILABLE)

        yield OpenedStore(fetch, {"main": 1_774_900_800_000})

    with pytest.raises(StoreError):
        make_command(broken).main(["-c", str(energy.config)], standalone_mode=False)


def test_help_fits_a_terminal(energy: Run) -> None:
    context = click.Context(make_command(stored), info_name="meterd energy")
    assert [line for line in context.get_help().splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    ("words", "first", "last"),
    [
        (("--start", "2026-03-29", "--end", "2026-04-01"), "2026-03-29", "2026-03-31"),
        (("--start", "2026-03", "--end", "2026-04"), "2026-03-01", "2026-03-31"),
        (("--in", "2026-03"), "2026-03-01", "2026-03-31"),
        (("--in", "2026-03-29"), "2026-03-29", "2026-03-29"),
        (("--in", "2026-W13"), "2026-03-23", "2026-03-29"),
        (("--in", "2026", "--period", "month"), "2026-01-01", "2026-11-01"),
        (("--in", "last-month"), "2026-10-01", "2026-10-31"),
        (("--in", "Last Month"), "2026-10-01", "2026-10-31"),
        (("--in", "yesterday"), "2026-11-20", "2026-11-20"),
        (("--in", "today"), "2026-11-21", "2026-11-21"),
        (("--in", "last-year", "--period", "year"), "2025-01-01", "2025-01-01"),
        (("--start", "this-month"), "2026-11-01", "2026-11-21"),
        (("--start", "last-month", "--end", "this-month"), "2026-10-01", "2026-10-31"),
        (("--start", "2026-10-30"), "2026-10-30", "2026-11-21"),
    ],
)
def test_days_months_and_words_are_those_of_the_sites_calendar(
    energy: Run,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    first: str,
    last: str,
) -> None:
    # 2026-11-21 11:00 in Berlin.
    monkeypatch.setattr("meterd.cli.energy._now", lambda: 1_795_255_200_000)
    rows = energy.rows("main", *words)
    assert (rows[0]["start"], rows[-1]["start"]) == (first, last)


def test_a_period_that_is_cut_has_its_local_time(energy: Run) -> None:
    words = ("main", "--start", "2026-03-29T12:00", "--end", "2026-03-31")
    for format_ in ("csv", "tsv"):
        start = energy(*words, "--format", format_).splitlines()[1]
        assert "2026-03-29T12:00+02:00" in start
    hours = energy.rows("main", "--in", "2026-03-29", "--period", "hour")
    assert hours[0]["start"] == "2026-03-28T23:00:00.000Z"


def test_json_keeps_wh_and_utc(energy: Run) -> None:
    (row,) = json.loads(energy("main", "--in", "2026-03-29", "--format", "json"))["energy"]
    assert (row["value"], row["unit"]) == (23000.0, "Wh")
    assert row["start"] == "2026-03-28T23:00:00.000Z"
