"""Rules as they are written become rules that the engine watches."""

from pathlib import Path

import pytest

from meterd.cli.demo import settings
from meterd.daemon import alerting
from meterd.errors import ConfigError

MAP = "rows:\n  x.state: {{function: 3, address: 0, type: u16, enum: {{{states}}}}}\n"
DEVICE = "  {name}: {{driver: modbus, map: {path}, link: 'tcp://127.0.0.1:1', unit: {unit}}}\n"


def watched(folder: Path, equals: str, device: str = "", **states: str) -> float | None:
    """What the rule's quantity must equal; each device has an enumeration of its own."""
    text = "devices:\n"
    for unit, (name, enumeration) in enumerate(states.items(), 1):
        path = folder / f"{name}.yaml"
        path.write_text(MAP.format(states=enumeration))
        text += DEVICE.format(name=name, path=path, unit=unit)
    text += f"alerts: {{rules: {{r: {{quantity: x.state, {device} equals: {equals}}}}}}}\n"
    (rule,) = (one for one in alerting.rules(settings(text)) if one.name == "r")
    return rule.equals


def test_a_state_is_watched_by_its_name(tmp_path: Path) -> None:
    assert watched(tmp_path, "fault", a="0: off, 1: charging, 7: fault") == 7
    assert watched(tmp_path, "7", a="0: off, 1: charging, 7: fault") == 7


def test_of_two_devices_the_rules_own_one_counts(tmp_path: Path) -> None:
    assert watched(tmp_path, "fault", "device: b,", a="2: fault", b="3: fault") == 3
    with pytest.raises(ConfigError, match="is 2 and 3 in different devices"):
        watched(tmp_path, "fault", a="2: fault", b="3: fault")


def test_a_state_that_there_is_not_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"equals: 'broken' .*its states are off, fault"):
        watched(tmp_path, "broken", a="0: off, 2: fault")
