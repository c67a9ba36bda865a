"""Drivers are found by entry point: meterd's own, and those that pip brought from elsewhere."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from meterd.drivers import registry
from meterd.errors import ConfigError
from tests.cli.command import Ended, meterd, samples
from tests.drivers.foreign import ANGRY, GAS, SHAKY, install

SOME_FAILED, CONFIGURATION = 4, 78

CONFIG = """\
devices:
  boiler: {driver: gas, link: "URL", channel: 3, interval: 10s, labels: {room: cellar}}
"""


@pytest.fixture(scope="session")
def gas(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment in which the gas meter's package is installed."""
    return {"PYTHONPATH": str(install(GAS, tmp_path_factory.mktemp("gas")))}


@pytest.fixture(scope="session")
def shaky(gas: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """And with a package beside it that lacks a library."""
    site = install(SHAKY, tmp_path_factory.mktemp("shaky"))
    return {"PYTHONPATH": f"{gas['PYTHONPATH']}:{site}"}


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        channel = int(line[1:])
        writer.write(b"no\n" if channel == 9 else b"%d.5\n" % channel)
    writer.close()


@pytest.fixture
async def gas_meter() -> AsyncIterator[str]:
    """Its link: channel N holds N.5; channel 9 is refused."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    async with server:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def drivers(listed: Ended) -> dict[str, tuple[str, str]]:
    """Package and text by name."""
    return {one["name"]: (one["package"], one["text"]) for one in listed.document}


def write(folder: Path, text: str, url: str) -> Path:
    file = folder / "meterd.yaml"
    file.write_text(text.replace("URL", url))
    return file


def test_meterds_own_are_found_the_same_way() -> None:
    assert {"modbus", "megatec"} <= set(registry.names())
    assert {info.package for info in registry.listing()} == {"meterd"}


def test_a_name_that_is_not_there_is_said_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"no driver 'modbu'.*megatec, modbus"):
        registry.driver_class("modbu")
    assert registry.options_of("modbu") is None


async def test_an_installed_one_is_listed_with_its_package(gas: Mapping[str, str]) -> None:
    listed = await meterd("drivers", "--format", "json", env=gas)
    assert listed.code == 0, listed.err
    found = drivers(listed)
    assert found["gas"] == ("meterd-gas", "A gas meter that answers in plain text.")
    assert found["modbus"][0] == "meterd"
    assert "gas" not in drivers(await meterd("drivers", "--format", "json"))


async def test_an_installed_one_is_polled_by_target(gas: Mapping[str, str], gas_meter: str) -> None:
    polled = await meterd("poll", f"gas@{gas_meter}", "--format", "json", env=gas)
    assert samples(polled) == {"temperature": 7.5, "device.up": 1}
    assert polled.document["devices"][0]["info"] == {"info.model": "G4"}


async def test_an_installed_one_has_keys_of_its_own(
    tmp_path: Path, gas: Mapping[str, str], gas_meter: str
) -> None:
    file = write(tmp_path, CONFIG, gas_meter)
    polled = await meterd("poll", "-c", file, "--format", "json", env=gas)
    assert samples(polled) == {"temperature": 3.5, "device.up": 1}
    checked = await meterd("check", "-c", file, "--online", env=gas)
    assert checked.code == 0, checked.err


async def test_its_wrong_keys_and_values_are_said_with_their_places(
    tmp_path: Path, gas: Mapping[str, str], gas_meter: str
) -> None:
    text = CONFIG.replace("channel: 3", "chanel: 3") + (
        '  second: {driver: gas, link: "URL",\n    channel: 12}\n'
    )
    file = write(tmp_path, text, gas_meter)
    ended = await meterd("check", "-c", file, env=gas)
    assert ended.code == CONFIGURATION
    first, second = ended.err.splitlines()
    column = text.splitlines()[1].replace("URL", gas_meter).index("chanel") + 1
    assert first.startswith(f"{file}:2:{column}: error[")
    assert "chanel" in first
    assert "did you mean channel" in first
    assert second.startswith(f"{file}:4:")
    assert "channel" in second


async def test_one_that_cannot_be_imported_is_said_in_words(
    tmp_path: Path, shaky: Mapping[str, str], gas_meter: str
) -> None:
    file = write(tmp_path, CONFIG.replace("gas,", "shaky,"), gas_meter)
    for command in (("check", "-c", file), ("poll", f"shaky@{gas_meter}")):
        ended = await meterd(*command, env=shaky)
        assert ended.code == CONFIGURATION
        assert "Traceback" not in ended.err
        assert "shaky" in ended.err
        assert "No module named 'a_library_that_nobody_has_installed'" in ended.err


async def test_one_that_cannot_be_imported_leaves_the_others_usable(
    tmp_path: Path, shaky: Mapping[str, str], gas_meter: str
) -> None:
    file = write(tmp_path, CONFIG, gas_meter)
    polled = await meterd("poll", "-c", file, "--format", "json", env=shaky)
    assert samples(polled) == {"temperature": 3.5, "device.up": 1}


async def test_one_that_cannot_be_imported_hides_no_other_from_the_list(
    shaky: Mapping[str, str],
) -> None:
    listed = await meterd("drivers", "--format", "json", env=shaky)
    assert "a_library_that_nobody_has_installed" in listed.out + listed.err
    assert {"gas", "modbus", "megatec", "shaky"} <= drivers(listed).keys()


async def test_one_that_raises_when_it_is_imported_is_said_in_words(
    tmp_path: Path, gas_meter: str
) -> None:
    env = {"PYTHONPATH": str(install(ANGRY, tmp_path))}
    ended = await meterd("poll", f"angry@{gas_meter}", env=env)
    assert ended.code == CONFIGURATION
    assert "angry" in ended.err
    assert "my licence has expired" in ended.err
    assert "Traceback" not in ended.err


async def test_one_with_a_bug_fails_only_its_own_device(
    tmp_path: Path, gas: Mapping[str, str], gas_meter: str
) -> None:
    text = CONFIG + '  bad: {driver: gas-buggy, link: "URL"}\n'
    file = write(tmp_path, text, gas_meter)
    ended = await meterd("poll", "-c", file, "--format", "json", env=gas)
    assert ended.code == SOME_FAILED
    good, bad = ended.document["devices"]
    assert good["samples"]["temperature"]["value"] == 3.5
    assert bad["error"]["code"] == "driver_bug"
    assert "ZeroDivisionError" in bad["error"]["text"]
    assert bad["samples"] == {}


async def test_one_that_says_no_keeps_its_own_code(
    tmp_path: Path, gas: Mapping[str, str], gas_meter: str
) -> None:
    file = write(tmp_path, CONFIG.replace("channel: 3", "channel: 9"), gas_meter)
    ended = await meterd("poll", "-c", file, "--format", "json", env=gas)
    (device,) = ended.document["devices"]
    assert device["error"] == {"code": "gas_no", "text": "the gas meter says no"}
