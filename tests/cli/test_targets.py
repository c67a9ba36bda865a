"""TARGETs on the command line: which device they mean."""

from pathlib import Path

import pytest

from meterd.cli.configuration import target_settings
from meterd.config.link_urls import check_link
from meterd.errors import ConfigError
from tests.drivers.foreign import installed


@pytest.mark.parametrize("scheme", ["tcp", "udp", "tls"])
@pytest.mark.parametrize(
    ("rest", "link", "unit"),
    [
        ("://192.0.2.7:502/17", "://192.0.2.7:502", 17),
        ("://192.0.2.7/0", "://192.0.2.7", 0),
        ("://[2001:db8::7]:502/3", "://[2001:db8::7]:502", 3),
        ("://meter.example:502/3?timeout=2s", "://meter.example:502?timeout=2s", 3),
        ("://meter.example:502?unit=4&timeout=2s", "://meter.example:502?timeout=2s", 4),
        ("://meter.example:502", "://meter.example:502", None),
    ],
)
def test_the_unit_is_the_path_behind_a_host(
    scheme: str, rest: str, link: str, unit: int | None
) -> None:
    name, device = target_settings(f"eastron_sdm630@{scheme}{rest}")
    assert (name, device.driver, device.options.unit) == ("eastron_sdm630", "modbus", unit)
    assert device.link == scheme + link
    assert check_link(device.link) is None


def test_a_path_that_is_no_unit_is_an_error() -> None:
    with pytest.raises(ConfigError, match="must end after the port"):
        target_settings("eastron_sdm630@udp://192.0.2.7:502/one")


def test_a_name_that_is_neither_map_nor_driver_is_told_both() -> None:
    with pytest.raises(ConfigError) as caught:
        target_settings("shelli@tcp://192.0.2.7:80")
    assert str(caught.value) == (
        "shelli@tcp://192.0.2.7:80: no register map 'shelli'; `meterd maps` lists them; "
        "or write another driver: megatec"
    )


def test_a_key_that_a_target_cannot_say_is_told(tmp_path: Path) -> None:
    driver = """\
from meterd.plugin import Options, Reading


class Boiler:
    class Options(Options):
        serial: str

    def __init__(self, link, options): ...

    async def read(self):
        return [Reading("temperature", 60.0, "°C")]
"""
    with installed(tmp_path) as packages:
        packages.add("meterd-boiler", "meterd.drivers", {"boiler": "boiler:Boiler"}, boiler=driver)
        with pytest.raises(ConfigError) as caught:
            target_settings("boiler@tcp://192.0.2.7:80")
    assert str(caught.value) == (
        "boiler@tcp://192.0.2.7:80: the driver boiler needs `serial`, which a TARGET cannot say: "
        "write the device into meterd.yaml, and poll it by its name"
    )


def test_a_value_that_is_wrong_is_shown_with_the_hint() -> None:
    with pytest.raises(ConfigError) as caught:
        target_settings("eastron_sdm630@tcp://192.0.2.7:502/300")
    assert "unit: " in str(caught.value)
    assert "this value" not in str(caught.value)
