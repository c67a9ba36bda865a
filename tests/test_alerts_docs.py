"""docs/alerts.md is right: its configuration is understood, its limits are those of the code."""

import json
import re
from pathlib import Path

import meterd
from meterd.alerts.hooks.notification import Notification
from meterd.alerts.hooks.webhook import QUEUE_LIMIT, Backoff, body
from meterd.alerts.rule_states import RESOLVED_KEEP_S
from meterd.config.alerts import HookSettings, RuleSettings
from meterd.daemon import self_monitoring
from meterd.model.alert import Alert, AlertState
from tests.config.judge import settings

DOCS = Path(meterd.__file__).parent.parent / "docs"
PAGE = (DOCS / "alerts.md").read_text("utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def test_its_configuration_is_understood() -> None:
    text = "devices: {main: {driver: meter, link: 'tcp://h', map: m}}\n" + block("yaml")
    made = settings(text).alerts
    assert list(made.rules) == ["on-battery", "overvoltage", "battery-low", "gone"]
    assert made.rules["on-battery"].clear_for == 30.0


def test_its_json_is_what_is_sent() -> None:
    said = json.loads(block("json"))
    alert = Alert(
        said["id"],
        said["rule"],
        said["device"],
        said["quantity"],
        AlertState(said["state"]),
        said["severity"],
        said["value"],
        said["unit"],
        1_795_255_200_000,
        1_795_255_205_000,
    )
    assert json.loads(body(Notification(alert, said["site"], said["text"], said["labels"]))) == said


def test_it_names_every_key_state_and_own_rule() -> None:
    keys = {field.alias or name for name, field in RuleSettings.model_fields.items()}
    keys |= set(HookSettings.model_fields)
    states = set(AlertState) - {AlertState.INACTIVE}
    assert [word for word in sorted(keys | states) if not re.search(rf"\b{word}\b", PAGE)] == []
    assert [rule.name for rule in self_monitoring.rules([]) if f"`{rule.name}`" not in PAGE] == []


def test_its_limits_are_those_of_the_code() -> None:
    assert f"{QUEUE_LIMIT:,} notices" in PAGE
    assert RESOLVED_KEEP_S == 15 * 60
    assert (Backoff().first, Backoff().longest) == (1, 300)
    assert HookSettings.model_fields["timeout"].default == 10


def test_what_it_links_to_is_there() -> None:
    for file, anchor in re.findall(r"\]\(([a-z.]+)#([a-z-]+)\)", PAGE):
        heads = re.findall(r"^#+ (.*)$", (DOCS / file).read_text("utf-8"), re.MULTILINE)
        assert anchor in {head.lower().replace(" ", "-") for head in heads}
