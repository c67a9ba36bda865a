"""Import: mistakes by line before anything is written; what came along is read like any poll."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from meterd.model.sample import Quality
from meterd.store.reader import Reader
from meterd.store.tools.backfill import backfill
from meterd.store.tools.csv_import import CsvFile, MistakesError
from meterd.store.writer import Writer
from tests.store.rigs import Hands, opened, poll, raw, rows, samples, store, url_of

NOW = 1_795_255_200_000  # 2026-11-21T10:00:00Z
DAY = 86_400_000


def file(tmp_path: Path, text: str, zone: str | None = None) -> CsvFile:
    path = tmp_path / "history.csv"
    path.write_text(text, "utf-8")
    return CsvFile(path, ZoneInfo(zone) if zone else None, NOW)


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(MistakesError) as caught:
        file(tmp_path, text).check()
    return [line.partition("history.csv")[2] for line in str(caught.value).splitlines()]


def test_one_sample_a_row_with_units_and_qualities(tmp_path: Path) -> None:
    found = file(
        tmp_path,
        "device,quantity,unit,time,value,quality\n"
        "main,active_energy.import,kWh,2026-11-20T10:00:00+01:00,1.1,\n"
        "main,active_energy.import,,1795255200,1200.5,estimated\n"
        "main,voltage.l1,,1795255200123,,\n"
        "main,x.oven,°C,2026-11-20 10:00:00.5Z,-3.5e1,suspect\n",
    )
    told = found.check()
    assert (told.samples, told.devices) == (4, {"main"})
    energy, later, null, oven = found.rows()
    assert (energy.value, energy.unit) == (1100.0, "Wh")
    assert energy.time == datetime(2026, 11, 20, 9, tzinfo=UTC).timestamp() * 1000
    assert (later.time, later.quality) == (NOW, Quality.ESTIMATED)
    assert (null.value, null.quality, null.time) == (None, Quality.INVALID, NOW + 123)
    assert (oven.value, oven.unit, oven.quality) == (-35.0, "°C", Quality.SUSPECT)


def test_one_time_a_row_where_empty_is_no_sample(tmp_path: Path) -> None:
    found = file(
        tmp_path,
        "time;main/voltage.l1;solar/active_power [kW]\n1795255200;230.1;1.5\n1795255260;;1.25\n",
    )
    assert [(row.device, row.value) for row in found.rows()] == [
        ("main", 230.1),
        ("solar", 1500.0),
        ("solar", 1250.0),
    ]


def test_local_times_need_their_zone_and_only_one_meaning(tmp_path: Path) -> None:
    text = "time,main/frequency\n2026-07-01 12:00,50\n2026-10-25 02:30,50\n"
    with pytest.raises(MistakesError) as caught:
        file(tmp_path, text, "Europe/Berlin").check()
    assert "history.csv:3: time '2026-10-25 02:30': the clock was changed" in str(caught.value)
    (row,) = file(tmp_path, text[: text.index("2026-10")], "Europe/Berlin").rows()
    assert row.time == datetime(2026, 7, 1, 10, tzinfo=UTC).timestamp() * 1000


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("main,voltage.l1,V,2026-11-20T10:00:00,1,", "does not say its zone"),
        ("main,voltage.l1,V,yesterday,1,", "time 'yesterday' is none"),
        ("main,voltage.l1,V,2027-11-20T10:00:00Z,1,", "in the future"),
        ("main,voltage.l1,V,17952552001,1,", "is none"),
        ("Main,voltage.l1,V,0,1,", "'Main' is no device"),
        ("main,voltage.l9,V,0,1,", "there is no quantity 'voltage.l9': "),
        ("main,voltage.l1,W,0,1,", "cannot be converted"),
        ("main,x.oven,,0,1,", "its unit has to be given"),
        ('main,voltage.l1,V,0,"1,5",', "decimal point"),
        ("main,voltage.l1,V,0,nan,", "is no number"),
        ("main,voltage.l1,V,0,1_0,", "is no number"),
        ("main,voltage.l1,V,0,1,fine", "quality 'fine' is none of good"),
        ("main,voltage.l1,V,0,1", "5 columns where the header has 6"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, line: str, says: str) -> None:
    head = "device,quantity,unit,time,value,quality\nmain,voltage.l1,V,0,1,\n"
    (told,) = mistakes(tmp_path, f"{head}{line}\n")
    assert told.startswith(":3: ")
    assert says in told


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("", "the first line has to name the columns"),
        ("when,what\n", "the first line has to name the columns"),
        ("time,time\n", "same name"),
        ("time,device,quantity,value,colour\n", "column 'colour' is not known"),
        ("time,main/voltage.l9\n", "there is no quantity"),
    ],
)
def test_a_wrong_header_is_told(tmp_path: Path, head: str, says: str) -> None:
    (told,) = mistakes(tmp_path, head)
    assert told.startswith(":1: ")
    assert says in told


def test_many_mistakes_are_told_at_once_but_not_all(tmp_path: Path) -> None:
    told = mistakes(tmp_path, "time,main/frequency\n" + "x,50\n" * 100)
    assert len(told) == 21
    assert told[-1].endswith("and perhaps more")


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_bytes(b"time,main/frequency\n0,\xff\n")
    with pytest.raises(MistakesError, match="is no UTF-8"):
        CsvFile(tmp_path / "history.csv", None, NOW).check()
    with pytest.raises(MistakesError, match="No such file"):
        CsvFile(tmp_path / "other.csv", None, NOW).check()


def history(tmp_path: Path, days: int) -> CsvFile:
    start = NOW - 10 * DAY
    lines = [f"{start + n * 60_000},{n * 10},{n % 7}" for n in range(days * 1440)]
    head = "time,old/active_energy.import,old/active_power\n"
    return file(tmp_path, head + "\n".join(lines) + "\n")


async def test_it_is_sealed_rolled_up_and_found_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    found = history(tmp_path, 3)
    noted: list[int] = []
    async with opened(Writer(url_of(path), commit=1e9, clock=Hands(NOW))) as writer:
        assert await backfill(writer, found.rows(), noted.append) == 3 * 1440 * 2
    assert sum(noted) == 3 * 1440 * 2
    assert rows(path, "SELECT count(*) >= 6 FROM rollup") == [(1,)]
    assert len(samples(path)) == 3 * 1440 * 2
    outside = Reader.outside(url_of(path))
    quarters = outside.quarters(("old", "active_energy.import", "Wh"), 0, NOW)
    outside.close()
    assert sum(one.increase or 0 for one in quarters.values()) == (3 * 1440 - 1) * 10_000


async def test_twice_is_once(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    found = history(tmp_path, 1)
    for _ in range(2):
        async with opened(Writer(url_of(path), commit=1e9, clock=Hands(NOW))) as writer:
            await backfill(writer, found.rows(), lambda _: None)
    assert len(samples(path)) == 1440 * 2
    assert rows(path, "SELECT sum(n) FROM block") == [(1440,)]


async def test_old_rows_are_not_the_newest_ones(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    async with opened(Writer(url_of(path), commit=1e9, clock=Hands(NOW))) as writer:
        writer.take(poll(NOW - 1000, 230.0))
    text = f"time,main/voltage.l1\n{NOW - 5 * DAY},225\n"
    async with opened(Writer(url_of(path), commit=1e9, clock=Hands(NOW))) as writer:
        await backfill(writer, file(tmp_path, text).rows(), lambda _: None)
    assert rows(path, "SELECT time_ms, value FROM v_newest") == [(NOW - 1000, 230.0)]
    async with store(path, clock=Hands(NOW)) as (_, reader):
        assert await raw(reader) == [(NOW - 5 * DAY, 225.0), (NOW - 1000, 230.0)]


@pytest.mark.parametrize("value", ["230.1e999", "9" * 400, "-1e301"])
def test_what_is_no_number_that_can_be_measured_is_refused_with_its_line(
    tmp_path: Path, value: str
) -> None:
    head, other = "time,main/voltage.l1,main/active_power [kW]", "1795255200,230.1,1.5"
    for cells in (f"{value},1.5", f"230.1,{value}"):
        (line,) = mistakes(tmp_path, f"{head}\n{other}\n1795255260,{cells}\n")
        assert line.startswith(":3: value '")
        assert "is too large; no more than 1e+300" in line
        assert len(line) < 200
