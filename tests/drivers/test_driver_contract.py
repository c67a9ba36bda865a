"""What a driver of somebody else's has wrong is told to its author: who, what, and the fix."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meterd.config.load import parse, parse_with_positions
from meterd.config.settings import DeviceSettings
from meterd.daemon.link_plan import build as build_link
from meterd.daemon.link_plan import link_plans
from meterd.daemon.link_plan import polled as polled_device
from meterd.daemon.service import ContainedDriver
from meterd.drivers import registry
from meterd.drivers.driver_contract import mapping_mistake, readings_mistake
from meterd.errors import ConfigError, DeviceError, LinkCode, LinkError
from meterd.model.clock import SystemClock
from meterd.model.driver import DEVICE_KEYS
from meterd.model.event import Event
from meterd.model.sample import Quality, Reading
from meterd.poll.cycle import poll_once
from meterd.testing import ScriptedLink
from meterd.wire.address import DRIVER_DEFAULTS
from tests.drivers.foreign import Installed, installed

DRIVER = '''\
"""A heat pump."""

from meterd.plugin import *


class HeatPump:
    """A heat pump."""

    class Options(Options):
        zone: int = 1

    def __init__(self, link, options):
        self.link = link

    async def read(self):
        return [Reading("temperature", 21.0, "°C")]
'''
WHO = "driver 'pump' (pump_driver:HeatPump, package meterd-pump 1.2)"


@pytest.fixture
def packages(tmp_path: Path) -> Iterator[Installed]:
    with installed(tmp_path) as found:
        yield found


def bring(packages: Installed, text: str, point: str = "pump_driver:HeatPump") -> None:
    packages.add("meterd-pump", "meterd.drivers", {"pump": point}, pump_driver=text)


def build(text: str = "pump") -> Any:
    options = registry.options_of(text)
    assert options is not None
    return registry.build(text, ScriptedLink({}), options(), 1.0)


def test_one_that_is_right_is_built_and_can_be_named(packages: Installed) -> None:
    bring(packages, DRIVER)
    assert build().link.url == "scripted:"
    assert registry.origin("pump") == WHO
    assert registry.origin("modbus") == ""
    assert registry.link_defaults("pump", None) == {}
    assert registry.states("pump", None) == {}


def without(*lines: str) -> str:
    """The driver, some of its lines taken out."""
    text = DRIVER
    for line in lines:
        assert f"{line}\n" in text
        text = text.replace(f"{line}\n", "")
    return text


OPTIONS = ("    class Options(Options):", "        zone: int = 1")
READ = ("    async def read(self):", '        return [Reading("temperature", 21.0, "°C")]')
# Text of the driver, entry point, what its author is told behind who it is.
CLASSES = {
    "no Options": (
        without(*OPTIONS),
        "has no Options; give it `Options`, a pydantic model .*class Options",
    ),
    "Options of another kind": (
        without(*OPTIONS) + "\n    Options = dict\n",
        "has Options that are no pydantic model; give it",
    ),
    "a key that would never reach it": (
        DRIVER.replace("zone: int = 1", "timeout: float = 1.0"),
        "has Options with timeout, which every device has: take it out there",
    ),
    "no read": (without(*READ), r"has no read; write `async def read\(self\)"),
    "a read that blocks": (
        DRIVER.replace("async def read", "def read"),
        "has a read that is not async; .*BlockingCalls",
    ),
    "an act that blocks": (
        DRIVER + "\n    commands = ('a',)\n\n    def act(self, command):\n        pass\n",
        "has an act that is not async; write `async def act",
    ),
    "a build that is none": (DRIVER + "\n    build = 1\n", "has build, and it cannot be called"),
    "a module that fails": ("import no_such_library\n", "cannot be loaded: ModuleNotFoundError"),
    "a module that exits in its own way": (
        "class Own(Exception): ...\nraise Own('no licence')\n",
        "cannot be loaded: Own: no licence",
    ),
    "no such class": (DRIVER.replace("HeatPump", "Pump"), "cannot be loaded: AttributeError"),
}


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_that_is_no_driver_is_told_with_the_fix(packages: Installed, name: str) -> None:
    text, told = CLASSES[name]
    bring(packages, text)
    with pytest.raises(ConfigError, match=f"^{re.escape(WHO)} {told}"):
        registry.options_of("pump")


def test_an_entry_point_that_names_a_module_is_told(packages: Installed) -> None:
    bring(packages, DRIVER, "pump_driver")
    with pytest.raises(ConfigError, match=r"is no class but a module; write .*module:ClassName"):
        registry.driver_class("pump")


def test_a_decorated_read_is_a_read(packages: Installed) -> None:
    decorated = DRIVER.replace(
        "    async def read",
        "    @(lambda read: __import__('functools').wraps(read)(lambda self: read(self)))\n"
        "    async def read",
    )
    bring(packages, decorated)
    assert build() is not None


OBJECTS = {
    "commands = ('beep',)": "has commands and no act",
    "async def act(self, command): ...": "has act and no commands",
    "commands = 'beep'\n    async def act(self, command): ...": "has commands that are no texts",
    "notices = ()": "has notices that are no list; write `self.notices",
    "unit = 'W'": "has the unit 'W'; it is a whole number",
    "counters = lambda self: None": r"has counters\(\) that give None; .*CounterRegister\(",
    "counters = lambda self: ['energy']": r"has counters\(\) that give 'energy'; .*CounterRegist",
    "counters = lambda self: [('energy', 'u32')]": r"has counters\(\) with 'energy', which is no",
    "quantities = lambda self: 'voltage'": r"has quantities\(\) that give 'voltage'; they give na",
    "quantities = lambda self: ['voltage.1']": r"has quantities\(\) with 'voltage.1', .*voltage.l1",
    "quantities = lambda self: 1 / 0": "fails when it is asked what it can: ZeroDivisionError",
    "__init__ = lambda self: None": "cannot be built: TypeError",
    "build = staticmethod(lambda link, options, *, interval: None)": "gives a NoneType, which has",
}


@pytest.mark.parametrize("line", OBJECTS)
def test_an_object_that_is_no_driver_is_told_with_the_fix(packages: Installed, line: str) -> None:
    bring(packages, f"{DRIVER}\n    {line}\n")
    with pytest.raises(ConfigError, match=f"^{re.escape(WHO)} {OBJECTS[line]}"):
        build()


@pytest.mark.parametrize(
    ("method", "body", "told"),
    [
        ("link_defaults", "None", r"has link_defaults\(options\) that gives None; it gives a dict"),
        ("link_defaults", "{'baud': 9600}", "keys and values are texts"),
        (
            "link_defaults",
            "{'port': '80'}",
            "with port; it may give baud, bytes, connect_delay, dtr, framer",
        ),
        ("link_defaults", "options.bad", r"fails in link_defaults\(options\): AttributeError"),
        ("states", "[1]", r"has states\(options\) that gives \[1\]"),
    ],
)
def test_what_a_class_answers_wrongly_is_told(
    packages: Installed, method: str, body: str, told: str
) -> None:
    bring(packages, f"{DRIVER}\n    {method} = staticmethod(lambda options: {body})\n")
    with pytest.raises(ConfigError, match=f"^{re.escape(WHO)} .*{told}"):
        getattr(registry, method)("pump", 1)


def test_a_driver_may_refuse_its_configuration_in_its_own_words(packages: Installed) -> None:
    text = DRIVER.replace("self.link = link", "raise ConfigError('write tcp://HOST:80')")
    bring(packages, text)
    with pytest.raises(ConfigError, match=r"^write tcp://HOST:80$"):
        build()


# -- names that are taken --------------------------------------------------------------------------


def test_a_name_of_meterds_own_cannot_be_taken_and_that_is_told(packages: Installed) -> None:
    point = {"modbus": "pump_driver:HeatPump"}
    packages.add("meterd-pump", "meterd.drivers", point, pump_driver=DRIVER)
    assert registry.driver_class("modbus").__module__ == "meterd.drivers.modbus"
    told = [(one.package, one.text) for one in registry.listing() if one.name == "modbus"]
    assert told[0][0] == "meterd"
    text = "pump_driver:HeatPump: the name is taken by meterd; rename the entry point"
    assert told[1] == ("meterd-pump", text)


def test_a_name_that_two_packages_bring_is_refused_by_both_names(packages: Installed) -> None:
    bring(packages, DRIVER)
    packages.add("meterd-hp", "meterd.drivers", {"pump": "pump_driver:HeatPump"})
    with pytest.raises(ConfigError, match=r"two packages bring .*meterd-hp 1\.2 and .*meterd-pump"):
        registry.driver_class("pump")
    assert {one.package for one in registry.listing()} == {"meterd", "meterd-pump", "meterd-hp"}


as_text: Any = "good"

# -- what it gives ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, r"read() gave a NoneType (None); read() returns a list of Reading("),
        ({"voltage.l1": 230.0}, "read() gave a dict ({'voltage.l1': 230.0})"),
        ([("voltage.l1", 230.0, "V")], "gave a tuple (('voltage.l1', 230.0, 'V')) in place of a"),
        ((one for one in [Reading("voltage.l1", 1.0, "V")]), "read() gave a generator"),
        ([Reading("frequency", 50.0, "Hz", "", as_text)], "gave frequency the quality 'good'; use"),
    ],
)
async def test_what_is_no_list_of_readings_is_a_fault_with_the_fix(
    given: Any, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Gives:
        async def read(self) -> Any:
            return given

    driver = ContainedDriver("hall", Gives(), origin=WHO)
    for _ in range(2):
        with pytest.raises(DeviceError) as caught:
            await driver.read()
        assert caught.value.code == "driver_bug"
        assert str(caught.value).startswith(f"a bug in {WHO}: ")
        assert told in str(caught.value)
    # Once, and without a stack: it would be meterd's own.
    (record,) = caplog.records
    assert record.exc_info is None


def test_readings_that_are_right_are_no_mistake() -> None:
    said = [Reading("voltage.l1", None, "V", "no phase"), Reading("info.model", "X")]
    doubted = Reading("voltage.l1", 1.0, "V", "guessed", Quality.SUSPECT)
    assert readings_mistake(said) == readings_mistake([doubted]) == ""


async def test_an_unknown_unit_or_quantity_names_the_driver_with_the_fix(
    packages: Installed,
) -> None:
    wrong = '[Reading("voltage.1", 230.0, "V"), Reading("active_power", 1.2, "kw")]'
    bring(packages, DRIVER.replace('[Reading("temperature", 21.0, "°C")]', wrong))
    settings = parse(
        "devices: {hall: {driver: pump, link: 'tcp://127.0.0.1:1'}}",
        "meterd.yaml",
        options_of=registry.options_of,
        driver_names=registry.names(),
        environ={},
    )
    assert len(link_plans(settings)) == 1
    events: list[Event] = []
    device = polled_device("hall", build(), settings.devices["hall"])
    object.__setattr__(device, "noticed", events.append)
    await poll_once(device, (), SystemClock())
    quantity, unit = events
    assert re.match(r"voltage\.1 is left out: .*voltage\.l1.*; driver 'pump' \(", quantity.text)
    assert re.match(r"active_power is left out: 'kw' .* did you mean kW\?; driver", unit.text)
    assert {one.data["driver"] for one in events} == {WHO}


async def test_a_mistake_in_the_configuration_stands_at_its_place(packages: Installed) -> None:
    bring(packages, without(*OPTIONS))
    with pytest.raises(ConfigError) as caught:
        parse(
            "devices:\n  hall: {driver: pump, link: 'tcp://127.0.0.1:1'}\n",
            "meterd.yaml",
            options_of=registry.options_of,
            driver_names=registry.names(),
            environ={},
        )
    assert str(caught.value).startswith("meterd.yaml:2:18: error[")
    assert WHO in str(caught.value)


def test_an_error_of_a_driver_that_is_built_stands_at_its_device(packages: Installed) -> None:
    bring(packages, f"{DRIVER}\n    __init__ = lambda self, link, options: 1 / 0\n")
    loaded = parse_with_positions(
        "devices:\n  hall: {driver: pump, link: 'tcp://127.0.0.1:1'}\n",
        "meterd.yaml",
        options_of=registry.options_of,
        driver_names=registry.names(),
        environ={},
    )
    (plan,) = link_plans(loaded.settings).values()
    with pytest.raises(ConfigError) as caught, loaded.placed_errors():
        build_link(plan)
    assert str(caught.value).startswith("meterd.yaml:2:3: error[")
    assert f"devices.hall: {WHO} cannot be built: ZeroDivisionError" in str(caught.value)


def test_keys_of_every_device_are_those_of_the_settings() -> None:
    assert DEVICE_KEYS | {"options"} == set(DeviceSettings.model_fields)


# -- what it holds beside its link -----------------------------------------------------------------


async def test_a_dead_link_inside_close_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    from meterd.daemon.link_plan import close_driver

    class Holds:
        closed = 0

        async def read(self) -> list[Reading]:
            return []

        async def close(self) -> None:
            self.closed += 1
            raise LinkError("gone", code=LinkCode.CLOSED)

    driver = Holds()
    with pytest.raises(LinkError):
        await close_driver(driver)
    assert driver.closed == 1


def test_a_driver_may_say_of_its_link_all_that_links_know() -> None:
    """Settings of the line and the framer, and pauses as register maps have them."""
    said = {"baud": "2400", "framer": "ascii", "dtr": "0", "gap": "50ms", "timeout": "3s"}
    assert said.keys() <= DRIVER_DEFAULTS
    assert mapping_mistake("link_defaults", said) == ""
