"""The public boundary for plug-ins: its names and their shapes, and the thread for what blocks."""

import asyncio
import gc
import inspect
import re
import threading
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from meterd import plugin, testing
from meterd.daemon.poll_timeout import PollTimeout
from meterd.daemon.service import ContainedDriver
from meterd.drivers.megatec import MegatecUps
from meterd.drivers.modbus import ModbusMeter
from meterd.drivers.sunspec.meter import SunSpecMeter
from meterd.errors import DeviceError, LinkError


class _Code(plugin.PluginCode):
    SOME_CODE = "some_code"


# A line that goes or changes here breaks plug-ins: see the promise in meterd/plugin.py.
NAMES = [
    *("BlockingCalls", "BuildsItself", "Closes", "Commands", "ConfigError", "CounterRegister"),
    *("DeviceCode", "LinkCode", "PluginCode"),
    *("CounterRegisters", "DeviceError", "Driver", "DriverClass", "EventKind", "ExchangeTimeout"),
    *("Link", "LinkDefaults", "LinkError", "MeterdError", "Notice", "Notices", "Options"),
    *("POLL_LIMIT_S", "Parse", "ProtocolError", "Quality", "Quantities", "Reading"),
    *(
        "LimitsPower",
        "RequestSizes",
        "SlowTier",
        "UnitAddress",
        "Unsupported",
        "ValueNames",
        "units",
    ),
]
MEMBERS = {
    "Driver": {"read(self)"},
    "BuildsItself": {"build"},
    "LinkDefaults": {"link_defaults"},
    "ValueNames": {"states"},
    "Commands": {"commands", "act(self, command)"},
    "Notices": {"notices"},
    "CounterRegisters": {"counters(self)"},
    "Quantities": {"quantities(self)"},
    "UnitAddress": {"unit"},
    "ExchangeTimeout": {"timeout"},
    "RequestSizes": {"traffic(self)"},
    "Closes": {"close(self)"},
    "LimitsPower": {"max_power"},
    "SlowTier": {"slow"},
}
PROMISED_OF_A_LINK = ["request", "parse", "timeout", "quiet", "once"]


def test_its_names_are_these() -> None:
    assert sorted(plugin.__all__) == sorted(NAMES)
    assert [name for name in NAMES if not hasattr(plugin, name)] == []


def test_the_names_for_tests_are_these() -> None:
    assert sorted(testing.__all__) == [
        *("FakeClock", "Reply", "RunningSite", "Script", "ScriptedLink", "http_server"),
        *("parse_transcript", "running_site", "scripted_server", "simulated_meter"),
    ]


def members(protocol: Any) -> set[str]:
    """The names of a Protocol's members, those of methods with their parameters."""
    found = {name for name in get_type_hints(protocol) if not name.startswith("_")}
    for name, member in vars(protocol).items():
        if name.startswith("_"):
            continue
        method = inspect.isfunction(member)
        found.add(f"{name}({', '.join(inspect.signature(member).parameters)})" if method else name)
    return found


@pytest.mark.parametrize("name", MEMBERS)
def test_a_capability_has_these_members(name: str) -> None:
    assert members(getattr(plugin, name)) == MEMBERS[name]


def test_every_capability_is_pinned_and_told_in_the_docs() -> None:
    docs = (Path(plugin.__file__).parent.parent / "docs" / "plugins.md").read_text("utf-8")
    protocols = {name for name in NAMES if getattr(getattr(plugin, name), "_is_protocol", False)}
    assert protocols - {"Link", "DriverClass"} == MEMBERS.keys()
    public = [*NAMES, *testing.__all__, "meterd_site"]
    assert [name for name in public if not re.search(rf"\b{name}\b", docs)] == []


def test_values_have_these_fields_in_this_order() -> None:
    assert plugin.Reading._fields == ("quantity", "value", "unit", "reason", "quality")
    assert plugin.Reading._field_defaults == {
        "unit": "",
        "reason": "",
        "quality": plugin.Quality.GOOD,
    }
    register = ("quantity", "type", "step", "wrap", "rate", "source")
    assert plugin.CounterRegister._fields == register
    assert list(inspect.signature(plugin.Notice).parameters) == ["kind", "text", "data"]
    assert [str(one) for one in plugin.Quality] == [
        "good",
        "estimated",
        "suspect",
        "stale",
        "invalid",
    ]


def test_of_a_link_this_is_promised() -> None:
    exchange = inspect.signature(plugin.Link.exchange).parameters
    assert [name for name in PROMISED_OF_A_LINK if name not in exchange] == []
    assert list(exchange)[:3] == ["self", "request", "parse"]
    others = [p for name, p in exchange.items() if name not in ("self", "request", "parse")]
    assert [p.name for p in others if p.default is p.empty or p.kind is not p.KEYWORD_ONLY] == []
    assert {"url", "options", "epoch", "timeout"} <= get_type_hints(plugin.Link).keys()
    assert callable(plugin.Link.close)


def test_errors_are_raised_with_a_text_and_a_code() -> None:
    for kind in (plugin.LinkError, plugin.ProtocolError, plugin.DeviceError, plugin.Unsupported):
        error = kind("no answer", code=_Code.SOME_CODE)
        assert (str(error), error.code) == ("no answer", "some_code")
        assert isinstance(error, plugin.MeterdError)
    assert issubclass(plugin.ProtocolError, plugin.LinkError)
    assert issubclass(plugin.Unsupported, plugin.DeviceError)


def test_units_convert() -> None:
    assert plugin.units.conversion("kWh", "Wh") == (1000.0, 0.0)
    assert plugin.units.base_of("kW") == "W"
    assert "kWh" in plugin.units.fitting("Wh")


@pytest.mark.parametrize("driver", [ModbusMeter, SunSpecMeter, MegatecUps])
def test_meterds_own_drivers_have_the_capabilities_that_they_say(driver: type) -> None:
    """A property that is misspelt in a driver would be a capability that it silently lacks."""
    said = {
        ModbusMeter: "counters quantities unit timeout traffic build link_defaults states read",
        SunSpecMeter: "quantities unit traffic read",
        MegatecUps: "commands act read",
    }[driver]
    assert [name for name in said.split() if not hasattr(driver, name)] == []


def test_a_drivers_options_refuse_what_they_do_not_know() -> None:
    class Own(plugin.Options):
        channel: int = 1

    with pytest.raises(ValueError, match="chanel"):
        Own.model_validate({"chanel": 2})
    with pytest.raises(ValueError, match="frozen"):
        Own().channel = 2  # type: ignore[misc]


# -- what blocks -----------------------------------------------------------------------------------


async def test_calls_are_made_by_one_thread_and_give_what_the_function_gives() -> None:
    calls = plugin.BlockingCalls("test")
    first, second = [await calls.run(threading.current_thread) for _ in range(2)]
    assert first is second is not threading.current_thread()
    assert first.daemon
    assert await calls.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await calls.run(divmod, 7, 0)


async def test_the_loop_goes_on_while_a_call_blocks() -> None:
    calls, go_on = plugin.BlockingCalls(), threading.Event()
    waiting = asyncio.ensure_future(calls.run(go_on.wait, 60.0))
    # Only this task can let it go on, and it can only if the loop is not blocked.
    await asyncio.sleep(0)
    go_on.set()
    assert await waiting is True


async def test_who_does_not_come_back_in_time_is_a_dead_link_and_is_not_called_again() -> None:
    calls, go_on = plugin.BlockingCalls(), threading.Event()
    with pytest.raises(LinkError, match=r"no answer within 0\.01 s") as caught:
        await calls.run(go_on.wait, 60.0, timeout=0.01)
    assert caught.value.code == "timeout"
    with pytest.raises(DeviceError) as stuck:
        await calls.run(go_on.wait, 60.0)
    assert stuck.value.code == "driver_stuck"
    before = calls._last
    assert before is not None
    go_on.set()
    await asyncio.wrap_future(before)
    assert await calls.run(divmod, 7, 2) == (3, 1)


async def test_a_timeout_of_the_library_is_one_of_the_link() -> None:
    def times_out() -> None:
        raise TimeoutError("timed out")

    with pytest.raises(LinkError, match="no answer") as caught:
        await plugin.BlockingCalls().run(times_out)
    assert caught.value.code == "timeout"


@pytest.mark.parametrize("error", [SystemExit(1), StopIteration(), asyncio.CancelledError()])
async def test_what_would_end_the_loop_or_no_call_is_an_error_like_others(
    error: BaseException,
) -> None:
    def fails() -> None:
        raise error

    calls = plugin.BlockingCalls()
    with pytest.raises(RuntimeError, match=type(error).__name__):
        await calls.run(fails)
    assert await calls.run(divmod, 7, 2) == (3, 1)


async def test_the_polls_limit_ends_the_wait_for_a_call() -> None:
    go_on = threading.Event()

    class Blocks:
        def __init__(self) -> None:
            self.calls = plugin.BlockingCalls()

        async def read(self) -> list[plugin.Reading]:
            await self.calls.run(go_on.wait, 60.0)
            return [plugin.Reading("temperature", 21.0, "°C")]

    driver = ContainedDriver("d", Blocks(), PollTimeout(0.01))
    for _ in range(2):
        with pytest.raises(DeviceError) as caught:
            await driver.read()
        assert caught.value.code == "driver_stuck"
    go_on.set()


async def test_its_thread_ends_when_nobody_has_it_any_more() -> None:
    calls = plugin.BlockingCalls()
    thread = await calls.run(threading.current_thread)
    del calls
    gc.collect()
    await asyncio.to_thread(thread.join, 60.0)
    assert not thread.is_alive()
