"""Whatever stands in a file: Settings or ConfigError, and nothing else."""

import contextlib
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from meterd.config.file_reading import decode
from meterd.config.link_urls import check_link
from meterd.config.load import find, parse
from meterd.config.problems import Problems
from meterd.config.settings import SECTIONS
from meterd.errors import ConfigError
from tests.config.judge import DRIVERS

KEYS = sorted({key for model in SECTIONS.values() for key in model.model_fields})
ODD = (
    "for meter open tcp://h tcp://[::1 5s voltage.l1 webhook http://h 0.0.0.0:1 ${A} ${ url_file "
    "*a &a << !t --- ... %YAML ? - : { } [ ] , # | > \" ' \\ null true .nan 1e999 0x 0o ~ "
    "\u2028 \x85 \ufeff \\UFFFFFFFF"
)
WORDS = [*KEYS, *ODD.split(" "), "\n", "\n  ", "\t", "\r", ": ", "- "]

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(WORDS)
)
keys = st.one_of(st.sampled_from(WORDS), st.text())
trees = st.recursive(
    scalars, lambda t: st.one_of(st.lists(t, max_size=4), st.dictionaries(keys, t, max_size=5))
)


def judge(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse(
            text,
            "m.yaml",
            options_of=DRIVERS.get,
            driver_names=list(DRIVERS),
            environ={"A": "a"},
            folder=Path("/nonexistent"),
        )


@given(st.one_of(st.text(), st.lists(st.sampled_from(WORDS)).map(" ".join)))
@example('"\\UFFFFFFFF"')
@example("%YAML 1.3\n---\na: b")
@example("%YAML 9.9\n---\na: b")
@example("%TAG ! x\n---\n!a b")
@example("a: !<tag:x> b")
@example("? \n")
@example("\ud800")
@example("a: b\n...\nc")
def test_any_text_is_settings_or_a_config_error(text: str) -> None:
    judge(text)


@given(st.binary())
@example(b"\xff\xfe")
def test_any_bytes_are_a_text_or_a_config_error(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        judge(decode(data, Problems("m.yaml")))


def flow(tree: object) -> str:
    """The tree in YAML's flow style; what is odd stays odd."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{flow(k)}: {flow(v)}" for k, v in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(flow, tree)) + "]"
    if isinstance(tree, str):
        return "'" + tree.replace("'", "''") + "'"
    return {None: "null", True: "true", False: "false"}.get(tree, repr(tree))  # type: ignore[call-overload,no-any-return]


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("site", "links", "devices", "store", "api", "alerts"), trees)
    )
)
def test_any_values_under_known_keys_are_settings_or_a_config_error(
    tree: dict[str, object],
) -> None:
    judge(flow(tree))


device = st.dictionaries(
    st.sampled_from([*WORDS[:40], "map", "unit", "battery"]), trees, max_size=6
)


@given(st.dictionaries(st.sampled_from(["a", "B", "m_file"]), device, min_size=1), device)
def test_any_device_and_rule_is_settings_or_a_config_error(
    devices: dict[str, object], rule: dict[str, object]
) -> None:
    for name, values in devices.items():
        assert isinstance(values, dict)
        values.setdefault("driver", "meter" if name == "a" else "open")
    judge(flow({"devices": devices, "alerts": {"rules": {"r": rule}, "hooks": {"h": rule}}}))


@given(st.text())
@example("tcp://[")
@example("tcp://h?%")
def test_a_link_is_right_or_wrong_and_nothing_else(url: str) -> None:
    assert check_link(url) is None or check_link(url)


def test_find_takes_any_environment() -> None:
    assert find({"METERD_CONFIG": "\udcff"}) == Path("\udcff")
