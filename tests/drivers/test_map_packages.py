"""Register maps that other packages bring: found beside meterd's own, and never in their place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from meterd.cli import maps as maps_command
from meterd.drivers import map_library
from meterd.drivers.map_library import load_map, loadable, packaged
from meterd.drivers.options import ModbusOptions
from meterd.errors import ConfigError
from meterd.model.quantity import describe
from tests.drivers.foreign import Installed, installed

GROUP = "meterd.maps"
FEW = ("eastron_sdm120", "eastron_sdm630")
MAP = """\
source: a leaflet
confidence: high
maker: Acme
model: Meter 3
rows:
  voltage.l1: {function: 4, address: 0, type: f32, unit: V}
  x.acme.flow: {function: 4, address: 2, type: f32, unit: l}
"""


@pytest.fixture
def packages(tmp_path: Path) -> Iterator[Installed]:
    with installed(tmp_path) as found:
        yield found


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two of meterd's maps: to parse all takes seconds."""
    with monkeypatch.context() as patch:
        patch.setattr(map_library, "shipped", lambda: list(FEW))
        map_library._aliases.cache_clear()
        yield
    map_library._aliases.cache_clear()


def listing(capsys: pytest.CaptureFixture[str], *find: str) -> tuple[str, str]:
    """What `meterd maps` prints, and what it tells on stderr."""
    maps_command.command.main(
        [*(("--find", *find) if find else ()), "--format", "tsv"], standalone_mode=False
    )
    said = capsys.readouterr()
    return said.out, said.err


@pytest.mark.usefixtures("few")
def test_a_packages_map_is_used_by_its_name_and_listed_with_its_package(
    packages: Installed, capsys: pytest.CaptureFixture[str]
) -> None:
    packages.add("meterd-acme", GROUP, {"acme": "acme_maps"}, acme_maps__acme_m3=MAP)
    assert map_library.names() == [*FEW, "acme_m3"]
    found = load_map("acme_m3")
    assert (found.name, found.maker) == ("acme_m3", "Acme")
    assert ModbusOptions(map="acme_m3").register_map is found
    assert found in loadable()
    own = describe("x.acme.flow")
    assert own is not None
    assert own.unit == "l"
    out, err = listing(capsys, "acme")
    assert out.splitlines()[1:] == ["acme_m3\tAcme\tMeter 3\thigh\t2\tmeterd-acme"]
    assert err == ""


def test_meterds_own_are_listed_with_meterd(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = listing(capsys)
    assert {line.rpartition("\t")[2] for line in out.splitlines()[1:]} == {"meterd"}
    assert packaged().warnings == ()


@pytest.mark.parametrize("name", ["eastron_sdm630", "sunspec"])
def test_a_name_that_is_taken_is_told_and_shadows_nothing(
    packages: Installed, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    before = load_map("eastron_sdm630")
    packages.add("meterd-acme", GROUP, {"acme": "acme_maps"}, **{f"acme_maps__{name}": MAP})
    assert load_map("eastron_sdm630").rows == before.rows
    _, err = listing(capsys)
    told = f"register map {name} (meterd-acme 1.2, {name}.yaml): meterd has a map of this name"
    assert f"warning: {told}; rename the file\n" in err


def test_another_name_of_a_shipped_map_is_taken_too(packages: Installed) -> None:
    alias = next(iter(map_library._aliases()))
    packages.add("meterd-acme", GROUP, {"acme": "acme_maps"}, **{f"acme_maps__{alias}": MAP})
    assert packaged().maps == {}
    assert alias in packaged().mistakes


def test_a_name_that_two_packages_bring_is_told_by_both_names(packages: Installed) -> None:
    for package in ("meterd-acme", "meterd-bcme"):
        module = package.replace("-", "_")
        packages.add(package, GROUP, {"x": module}, **{f"{module}__acme_m3": MAP})
    told = r"acme_m3 comes twice: meterd-acme 1\.2, acme_m3\.yaml and meterd-bcme 1\.2, .*uninstall"
    with pytest.raises(ConfigError, match=told):
        load_map("acme_m3")


@pytest.mark.parametrize(
    ("point", "told"),
    [
        ("no_such_module", "cannot be found: ModuleNotFoundError"),
        ("acme_code", r"has no \*\.yaml in it: are the files part of the package\?"),
    ],
)
def test_a_package_without_maps_is_told_and_takes_nothing_from_others(
    packages: Installed, capsys: pytest.CaptureFixture[str], point: str, told: str
) -> None:
    packages.add("meterd-acme", GROUP, {"acme": "acme_maps"}, acme_maps__acme_m3=MAP)
    (packages.folder / "acme_code").mkdir()
    (packages.folder / "acme_code" / "__init__.py").touch()
    packages.add("meterd-bad", GROUP, {"bad": point})
    with pytest.raises(ConfigError, match=f"no register map 'bad_m1'.*{told}"):
        load_map("bad_m1")
    assert list(packaged().maps) == ["acme_m3"]
    _, err = listing(capsys)
    assert f"warning: register maps 'bad' ({point}, package meterd-bad 1.2) " in err


def test_a_file_name_that_nobody_could_write_is_told(packages: Installed) -> None:
    packages.add("meterd-acme", GROUP, {"acme": "acme_maps"}, acme_maps__Acme=MAP)
    with pytest.raises(ConfigError, match=r"name it <maker>_<model>\.yaml, in lower case"):
        load_map("Acme")


@pytest.mark.usefixtures("few")
def test_a_map_with_mistakes_is_told_with_package_file_and_line(
    packages: Installed, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = MAP.replace("unit: V", "unit: W")
    packages.add("meterd-acme", GROUP, {"acme": "acme_maps"}, acme_maps__acme_m3=bad)
    with pytest.raises(ConfigError, match=r"^meterd-acme 1\.2, acme_m3\.yaml:6:"):
        load_map("acme_m3")
    assert [one.name for one in loadable()] == list(FEW)
    out, err = listing(capsys, "acme")
    assert "acme_m3" not in out
    assert "warning: meterd-acme 1.2, acme_m3.yaml:6:" in err
