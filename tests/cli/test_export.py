"""`meterd export`: formats, windows and mistakes."""

import csv
import io
import json
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.stores import DAYS, MINUTE, SERIES, Site


def test_csv_is_the_default_and_has_everything(site: Site) -> None:
    rows = list(csv.DictReader(io.StringIO(site("export").out)))
    assert len(rows) == DAYS * 1440 * SERIES
    assert rows[0]["quality"] == "good"


def test_a_window_of_one_quantity(site: Site) -> None:
    window = ("--start", f"{site.start / 1000:.0f}", "--end", f"{site.start / 1000 + 180:.0f}")
    done = site(
        "export", "main", "--quantity", "active_energy.import", "--format", "ndjson", *window
    )
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [(one["value"], one["unit"]) for one in found] == [(0, "Wh"), (10, "Wh"), (20, "Wh")]


def test_openmetrics_groups_families_and_ends(site: Site) -> None:
    lines = site("export", "--format", "openmetrics").out.splitlines()
    assert lines[-1] == "# EOF"
    kinds = [line for line in lines if line.startswith("# TYPE")]
    assert kinds == [
        "# TYPE meterd_active_energy_import_watthours counter",
        "# TYPE meterd_active_power_watts gauge",
        "# TYPE meterd_guarded_active_energy_import_watthours counter",
    ]
    first = next(line for line in lines if line.startswith("meterd_active_power_watts{"))
    assert first == f'meterd_active_power_watts{{device="main"}} 0.0 {site.start / 1000:.3f}'
    assert sum(line.startswith("meterd_") for line in lines) == DAYS * 1440 * SERIES


def test_openmetrics_has_the_labels_that_metrics_has(site: Site) -> None:
    labels = r"""{building: "A \"east\"", code: mine, Etage_2: 'C:\x'}"""
    text = site.config.read_text().replace('502"}', f'502", labels: {labels}}}')
    site.config.write_text(text)
    written = r'{Etage_2="C:\\x",building="A \"east\"",device="main",label_code="mine"}'
    for words, metric in (
        ((), "meterd_active_power_watts"),
        (("--resolution", "1d"), "meterd_active_power_watts_mean"),
    ):
        done = site("export", "--format", "openmetrics", *words)
        assert done.code == 0, done.err
        lines = done.out.splitlines()
        first = next(line for line in lines if line.startswith(f"{metric}{{"))
        assert first.startswith(f"{metric}{written} ")


def test_openmetrics_has_quantities_of_ones_own(site: Site) -> None:
    file = site.folder / "own.csv"
    file.write_text(f"time,main/x.heat.flow [l/h]\n{site.start},5\n")
    assert site("import", str(file)).code == 0
    lines = site("export", "--format", "openmetrics").out.splitlines()
    (own,) = (line for line in lines if "x.heat.flow" in line)
    assert own.partition("{")[2].startswith('device="main",quantity="x.heat.flow"} 5.0 ')


@pytest.mark.needs("promtool")
def test_promtool_reads_it(site: Site) -> None:
    file = site.folder / "history.om"
    assert site("export", "--format", "openmetrics", "-o", str(file)).code == 0
    blocks = site.folder / "blocks"
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(file), str(blocks)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"\d+d?h|\d+h", done.stdout)) >= 1


def test_a_file_is_written_where_one_is_named(site: Site) -> None:
    file = site.folder / "out.csv"
    done = site("export", "-o", str(file))
    assert (done.code, done.out) == (0, "")
    assert len(file.read_text().splitlines()) == DAYS * 1440 * SERIES + 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("mian",), "Did you mean main"),
        (("--quantity", "activ_power"), "Did you mean active_power"),
        (("--start", "1796036000000"), "is the year 58884: times are Unix seconds, 1796036000 w"),
        (("--end", "nan"), "is no time"),
        (("--start", "someday"), "is no time"),
        (("--start", "2026-02-30"), "does not exist"),
        (("--start", "now", "--end", "now-1h"), "has to lie before"),
        (("--format", "parquet"), "name a file with -o"),
    ],
)
def test_mistakes_are_told(site: Site, words: tuple[str, ...], says: str) -> None:
    done = site("export", *words)
    assert done.code == 2
    assert says.lower() in done.err.lower()


def test_parquet_without_its_package_says_how_to_get_it(site: Site) -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        done = site("export", "--format", "parquet", "-o", str(site.folder / "x.parquet"))
        assert done.code == 1
        assert "pip install 'meterd[parquet]'" in done.err
        return
    pytest.skip("pyarrow is installed")


def test_parquet_of_buckets(site: Site) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file = site.folder / "x.parquet"
    words = ("export", "--resolution", "1h", "--format", "parquet", "-o", str(file))
    assert site(*words).code == 0
    table = parquet.read_table(file)
    assert table.column_names[4:9] == ["n", "min", "mean", "max", "increase"]
    assert sum(table.column("n").to_pylist()) == DAYS * 1440 * SERIES


def test_parquet_holds_the_same(site: Site) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file = site.folder / "x.parquet"
    assert site("export", "--format", "parquet", "-o", str(file)).code == 0
    table = parquet.read_table(file)
    assert table.num_rows == DAYS * 1440 * SERIES
    assert table.column("time")[1].value - table.column("time")[0].value == MINUTE


@pytest.mark.parametrize(("resolution", "count"), [("15m", 96), ("1h", 24), ("1d", 1)])
def test_a_day_in_each_resolution(site: Site, resolution: str, count: int) -> None:
    day = site.start // 86_400_000 + 1
    window = ("--start", str(day * 86_400), "--end", str((day + 1) * 86_400))
    words = ("export", "--resolution", resolution, *window)
    rows = list(csv.DictReader(io.StringIO(site(*words).out)))
    power = [row for row in rows if row["quantity"] == "active_power"]
    energy = [row for row in rows if row["quantity"] == "active_energy.import"]
    assert len(power) == len(energy) == count
    assert sum(int(row["n"]) for row in power) == 1440
    assert sum(float(row["increase"]) for row in energy) == 14_400
    objects = [json.loads(line) for line in site(*words, "--format", "ndjson").out.splitlines()]
    flows = [one for one in objects if one["quantity"] == "active_power"]
    assert [one["mean"] for one in flows] == [float(row["mean"]) for row in power]
    assert flows[-1]["increase"] is None


def test_openmetrics_of_buckets_are_gauges_of_their_own(site: Site) -> None:
    lines = site("export", "--resolution", "1d", "--format", "openmetrics").out.splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "# TYPE meterd_active_energy_import_watthours_increase gauge",
        "# TYPE meterd_active_power_watts_min gauge",
        "# TYPE meterd_active_power_watts_mean gauge",
        "# TYPE meterd_active_power_watts_max gauge",
        "# TYPE meterd_guarded_active_energy_import_watthours_increase gauge",
        "# EOF",
    ]


@pytest.mark.needs("promtool")
def test_promtool_reads_buckets(site: Site) -> None:
    file = site.folder / "history.om"
    words = ("export", "--resolution", "15m", "--format", "openmetrics", "-o", str(file))
    assert site(*words).code == 0
    blocks = site.folder / "blocks"
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(file), str(blocks)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_deleted_samples_are_told(site: Site) -> None:
    assert "note:" not in site("export").err
    with closing(sqlite3.connect(site.path)) as connection, connection:
        connection.execute("DELETE FROM block WHERE id = (SELECT min(id) FROM block)")
    done = site("export")
    assert (done.code, done.out.count("\n") > 1) == (0, True)
    assert "are deleted (store.keep.raw)" in done.err
    assert "--resolution 15m" in done.err
    assert "note:" not in site("export", "--start", "now-1h").err
    assert "note:" not in site("export", "--resolution", "1d").err


def test_a_file_stays_as_it_was_until_the_new_one_is_whole(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = site.folder / "out.csv"
    file.write_text("before")

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("meterd.cli.export._write", broken)
        done = site("export", "-o", str(file))
    assert (done.code, file.read_text()) == (1, "before")
    assert f"{file}: No space left on device" in done.err
    assert sorted(site.folder.glob("out.csv*")) == [file]
    assert site("export", "-o", str(site.folder / "no" / "out.csv")).code == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_stdout_is_told(site: Site) -> None:
    done = site("export", "-o", "/dev/full")
    assert (done.code, "No space left" in done.err) == (1, True)


def test_no_store_is_told(empty: Site) -> None:
    done = empty("export")
    assert done.code == 1
    assert "no store yet" in done.err
    assert not Path(empty.path).exists()


def test_days_of_the_sites_calendar_can_be_named(site: Site) -> None:
    done = site("export", "--start", "yesterday", "--end", "today", "--quantity", "active_power")
    lines = list(csv.DictReader(io.StringIO(done.out)))
    assert len(lines) == 1440
    # The site is in Berlin.
    assert lines[0]["time"].endswith("T23:00:00.000Z")
