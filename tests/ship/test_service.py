"""The unit file: how systemd starts, watches and confines meterd."""

import configparser
import re
import subprocess
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[2] / "config"
UNIT = CONFIG / "meterd.service"


def directives() -> dict[str, dict[str, list[str]]]:
    """Section to directive to its values: a unit may name one more than once."""
    parser = configparser.ConfigParser(
        strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#", ";")
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    found: dict[str, dict[str, list[str]]] = {name: {} for name in parser.sections()}
    section = ""
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found[section].setdefault(name, []).append(value)
    assert {s: set(found[s]) for s in found} == {s: set(parser[s]) for s in found}
    return found


SERVICE = directives()["Service"]


def test_it_is_watched_and_started_again_unless_a_person_must_act() -> None:
    assert SERVICE["Type"] == ["notify"]
    assert int(SERVICE["WatchdogSec"][0]) >= 10
    assert SERVICE["Restart"] == ["always"]
    # 75, another meterd keeps the store, is tried again: when that one ends, nobody polls.
    assert SERVICE["RestartPreventExitStatus"][0].split() == ["78"]
    assert "SuccessExitStatus" not in SERVICE
    assert SERVICE["ExecReload"] == ["kill -HUP $MAINPID"]
    assert directives()["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert SERVICE["ExecStart"][0].endswith("/meterd run -c /etc/meterd/meterd.yaml")


def test_it_keeps_its_data_in_its_own_directory_only() -> None:
    assert SERVICE["StateDirectory"] == ["meterd"]
    assert SERVICE["UMask"] == ["0077"]
    assert SERVICE["ProtectSystem"] == ["strict"]
    assert "ReadWritePaths" not in SERVICE
    assert SERVICE["User"] == ["meterd"]


@pytest.mark.parametrize("name", ["CapabilityBoundingSet", "AmbientCapabilities"])
def test_it_has_no_capability(name: str) -> None:
    assert SERVICE[name] == [""]


@pytest.mark.parametrize(
    "name",
    [
        "NoNewPrivileges",
        "ProtectHome",
        "PrivateTmp",
        "PrivateUsers",
        "PrivateMounts",
        "ProtectClock",
        "ProtectControlGroups",
        "ProtectHostname",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "LockPersonality",
        "MemoryDenyWriteExecute",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "RemoveIPC",
    ],
)
def test_the_sandbox_is_on(name: str) -> None:
    assert SERVICE[name] == ["yes"]


def test_it_reaches_serial_ports_and_no_other_device() -> None:
    assert SERVICE["DevicePolicy"] == ["closed"]
    assert all(re.fullmatch(r"char-(tty[A-Za-z]+|rfcomm) rw", v) for v in SERVICE["DeviceAllow"])
    assert SERVICE["SupplementaryGroups"] == ["dialout"]
    assert "PrivateDevices" not in SERVICE


@pytest.mark.parametrize(
    "port",
    [
        *("/dev/ttyUSB0", "/dev/ttyACM0", "/dev/ttyXRUSB0", "/dev/ttyMXUSB1"),
        *("/dev/ttyS0", "/dev/ttyAMA0", "/dev/ttymxc2", "/dev/ttyLP1", "/dev/ttyTHS1"),
        *("/dev/ttyO4", "/dev/ttySTM0", "/dev/ttyPS0", "/dev/ttyAML1", "/dev/ttyMSM0"),
        *("/dev/ttySAC0", "/dev/ttySC0", "/dev/ttyMAX1", "/dev/ttyMI3", "/dev/rfcomm0"),
    ],
)
def test_serial_ports_of_boards_hats_and_adapters_are_reached(port: str) -> None:
    assert port_is_allowed(port)


def test_no_core_dump_holds_its_secrets() -> None:
    assert SERVICE["LimitCORE"] == ["0"]


def port_is_allowed(port: str) -> bool:
    """Whether DeviceAllow lets a port in: a name of /dev less its number is that of the group."""
    name = port.removeprefix("/dev/")
    # Links that udev makes lead to USB adapters.
    groups = ["ttyUSB", "ttyACM"] if name.startswith(("serial/by-", "meterd-")) else []
    groups = groups or [re.sub(r"\d+$", "", name)]
    return all(f"char-{group} rw" in SERVICE["DeviceAllow"] for group in groups)


# What meterd writes; all other files of a configuration it only reads.
WRITTEN = re.compile(r"(?:sqlite:///|\bfile: |\btokens: )(/[\w./-]+)")
PATH = re.compile(r"(?<![\w:./-])(?:sqlite:///|serial://)?(/[\w.-]+(?:/[\w.-]+)+)")
SHIPPED = sorted(CONFIG.glob("*.yaml"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_the_unit_allows_each_path_and_device_that_the_shipped_configuration_names(
    file: Path,
) -> None:
    # Comments count: they are there to be uncommented.
    text = file.read_text()
    named = set(PATH.findall(text))
    assert named, "a shipped configuration that names no file and no port"
    ports = {path for path in named if path.startswith("/dev/")}
    assert [port for port in sorted(ports) if not port_is_allowed(port)] == []
    state = f"/var/lib/{SERVICE['StateDirectory'][0]}/"
    etc = f"/etc/{SERVICE['ConfigurationDirectory'][0]}/"
    written = set(WRITTEN.findall(text))
    assert [path for path in sorted(written) if not path.startswith(state)] == []
    others = sorted(named - ports - written)
    assert [path for path in others if not path.startswith((state, etc))] == []


def test_it_is_said_who_owns_the_secrets() -> None:
    """They must be readable by the user of the unit, and by nobody else."""
    user = SERVICE["User"][0]
    command = f"install -m 0600 -o {user} -g {user} grafana-password /etc/meterd/grafana-password"
    assert command in UNIT.read_text()
    assert command in (CONFIG.parent / "docs" / "security.md").read_text()
    assert f"chown {user} FILE && chmod 600 FILE" in (CONFIG / "meterd.yaml").read_text()


def test_system_calls_sockets_and_resources_are_limited() -> None:
    assert SERVICE["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert SERVICE["RestrictAddressFamilies"] == ["AF_INET AF_INET6 AF_UNIX"]
    assert SERVICE["ProcSubset"] == ["pid"]
    assert {"MemoryMax", "TasksMax", "LimitNOFILE"} <= set(SERVICE)


@pytest.mark.needs("systemd-analyze")
def test_systemd_itself_finds_the_sandbox_tight() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=15", str(UNIT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def test_the_udev_rule_names_a_tty() -> None:
    lines = (CONFIG / "70-meterd.rules").read_text().splitlines()
    (rule,) = [line for line in lines if line and not line.startswith("#")]
    parts = [part.strip() for part in rule.split(",")]
    assert parts[0] == 'SUBSYSTEM=="tty"'
    assert 'SYMLINK+="meterd-ups"' in parts
    assert all("=" in part and part.endswith('"') for part in parts)


def test_the_commands_that_it_begins_with_lead_to_what_it_names() -> None:
    head = [line[6:] for line in UNIT.read_text().splitlines() if line.startswith("#     ")]
    text = "\n".join(head[: head.index("systemctl daemon-reload && systemctl enable --now meterd")])
    (start,) = SERVICE["ExecStart"]
    program, *_, configuration = start.split()
    assert f"venv {program.removesuffix('/bin/meterd')} " in text
    # -D makes /etc/meterd, which is not there before.
    assert f"install -D -m 0640 -g meterd meterd.yaml {configuration}" in text
    assert "config/meterd.service /etc/systemd/system/meterd.service" in text
    assert SERVICE["User"] == [next(line for line in head if "useradd" in line).split()[-1]]
