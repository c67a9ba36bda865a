"""`meterd check`: what a bus can carry, devices that are one meter, rules that cannot work."""

import json
import re
from pathlib import Path

import pytest

from meterd.config.codes import WARNING_MEANING, WarningCode
from meterd.sim.modbus import ModbusServer
from meterd.sim.register_bank import FixedBank
from tests.cli.command import Ended, meterd
from tests.cli.inside import inside

OK, FINDINGS, BAD = 0, 3, 78
TOP = Path(__file__).parents[2]
_WARNING = re.compile(r"^\S+:(\d+):(\d+): warning\[(C\d+)\]: (.*)$", re.MULTILINE)
_ERROR = re.compile(r"^\S+:(\d+):(\d+): error\[(C\d+)\]: (.*)$", re.MULTILINE)


class Checked:
    """Runs `check` on a text, in this process."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.file = folder / "meterd.yaml"
        self._capsys = capsys

    def __call__(self, text: str, *words: str) -> Ended:
        self.file.write_text(text)
        return inside(self._capsys, "check", "-c", str(self.file), *words)

    def codes(self, text: str) -> list[str]:
        """The codes of all warnings of a text that has no mistakes."""
        done = self(text)
        assert done.code == OK, done.err
        return [found[2] for found in _WARNING.findall(done.err)]


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Checked:
    return Checked(tmp_path, capsys)


def bus(
    link: str, count: int = 12, interval: str = "1s", register_map: str = "eastron_sdm630"
) -> str:
    return "devices:\n" + "".join(
        f"  m{unit}: {{driver: modbus, map: {register_map}, link: '{link}', unit: {unit}, "
        f"interval: {interval}}}\n"
        for unit in range(1, count + 1)
    )


# -- what a bus carries ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "link",
    [
        "serial:///dev/ttyUSB0?baud=9600",
        "tcp://192.0.2.7:4196?framer=rtu&baud=9600",
        "tcp://192.0.2.7?baud=9600",
        "udp://192.0.2.7?baud=9600",
        # Nobody said how fast it is, and no line is fast enough.
        "tcp://192.0.2.7:4196?framer=rtu",
        "tcp://192.0.2.7",
    ],
)
def test_twelve_meters_at_one_second_are_refused_whatever_leads_to_their_bus(
    check: Checked, link: str
) -> None:
    done = check(bus(link), "--format", "json")
    assert done.code == BAD
    ((_, _, code, text),) = _ERROR.findall(done.err)
    assert code == WarningCode.BUS_FULL
    percent = re.search(r"makes (\d+) % of the bus at 9600 baud", text)
    assert percent is not None
    assert 450 < int(percent[1]) < 600
    assert "the shortest interval that all could have is" in text
    assert not re.search(r"^ok", done.err, re.MULTILINE)
    plan = [row for row in json.loads(done.out) if "device" in row]
    (whole,) = {row["bus_percent"] for row in plan}
    assert whole == pytest.approx(int(percent[1]), abs=1)
    assert sum(row["load_percent"] for row in plan) == pytest.approx(int(percent[1]), abs=1)


def test_an_entry_under_links_says_the_baud_rate_too(check: Checked) -> None:
    links = "links: {gw: {url: 'tcp://192.0.2.7?framer=rtu', baud: 9600, parity: E, stop: 1}}\n"
    done = check(links + bus("gw", 3))
    assert done.code == BAD
    (line, column, _, text) = _ERROR.findall(done.err)[0]
    assert (line, column) == ("1", "19")
    assert "at 9600 baud;" in text
    # What the URL says goes before.
    faster = links.replace("framer=rtu", "framer=rtu&baud=115200")
    assert check(faster + bus("gw", 3)).code == OK


def test_what_is_only_assumed_is_a_warning_that_asks_for_the_rate(check: Checked) -> None:
    text = bus("tcp://192.0.2.7:4196?framer=rtu", 3)
    done = check(text)
    assert done.code == OK
    ((_, _, code, said),) = _WARNING.findall(done.err)
    assert code == WarningCode.BUS_FULL
    assert "at 9600 baud, which is assumed" in said
    assert "baud= in the link's URL" in said
    assert "no mistakes, 1 warning" in done.err
    assert check(text, "--strict").code == FINDINGS
    assert check(bus("tcp://192.0.2.7:4196?framer=rtu&baud=115200", 3), "--strict").code == OK


def test_a_meter_with_ethernet_of_its_own_has_no_line_behind_it(check: Checked) -> None:
    done = check(bus("tcp://192.0.2.7", 1, "100ms", "siemens_pac3200"), "--format", "json")
    (row,) = json.loads(done.out)
    assert (row["baud"], row["baud_from"], done.code) == (None, "network", OK)


def test_the_sum_of_a_bus_is_told_and_not_only_each_device(check: Checked) -> None:
    done = check(bus("tcp://192.0.2.7?framer=rtu&baud=9600", 12, "10s"))
    assert done.code == OK
    assert re.search(r"tcp://192.0.2.7:502: 12 devices take 5\d.* % of the bus at 9600", done.err)


def test_a_device_that_closes_its_link_after_each_poll_has_a_plan_too(check: Checked) -> None:
    links = "links: {gw: {url: 'tcp://192.0.2.7?framer=rtu&baud=9600', keep_open: false}}\n"
    done = check(links + bus("gw", 1, "10s"), "--format", "json")
    assert json.loads(done.out)[0]["reads"] > 0


# -- devices that are one meter --------------------------------------------------------------------


def devices(*said: str) -> str:
    lines = (
        f"  {name}: {{driver: modbus, {rest}}}\n"
        for name, rest in zip("abcdef", said, strict=False)
    )
    return "devices:\n" + "".join(lines)


SDM = "map: eastron_sdm630, link: "


def test_units_that_were_forgotten_are_one_meter_three_times(check: Checked) -> None:
    done = check(devices(*[SDM + "'tcp://gw'", SDM + "'tcp://GW:502'", SDM + "'tcp://gw/'"]))
    assert done.code == OK
    found = _WARNING.findall(done.err)
    assert [one[:3] for one in found] == [("3", "50", "C101"), ("4", "50", "C101")]
    assert "devices.b: with a it is one meter" in found[0][3]
    assert "devices.c: with a and b it is one meter" in found[1][3]
    assert "unit 1, the default, of gw:502" in found[1][3]
    assert "`unit:`" in found[1][3]


@pytest.mark.parametrize(
    ("second", "is_one"),
    [
        (SDM + "'tcp://gw', unit: 7", True),
        (SDM + "'tcp://gw', unit: 8", False),
        (SDM + "'tcp://other', unit: 7", False),
        (SDM + "'tcp://gw:503', unit: 7", False),
        # Another map that reads registers of the first, and one that reads none of them.
        ("map: eastron_sdm120, link: 'tcp://gw', unit: 7", True),
        ("map: abb_b23, link: 'tcp://gw', unit: 7", False),
        (SDM + "'tcp://gw', unit: 7, enabled: false", False),
        (SDM + "'tcp://gw', unit: 7, direction: reversed, interval: 1m", True),
    ],
)
def test_same_link_same_unit_and_registers_in_common_are_one_meter(
    check: Checked, second: str, is_one: bool
) -> None:
    found = check.codes(devices(SDM + "'tcp://gw', unit: 7", second))
    assert found == (["C101"] if is_one else [])


@pytest.mark.parametrize(
    ("parts", "is_one"),
    [
        (("part: inverter", "part: meter"), False),
        (("part: meter", "part: meter, index: 2"), False),
        (("part: meter", "part: meter"), True),
        (("part: meter", "slow: 2m"), True),
        (("part: inverter", "part: 103"), True),
        (("part: inverter", "part: meter, unit: 2"), False),
    ],
)
def test_parts_of_one_sunspec_device_are_several(
    check: Checked, parts: tuple[str, str], is_one: bool
) -> None:
    found = check.codes(devices(*(f"map: sunspec, link: 'tcp://inv', {part}" for part in parts)))
    assert found == (["C101"] if is_one else [])


def test_two_upses_on_one_line_are_one(check: Checked) -> None:
    ups = "  {}: {{driver: megatec, link: 'serial:///dev/ttyS0?baud=2400'}}\n"
    assert check.codes("devices:\n" + ups.format("a") + ups.format("b")) == ["C101"]


def test_a_port_by_two_names_is_one_port(check: Checked, tmp_path: Path) -> None:
    (tmp_path / "ttyS0").write_text("")
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyS0")
    links = (
        f"'serial://{tmp_path}/{name}', unit: {unit}" for unit, name in ((1, "ttyS0"), (2, "by-id"))
    )
    assert check.codes(devices(*(SDM + link for link in links))) == ["C103"]


# -- what devices say ------------------------------------------------------------------------------

MAP = """\
source: made up for this test
confidence: high
maker: Me
model: Mine
defaults: {tcp: 502}
rows:
  voltage.l1: {function: 3, address: 0, type: u16, unit: V, scale: 0.1}
  frequency: {function: 3, address: 1, type: u16, unit: Hz, scale: 0.01, na: [0]}
  active_energy.import: {function: 3, address: 2, type: u32, unit: Wh}
"""
SERIAL = "  info.serial_number: {function: 3, address: 10, type: u32, tier: static}\n"


class Row:
    """A gateway with units; each has a serial number and a counter."""

    def __init__(self, **units: tuple[int, int]) -> None:
        self.server = ModbusServer(
            {
                int(unit[1:]): FixedBank(
                    {3: {0: 2301, 1: 0, 2: energy >> 16, 3: energy & 65535, 10: 0, 11: serial}}
                )
                for unit, (serial, energy) in units.items()
            }
        )

    async def __aenter__(self) -> str:
        await self.server.start_tcp()
        return self.server.url

    async def __aexit__(self, *about: object) -> None:
        await self.server.stop()


async def online(
    folder: Path, url: str, *units: int, more: str = "", register_map: str = MAP
) -> Ended:
    (folder / "own.yaml").write_text(register_map)
    lines = (
        f"  m{number}: {{driver: modbus, map: ./own.yaml, link: '{url}', unit: {unit}}}\n"
        for number, unit in enumerate(units, 1)
    )
    (folder / "meterd.yaml").write_text("devices:\n" + "".join(lines) + more)
    return await meterd("check", "--online", cwd=folder)


async def test_one_serial_number_twice_is_one_meter(tmp_path: Path) -> None:
    # The gateway answers for any unit with the one meter that it has: unit 1 and 3 are the same.
    async with Row(u1=(4711, 50_000), u2=(4712, 60_000), u3=(4711, 50_000)) as url:
        done = await online(tmp_path, url, 1, 2, 3, register_map=MAP + SERIAL)
    assert done.code == OK
    ((_, _, code, text),) = _WARNING.findall(done.err)
    assert code == WarningCode.SAME_METER
    assert "devices.m3: it is the same meter as m1: both say the serial number '4711'" in text


async def test_circuits_with_one_serial_number_are_told_apart_by_their_counters(
    tmp_path: Path,
) -> None:
    async with Row(u1=(4711, 50_000), u2=(4711, 60_000)) as url:
        done = await online(tmp_path, url, 1, 2, register_map=MAP + SERIAL)
    ((_, _, _, text),) = _WARNING.findall(done.err)
    assert "its counters differ: circuits of one meter, or a number that stands twice" in text


async def test_without_serial_numbers_the_counters_tell(tmp_path: Path) -> None:
    async with Row(u1=(0, 50_000), u2=(0, 60_000), u3=(0, 50_000), u4=(0, 12), u5=(0, 12)) as url:
        done = await online(tmp_path, url, 1, 2, 3, 4, 5)
    ((_, _, code, text),) = _WARNING.findall(done.err)
    assert code == WarningCode.SAME_METER
    # New meters are all alike: 12 Wh say nothing.
    assert "devices.m3: it is probably the same meter as m1" in text
    assert "active_energy.import 50 kWh" in text


@pytest.mark.parametrize("register_map", [MAP, MAP + SERIAL])
async def test_one_meter_by_two_addresses_is_found(tmp_path: Path, register_map: str) -> None:
    async with Row(u1=(4711, 50_000)) as url:
        second = f"  far: {{driver: modbus, map: ./own.yaml, link: '{url}'}}\n"
        more = second.replace("127.0.0.1", "localhost")
        done = await online(tmp_path, url, 1, more=more, register_map=register_map)
    ((_, _, code, text),) = _WARNING.findall(done.err)
    assert code == WarningCode.SAME_METER
    assert "devices.far: it is" in text
    assert "the same meter as m1" in text


async def test_a_rule_that_watches_what_was_not_there_is_told(tmp_path: Path) -> None:
    rules = """\
alerts:
  rules:
    off: {quantity: frequency, above: 51, notify: []}
    up: {quantity: device.up, equals: 0, notify: []}
    volt: {quantity: voltage.l1, above: 253, notify: []}
"""
    async with Row(u1=(1, 50_000)) as url:
        done = await online(tmp_path, url, 1, more=rules)
    ((line, _, code, text),) = _WARNING.findall(done.err)
    assert (line, code) == ("5", WarningCode.NO_SUCH_VALUE)
    assert "alerts.rules.off.quantity: m1 gave no frequency" in text


async def test_online_the_rate_of_a_bus_is_measured(tmp_path: Path) -> None:
    # A second a meter is far too short at the assumed 9600 baud; this bus is loopback.
    text = MAP.replace("defaults: {tcp: 502}", "defaults: {serial: 1200 8N1}")
    async with Row(u1=(0, 50_000), u2=(0, 60_000), u3=(0, 70_000)) as url:
        (tmp_path / "own.yaml").write_text(text)
        lines = (
            f"  m{unit}: {{driver: modbus, map: ./own.yaml, link: '{url}', unit: {unit}, "
            "interval: 200ms}\n"
            for unit in (1, 2, 3)
        )
        (tmp_path / "meterd.yaml").write_text("devices:\n" + "".join(lines))
        before = await meterd("check", cwd=tmp_path)
        after = await meterd("check", "--online", "--format", "json", cwd=tmp_path)
    assert [found[2] for found in _WARNING.findall(before.err)] == ["C102"]
    assert _WARNING.findall(after.err) == []
    assert {row["baud_from"] for row in after.document} == {"measured"}


# -- rules -----------------------------------------------------------------------------------------

SITE = """\
devices:
  main: {driver: modbus, map: eastron_sdm630, link: 'tcp://192.0.2.7'}
  ups: {driver: megatec, link: 'serial:///dev/ttyS0'}
  off: {driver: modbus, map: eastron_sdm120, link: 'tcp://192.0.2.8', enabled: false}
alerts:
  hooks: {ops: {type: webhook, url: 'http://192.0.2.9/x'}}
  rules:
    up: {quantity: device.up, equals: 0, notify: [ops]}
"""


@pytest.mark.parametrize(
    ("rule", "codes"),
    [
        ("{quantity: voltage.l1, above: 253}", ["C110"]),
        ("{quantity: voltage.l1, above: 253, notify: []}", []),
        ("{quantity: voltage.l1, above: 253, notify: [ops]}", []),
        ("{quantity: guarded.active_energy.import, above: 1, notify: [ops]}", []),
        ("{quantity: voltage.l1, device: ups, above: 253, notify: [ops]}", ["C112"]),
        ("{quantity: voltage.l1, device: [main, ups], above: 253, notify: [ops]}", ["C112"]),
        ("{quantity: battery.runtime, below: 300, notify: [ops]}", ["C112"]),
        ("{quantity: battery.charge, below: 30, notify: [ops]}", []),
        ("{quantity: x.nobody.has, above: 1, notify: [ops]}", ["C112"]),
        ("{quantity: x.store.queued, above: 1, notify: [ops]}", []),
        ("{quantity: device.up, equals: 2, notify: [ops]}", ["C113"]),
        ("{quantity: device.up, above: 1, notify: [ops]}", ["C113"]),
        ("{quantity: device.up, below: 0, notify: [ops]}", ["C113"]),
        ("{quantity: device.up, below: 1, for: 1h, notify: [ops]}", []),
        ("{quantity: ups.status.ob, above: 5, notify: [ops]}", ["C113"]),
        ("{quantity: battery.charge, above: 100, notify: [ops]}", ["C113"]),
        ("{quantity: battery.charge, below: 0, notify: [ops]}", ["C113"]),
        ("{quantity: active_power, below: -500, notify: [ops]}", []),
        ("{quantity: voltage.l1, equals: 230, notify: [ops]}", ["C113"]),
        ("{quantity: active_power, equals: 0, notify: [ops]}", []),
        ("{quantity: frequency, above: -1, notify: [ops]}", ["C114"]),
        ("{quantity: battery.charge, below: 101, notify: [ops]}", ["C114"]),
        ("{quantity: battery.charge, below: 20, clear_above: 100, notify: [ops]}", ["C115"]),
        ("{quantity: ups.load, above: 20, clear_below: 0, notify: [ops]}", ["C115"]),
        ("{quantity: device.up, equals: 0, device: main, notify: [ops]}", ["C116"]),
        ("{quantity: device.up, equals: 0, for: 1h, severity: critical, notify: [ops]}", []),
        ("{quantity: ups.load, above: 5, notify: [ops], text: 'it is {{ $value }}'}", ["C117"]),
        ("{quantity: ups.load, above: 5, notify: [ops], text: 'at {value} %'}", ["C117"]),
        ("{quantity: ups.load, above: 5, notify: [ops], text: 'more than 5 %'}", []),
        ("{quantity: device.up, equals: 0, for: 1h, device: 'off', notify: [ops]}", ["C118"]),
    ],
)
def test_a_rule_that_cannot_work_is_warned_of(check: Checked, rule: str, codes: list[str]) -> None:
    assert check.codes(f"{SITE}    one: {rule}\n") == codes


def test_places_hints_and_json(check: Checked) -> None:
    text = f"{SITE}    one: {{quantity: device.up, equals: 2, notify: [ops]}}\n"
    done = check(text, "--format", "json")
    ((line, column, code, said),) = _WARNING.findall(done.err)
    assert (int(line), int(column)) == (9, text.splitlines()[8].index("2") + 1)
    assert "never true: it is 0 or 1; hint: write `equals: 0` or `equals: 1`" in said
    *plan, warning = json.loads(done.out)
    assert all("device" in row for row in plan)
    assert (warning["warning"], warning["line"]) == (code, int(line))
    assert warning["column"] == int(column)
    assert warning["text"] in said
    assert warning["hint"] in said
    (last,) = check(text, "--format", "ndjson").out.splitlines()[len(plan) :]
    assert json.loads(last) == warning


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("links: {bus: {url: 'tcp://h'}}\n", "C104"),
        ("proxy: {devices: {1: ups}}\n", "C107"),
        ("proxy: {devices: {1: 'off'}}\n", "C118"),
        ("proxy: {devices: {1: main}}\n", None),
    ],
)
def test_what_nobody_uses_and_what_cannot_be_served(
    check: Checked, text: str, code: str | None
) -> None:
    assert check.codes(SITE + text) == ([code] if code else [])


def test_a_hook_that_hears_nothing_slow_that_is_fast_and_a_command_that_nobody_can_do(
    check: Checked,
) -> None:
    text = SITE.replace("hooks: {ops", "hooks: {idle: {type: webhook, url: 'http://h'}, ops")
    assert check.codes(text) == ["C111"]
    link = "link: 'tcp://192.0.2.7'"
    text = SITE.replace(link, f"{link}, slow: 5s, commands: [x]")
    assert check.codes(text) == ["C105", "C106"]


@pytest.mark.parametrize(
    ("link", "own", "said", "hint"),
    [
        ("", "200ms", "200ms means nothing: its link waits 1s", "`timeout: 200ms` at the link"),
        ("?timeout=2s", "1500ms", "1s500ms means nothing: its link waits 2s", "at the link"),
        ("", "1s", None, None),
        ("", "4s", None, None),
    ],
)
def test_a_timeout_that_its_link_does_not_keep(
    check: Checked, link: str, own: str, said: str | None, hint: str | None
) -> None:
    url = "link: 'tcp://192.0.2.7'"
    text = SITE.replace(url, f"link: 'tcp://192.0.2.7{link}', timeout: {own}")
    assert check.codes(text) == (["C109"] if said else [])
    for words in filter(None, (said, hint)):
        assert words in check(text).err


@pytest.mark.parametrize(
    "path",
    [*sorted((TOP / "config").glob("*.yaml")), TOP / "docker" / "meterd.yaml"],
    ids=lambda path: path.name,
)
def test_no_example_is_warned_of(path: Path, check: Checked) -> None:
    text = path.read_text().replace("0.0.0.0:8420", "127.0.0.1:8420")
    assert check.codes(text) == []


def test_every_warning_has_a_sentence_of_its_own() -> None:
    assert set(WARNING_MEANING) == set(WarningCode)
    assert len(set(WARNING_MEANING.values())) == len(WarningCode)


OWN_STATES = """\
source: made up for this test
confidence: high
maker: Me
model: Mine
rows:
  x.state: {function: 3, address: 0, type: u16, unit: '1', enum: {0: off, 1: on, 7: fault}}
"""


@pytest.mark.parametrize(
    ("equals", "code", "said"),
    [
        ("7", OK, ""),
        ("fault", OK, ""),
        ("5", OK, "is no state of it; hint: its states are 0 off, 1 on, 7 fault"),
        ("fualt", BAD, "its states are off, on, fault"),
    ],
)
def test_a_state_that_there_is_not_is_told(
    check: Checked, tmp_path: Path, equals: str, code: int, said: str
) -> None:
    (tmp_path / "own.yaml").write_text(OWN_STATES)
    rule = f"{{quantity: x.state, equals: {equals}, notify: []}}"
    device = "devices:\n  a: {driver: modbus, map: ./own.yaml, link: 'tcp://h'}\n"
    done = check(f"{device}alerts: {{rules: {{r: {rule}}}}}\n")
    assert done.code == code
    assert said in done.err
    assert bool(_WARNING.findall(done.err)) == (bool(said) and code == OK)
