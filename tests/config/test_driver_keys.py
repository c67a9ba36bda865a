from pathlib import Path

import pytest

from tests.config.judge import CarelessOptions, MeterOptions, problem, problems, settings

METER = "devices:\n  m: {{driver: meter, link: 'tcp://h', {}}}\n"


def test_keys_that_are_not_common_go_to_the_driver() -> None:
    device = settings(METER.format("map: m, unit: 7, battery: {packs: 2}, interval: 1s")).devices[
        "m"
    ]
    assert isinstance(device.options, MeterOptions)
    assert (device.options.map, device.options.unit, device.options.battery.packs) == ("m", 7, 2)
    assert device.interval == 1.0


@pytest.mark.parametrize(
    ("keys", "code", "part", "what"),
    [
        ("unit: 1", "C021", "m:", "devices.m: map is missing"),
        ("map: m, unit: 256", "C023", "256", "devices.m.unit: must be at most 255, not 256"),
        ("map: m, unit: -1", "C023", "-1", "devices.m.unit: must be at least 0, not -1"),
        ("map: m, unit: x", "C022", "x}", "devices.m.unit: must be a whole number, not 'x'"),
        ("map: m, unit: 1.5", "C022", "1.5", "devices.m.unit: must be a whole number, not 1.5"),
        ("map: 7", "C022", "7", "devices.m.map: must be a text, not 7"),
        ("map: m, mode: fats", "C024", "fats", "devices.m.mode: must be fast or slow, not 'fats'"),
        ("map: m, battery: 12", "C007", "12", "devices.m.battery: must be a mapping"),
        ("map: m, battery: {packs: 41}", "C023", "41", "devices.m.battery.packs: must be at most"),
        ("map: m, battery: {pack: 1}", "C020", "pack:", "devices.m.battery: unknown key 'pack'"),
        ("map: m, words: [1, b, 3]", "C022", "b,", "devices.m.words[1]: must be a whole number"),
        ("map: m, words: 3", "C007", "3}", "devices.m.words: must be a list, not 3"),
        ("map: oddity", "C026", "oddity", "devices.m.map: nobody made oddity"),
        ("map: m, unti: 1", "C020", "unti", "devices.m: unknown key 'unti'"),
        ("map: m, options: {}", "C020", "options", "devices.m: unknown key 'options'"),
    ],
)
def test_the_drivers_rules_are_told_at_the_exact_place(
    keys: str, code: str, part: str, what: str
) -> None:
    text = METER.format(keys)
    found = problem(text)
    line = text.splitlines()[1]
    start = line.index(keys) if part != "m:" else 0
    assert (found.code, found.line, found.column) == (code, 2, line.index(part, start) + 1)
    assert found.what.startswith(what)


def test_an_unknown_key_may_be_a_common_or_a_drivers_own() -> None:
    assert problem(METER.format("map: m, intervall: 1s")).hint == "did you mean interval?"
    assert problem(METER.format("map: m, unnit: 1")).hint == "did you mean unit?"
    assert problem(METER.format("map: m, battery: {pasks: 1}")).hint == "did you mean packs?"


def test_a_careless_drivers_unknown_keys_are_told_all_the_same() -> None:
    text = "devices:\n  m: {{driver: careless, link: 'tcp://h', {}: 3}}\n"
    found = problem(text.format("sped"))
    assert (found.code, found.hint) == ("C020", "did you mean speed?")
    assert settings(text.format("speed")).devices["m"].options == CarelessOptions(speed=3)


def test_a_driver_that_takes_any_key_gets_them() -> None:
    text = "devices: {m: {driver: open, link: 'tcp://h', a: [1], interval: 1s}}\n"
    assert settings(text).devices["m"].options.model_extra == {"a": [1]}


def test_what_is_wrong_in_a_drivers_own_file_keeps_its_place() -> None:
    (found,) = problems(METER.format("map: broken"))
    assert str(found) == "broken.yaml:3:7: error[M001]: no such type"


def test_a_drivers_refusal_without_a_place_stands_at_the_device() -> None:
    found = problem(METER.format("map: gone"))
    assert (found.code, found.line, found.what) == ("C026", 2, "devices.m: no register map 'gone'")


def test_drivers_learn_where_the_configuration_lies() -> None:
    found = problem(METER.format("map: odd"), folder=Path("/etc/meterd"))
    assert "in /etc/meterd" in found.what


def test_an_unknown_drivers_keys_are_not_judged() -> None:
    found = problem("devices: {m: {driver: metr, link: 'tcp://h', whatever: [1]}}\n")
    assert (found.code, found.hint) == ("C040", "did you mean meter?")


def test_a_device_without_driver_is_told_so_once() -> None:
    (found,) = problems("devices:\n  m: {drivr: meter, link: 'tcp://h'}\n")
    assert (found.code, found.hint) == ("C021", "is 'drivr' meant to be it?")
