"""TARGETs on the command line: which device they mean."""

import pytest

from meterd.cli.configuration import target_settings
from meterd.config.link_urls import check_link
from meterd.errors import ConfigError


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
