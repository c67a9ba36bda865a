from pathlib import Path

import pytest

from meterd.config import load as loading
from meterd.config.load import find, load
from meterd.errors import ConfigError
from tests.config.judge import DRIVERS, MINIMAL, problem, problems

MANY = """\
site: {name: Home, timezone: Brisbane}
devices:
  main:
    drivr: meter
    link: bus
    interval: 5
  ups:
    driver: metre
    link: "tcp:/h"
  solar: {driver: meter, map: m, link: "tcp://h", unit: 999, intervall: 1s}
  solar: {}
apis: {}
api: {listen: 0.0.0.0:8420}
alerts:
  rules:
    a: {quantity: voltage.l9, above: 1, below: 2, notify: [ops]}
"""


def test_all_mistakes_of_a_file_are_told_at_once_in_their_order() -> None:
    assert [(p.line, p.column, p.code) for p in problems(MANY)] == [
        (1, 30, "C031"),
        (3, 3, "C021"),
        (5, 11, "C041"),
        (6, 15, "C025"),
        (8, 13, "C040"),
        (9, 11, "C041"),
        (10, 57, "C023"),
        (10, 62, "C020"),
        (11, 3, "C005"),
        (12, 1, "C020"),
        (13, 15, "C037"),
        (16, 5, "C045"),
        (16, 19, "C044"),
        (16, 60, "C043"),
    ]


def test_a_problem_reads_as_the_contract_says() -> None:
    assert str(problem("stroe: {}\n")) == (
        "m.yaml:1:1: error[C020]: unknown key 'stroe'; hint: did you mean store?"
    )


def test_passwords_in_urls_are_not_printed() -> None:
    found = problem("store: {url: 'postgresql://u:hunter2@h/'}\n")
    assert "hunter2" not in str(found)
    assert "add the name of the database" in found.hint


def test_long_and_odd_values_are_cut_and_escaped() -> None:
    found = problem(r'site: {timezone: "\e[31m' + "x" * 500 + '"}\n')
    assert "\x1b" not in str(found)
    assert len(str(found)) < 300


def test_merge_keys_are_explained() -> None:
    found = problem("links: {a: &a {url: 'tcp://h'}, b: {<<: *a, url: 'tcp://h'}}\n")
    assert (found.code, found.hint[:26]) == ("C020", "YAML 1.2 has no merge keys")
    text = "devices: {a: &a {driver: meter, link: 'tcp://h', map: m}, b: {<<: *a}}\n"
    assert {one.hint[:26] for one in problems(text)} == {"YAML 1.2 has no merge keys"}


def test_a_list_of_devices_is_explained() -> None:
    assert "without a dash" in problem("devices:\n  - driver: meter\n").hint


def test_load_reads_a_file_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "meterd.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    made = load(path, options_of=DRIVERS.get, driver_names=list(DRIVERS), environ={})
    assert list(made.devices) == ["main"]
    path.write_text("site: {name_file: home}\n" + MINIMAL)
    (tmp_path / "home").write_text("A house")
    (tmp_path / "home").chmod(0o600)
    made = load(path, options_of=DRIVERS.get, driver_names=list(DRIVERS), environ={})
    assert made.site.name == "A house"


def test_the_file_that_is_named_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = (tmp_path / "here.yaml", tmp_path / "etc.yaml")
    monkeypatch.setattr(loading, "DEFAULT_PATHS", places)
    named = {"METERD_CONFIG": "/from/env.yaml"}
    places[1].touch()
    assert find({}) == places[1]
    places[0].touch()
    assert find({}) == places[0]
    assert find({"METERD_CONFIG": ""}) == places[0]
    assert find(named) == Path("/from/env.yaml")
    assert find(named, Path("mine.yaml")) == Path("mine.yaml")


def test_the_places_are_those_of_the_contract() -> None:
    assert [str(place) for place in loading.DEFAULT_PATHS] == [
        "meterd.yaml",
        "/etc/meterd/meterd.yaml",
    ]


def test_no_file_at_all_names_all_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = (tmp_path / "here.yaml", tmp_path / "file" / "etc.yaml")
    (tmp_path / "file").touch()
    monkeypatch.setattr(loading, "DEFAULT_PATHS", places)
    with pytest.raises(ConfigError) as caught:
        find({})
    assert "$METERD_CONFIG" in str(caught.value)
    assert all(str(place) in str(caught.value) for place in places)


def test_a_place_that_may_not_be_looked_at_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    assert find({}) == loading.DEFAULT_PATHS[0]
