"""Hints as a newcomer needs them: the key that is meant, the name that is nearest."""

from pathlib import Path

import pytest

from meterd.config.names import spelling_hint
from meterd.drivers.map_library import load_map
from meterd.errors import ConfigError
from tests.config.judge import problem, problems

SIXTY = [f"meter-{number:02d}" for number in range(1, 61)]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("store: {keep: 2y}\n", "write `keep: {raw: 730d}`"),
        ("store: {keep: 400d}\n", "write `keep: {raw: 400d}`"),
        ("store: {keep: forever}\n", "without `keep` samples stay for ever"),
        ("store: {keep: {raw: 2y}}\n", "write 730d: the units are ms, s, m, h and d"),
        ("store: sqlite:///x.db\n", "write `store: {url: sqlite:///x.db}`"),
        ("api: 127.0.0.1:80\n", "write `api: {listen: 127.0.0.1:80}`"),
        ("site: Attic\n", "write `site: {name: Attic}`"),
        ("links: {bus: 'tcp://h'}\n", "write `bus: {url: tcp://h}`"),
    ],
)
def test_a_single_value_for_a_section_is_told_with_the_key_that_is_meant(
    text: str, hint: str
) -> None:
    assert hint in problem(text).hint


def test_a_secret_in_the_place_of_a_section_is_not_told() -> None:
    found = problem("store: 'postgresql://meterd:geheim@db/meterd'\n")
    assert "geheim" not in str(found)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("slave: 3", "`unit:`"),
        ("address: 3", "`unit:`"),
        ("host: 10.0.0.1", "`link: tcp://HOST:PORT`"),
        ("baudrate: 9600", "it belongs to the link"),
        ("scan_interval: 5s", "`interval:`"),
    ],
)
def test_a_key_of_another_program_is_told_as_it_is_called_here(key: str, hint: str) -> None:
    text = f"devices:\n  main: {{driver: meter, map: m, link: 'tcp://h', {key}}}\n"
    assert hint in problem(text).hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("metre-7", "did you mean meter-07?"),
        ("meter-7", "did you mean meter-07?"),
        ("Meter-42", "did you mean meter-42?"),
        ("mter_31", "did you mean meter-31?"),
        ("boiler", "none of the 60 is like it: meter-01, meter-02, meter-03, …"),
    ],
)
def test_of_many_names_the_nearest_is_told_and_no_list(name: str, hint: str) -> None:
    assert spelling_hint(name, SIXTY) == hint


def test_of_few_names_all_are_told() -> None:
    assert spelling_hint("boiler", ["main", "solar"]) == "there are main, solar"


def test_unknown_devices_among_sixty_have_a_hint_each() -> None:
    devices = "".join(
        f"  {name}: {{driver: meter, map: m, link: 'tcp://h', unit: {number}}}\n"
        for number, name in enumerate(SIXTY, 1)
    )
    rule = "{device: [metre-7, meter-008], quantity: device.up, equals: 0}"
    found = problems(f"devices:\n{devices}alerts: {{rules: {{r: {rule}}}}}\n")
    assert [one.hint for one in found] == ["did you mean meter-07?", "did you mean meter-08?"]


def test_a_missing_map_file_is_told_with_its_path_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "my_meter.yaml").write_text("x")
    with pytest.raises(ConfigError) as caught:
        load_map(str(tmp_path / "my_metre.yaml"))
    assert str(tmp_path / "my_metre.yaml") in str(caught.value)
    assert "did you mean my_meter.yaml?" in str(caught.value)
    with pytest.raises(ConfigError, match="is no folder"):
        load_map(str(tmp_path / "maps" / "my_metre.yaml"))
    with pytest.raises(ConfigError, match=r"eastron_sdm630 comes with meterd"):
        load_map("./eastron_sdm630.yaml")
