"""References between sections: drivers, links, devices and hooks by name.

It checks the YAML tree, not Settings, so that a file with other mistakes is checked, too.
"""

import re
from collections.abc import Collection, Iterator

from meterd.config.alerts import CONDITIONS, condition_flaw
from meterd.config.codes import Code
from meterd.config.explain import show
from meterd.config.names import spelling_hint
from meterd.config.problems import START, Problems
from meterd.config.yaml_tree import Entry, Items, Keys, Node, Scalar, is_unknown


def crosscheck(root: Keys, driver_names: Collection[str], problems: Problems) -> None:
    """Add a problem for each reference to a name that is not defined."""
    devices = entries_at(root, "devices")
    if not devices:
        place = root.entries["devices"].place if "devices" in root.entries else START
        if "devices" not in root.entries or _is_empty(root.entries["devices"].node):
            hint = "add `devices:` with an entry for each meter and UPS"
            problems.add(Code.NO_DEVICES, place, "there are no devices to poll", hint)
    links = entries_at(root, "links")
    for name, device in devices.items():
        _check_driver(name, device.node, driver_names, problems)
        _check_link(name, device.node, links, problems)
    _check_proxy(root, devices, problems)
    _check_alerts(root, devices, problems)


def _check_proxy(root: Keys, devices: Collection[str], problems: Problems) -> None:
    for unit, entry in entries_at(root, "proxy", "devices").items():
        word = entry.node
        if isinstance(word, Scalar) and word.value not in devices:
            what = f"proxy.devices.{unit}: there is no device {show(word)}"
            hint = spelling_hint(str(word.value), devices)
            problems.add(Code.UNKNOWN_DEVICE, word.place, what, hint)


def _check_alerts(root: Keys, devices: Collection[str], problems: Problems) -> None:
    hooks = entries_at(root, "alerts", "hooks")
    for name, entry in entries_at(root, "alerts", "rules").items():
        where, rule = f"alerts.rules.{name}", entry.node
        _check_condition(where, entry, problems)
        for word in _texts(rule, "device"):
            if word.value not in devices:
                what = f"{where}.device: there is no device {show(word)}"
                hint = spelling_hint(str(word.value), devices)
                problems.add(Code.UNKNOWN_DEVICE, word.place, what, hint)
        for word in _texts(rule, "notify"):
            if word.value not in hooks:
                what = f"{where}.notify: there is no hook {show(word)}"
                hint = spelling_hint(str(word.value), hooks) or "add it to `alerts: hooks:`"
                problems.add(Code.UNKNOWN_HOOK, word.place, what, hint)


def entries_at(root: Node, *path: str) -> dict[str, Entry]:
    """The entries of the mapping at this path; empty where no mapping is there."""
    node: Node = root
    for step in path:
        if not isinstance(node, Keys) or step not in node.entries:
            return {}
        node = node.entries[step].node
    return node.entries if isinstance(node, Keys) else {}


def text_at(node: Node, key: str) -> Scalar | None:
    """The scalar of a key; None where it is absent or no text."""
    entry = entries_at(node).get(key)
    scalar = entry.node if entry else None
    return scalar if isinstance(scalar, Scalar) and isinstance(scalar.value, str) else None


def _is_empty(node: Node) -> bool:
    return isinstance(node, Keys) or _is_null(node)


def _check_driver(name: str, device: Node, drivers: Collection[str], problems: Problems) -> None:
    driver = text_at(device, "driver")
    if driver is None or not driver.value or driver.value in drivers:
        return
    what = f"devices.{name}.driver: there is no driver {show(driver)}"
    problems.add(Code.UNKNOWN_DRIVER, driver.place, what, spelling_hint(str(driver.value), drivers))


def _check_link(name: str, device: Node, links: Collection[str], problems: Problems) -> None:
    link = text_at(device, "link")
    if link is None or "://" in str(link.value) or link.value in links:
        return
    word = str(link.value)
    hint = spelling_hint(word, links)
    if link.source:
        hint = ""
    elif re.match(r"/dev/", word):
        hint = f"write serial://{word}"
    elif re.fullmatch(r"[\w.-]+\.[\w.-]+(:\d+)?|[\w.-]+:\d+", word):
        hint = f"write tcp://{word}"
    elif not links:
        hint = "add it to `links:`, or write a URL such as tcp://192.0.2.7:502"
    what = f"devices.{name}.link: {show(link)} is neither in links: nor a URL"
    problems.add(Code.UNKNOWN_LINK, link.place, what, hint)


def _check_condition(where: str, entry: Entry, problems: Problems) -> None:
    # RuleSettings checks this too, but only where all of the rule's values are valid.
    if not isinstance(entry.node, Keys):
        return
    nodes = {key: child.node for key, child in entry.node.entries.items() if key in CONDITIONS}
    if any(is_unknown(node) for node in nodes.values()):
        return
    given = [key for key in CONDITIONS if key in nodes and not _is_null(nodes[key])]
    if flaw := condition_flaw(given):
        problems.add(flaw.code, entry.place, f"{where}: {flaw.what}", flaw.hint)


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def _texts(rule: Node, key: str) -> Iterator[Scalar]:
    """The text scalars of a key that takes one text or a list of texts."""
    entry = entries_at(rule).get(key)
    if entry is None:
        return
    for node in entry.node.nodes if isinstance(entry.node, Items) else (entry.node,):
        if isinstance(node, Scalar) and isinstance(node.value, str):
            yield node
