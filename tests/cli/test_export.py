"""`meterd export`: formats, windows and mistakes."""

import csv
import io
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.stores import DAYS, MINUTE, Site


def test_csv_is_the_default_and_has_everything(site: Site) -> None:
    rows = list(csv.DictReader(io.StringIO(site("export").out)))
    assert len(rows) == DAYS * 1440 * 2
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
    ]
    first = next(line for line in lines if line.startswith("meterd_active_power_watts{"))
    assert first == f'meterd_active_power_watts{{device="main"}} 0.0 {site.start / 1000:.3f}'
    assert sum(line.startswith("meterd_") for line in lines) == DAYS * 1440 * 2


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
    assert len(file.read_text().splitlines()) == DAYS * 1440 * 2 + 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("mian",), "Did you mean main"),
        (("--quantity", "activ_power"), "Did you mean active_power"),
        (("--start", "yesterday"), "is no time"),
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


def test_parquet_holds_the_same(site: Site) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file = site.folder / "x.parquet"
    assert site("export", "--format", "parquet", "-o", str(file)).code == 0
    table = parquet.read_table(file)
    assert table.num_rows == DAYS * 1440 * 2
    assert table.column("time")[1].value - table.column("time")[0].value == MINUTE


def test_no_store_is_told(empty: Site) -> None:
    done = empty("export")
    assert done.code == 1
    assert "no store yet" in done.err
    assert not Path(empty.path).exists()
