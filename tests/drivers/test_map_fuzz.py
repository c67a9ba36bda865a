"""Maps with anything wrong in them: each is read, or refused with its mistakes, and never worse."""

import ast
import json
import re
from collections.abc import Iterable, Iterator
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from meterd.drivers import map_check
from meterd.drivers.blocks import Block
from meterd.drivers.map_file import parse, places
from meterd.drivers.map_library import shipped
from meterd.drivers.planner import plan, unplannable
from meterd.drivers.registers import RegisterMap
from meterd.errors import ConfigError, Problem

# ruff: noqa: E501 (rows of maps)
EVERY_KEY = """\
source: Acme 3000 Modbus manual, revision 7
confidence: high
maker: Acme
model: Acme-50K
aliases: [acme_3001]
defaults: {unit: 7, serial: 9600 8E1, tcp: 502, gap: 20ms}
limits: {max_registers: 60, bridge: 2, align: 1, unreadable: [[500, 510]]}
max_power: 50000
positive: export
instances: {count: 12, step: 1000}
wake: [{function: 6, address: 100, values: [1]}, {function: 16, address: 101, values: [1, 2]}]
remark: The CT ratio is in register 40.
rows:
  voltage.l1: {function: 4, address: 0, type: f32, unit: V, na: [1e20]}
  current.l1: {function: 4, address: 2, type: s16, scale: "@9*0.001", unit: A, na: [[0x7FF0, 0x7FFF]]}
  current.l2: {function: 4, address: 3, type: s16, scale: "@3000", unit: A}
  active_power: {function: 3, words: [625, 690], word_order: little, type: s32, unit: W}
  reactive_power: {function: 3, address: 8, type: u32, unit: var, sign: {address: 10, negative: 1}}
  apparent_power: {function: 3, address: 12, type: u16, multiply: ["@40", {address: 42, type: f32}], divide: "@41", unit: VA}
  active_energy.import: {type: u16, unit: kWh, sum: [{function: 4, address: 20, type: u32, unit: kWh}, {function: 3, address: 904, unit: Wh}], tier: slow}
  active_energy.export.ch13: {function: 3, address: 50, type: u64, word_order: [3, 4, 1, 2], scale: 0.1, unit: kWh, wrap: 1000000000}
  frequency.l2: {function: 3, address: 60, type: e8u24, unit: Hz, offset: 0.5}
  power_factor: {function: 3, address: 62, type: s16, scale: 0.1, unit: '%'}
  relay: {function: 2, address: 3, type: bits, enum: {0: off, 1: on}}
  alarm: {function: 3, address: 70, type: bits, bit: 3, optional: true, alone: true, common: true}
  info.model: {function: 3, address: 80, type: str, count: 4, byte_order: little, tier: static}
  x.pulses: {function: 3, address: 90, type: m10k, count: 3, kind: counter, max_rate: 100, note: at 12}
"""
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 65535, 65536, 10**30, -(10**30), 0.5, -0.0, 1e308, 1e-308,
    float("inf"), float("nan"), "", " ", "x", "@", "@5", "@99999", "@5*1e999", "0x10", "ff", "l1", "\u0000", "\ud7ff",
    "1e5", "2020-01-01", "NaN", "..", "big", "s32", "kWh", "W", [], [[]], [1], [1, 2], [2, 1], [1, 1], [3, 4, 1, 2],
    [None], [[1, 2]], ["@5"], {}, {"address": 5}, {"address": [5]}, {"address": 5, "type": "f32"}, [{"address": 5}],
    [{"address": 1}, {"address": 2}], {1: 2}, {"a": {"b": []}},
)  # fmt: skip


def checked(text: str) -> RegisterMap | None:
    """All that `meterd maps --check` does, and one poll of zeros, of ones and of nothing far."""
    refused: tuple[Problem, ...] = ()
    found: RegisterMap | None
    try:
        found = parse(text, "own", "own.yaml")
    except ConfigError as error:
        found, refused = None, error.problems
    assert all(problem.line > 0 and problem.what for problem in refused)
    if found is None:
        assert refused
        return None
    where = places(text, "own.yaml")
    map_check.problems(found, "own.yaml", where)
    assert all(map(str, map_check.map_warnings(found, "own.yaml", where)))
    map_check.requests(found)
    map_check.requests_with_bridge(found)
    if not unplannable(found):
        for block in plan(found, found.rows):
            asked(block)
    return found


def asked(block: Block) -> None:
    for byte in (b"\0", b"\xff", b"\x01"):
        readings = block.decode(byte * 2 * block.words)
        assert len(readings) == len(block.rows)
        assert all(one.value is not None or one.reason for one in readings)


def paths(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, dict | list):
        children = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in children:
        yield (*path, key)
        yield from paths(child, (*path, key))


def written(data: Any) -> str:
    """Flow style: JSON is YAML, but for the numbers that it lacks."""
    text = json.dumps(data, ensure_ascii=False)
    return text.replace("Infinity", ".inf").replace("NaN", ".nan")


TESTS = Path(__file__).parents[1]
BASE = YAML(typ="safe", pure=True).load(EVERY_KEY)
PATHS = list(paths(BASE))
KEYS = sorted({path[-1] for path in PATHS if isinstance(path[-1], str)})


@st.composite
def mutated(draw: st.DrawFn) -> str:
    data = deepcopy(BASE)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(PATHS))
        node = data
        try:
            for key in path[:-1]:
                node = node[key]
            how = draw(st.sampled_from(("put", "put", "drop", "rename", "swap")))
            if how == "put":
                node[path[-1]] = deepcopy(draw(st.sampled_from(ODD)))
            elif how == "drop":
                del node[path[-1]]
            elif how == "rename":
                node[draw(st.sampled_from(KEYS))] = node.pop(path[-1])
            else:
                other = draw(st.sampled_from(PATHS))
                node[path[-1]] = deepcopy(BASE[other[0]])
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # an earlier mutation took it away
    return written(data)


@st.composite
def garbled(draw: st.DrawFn) -> str:
    """Text with pieces cut out, doubled, or put in."""
    text = EVERY_KEY
    pieces = st.sampled_from(
        ["\t", "{", "}", "[", "]", ": ", "- ", "&a ", "*a", "<<: *a", "!!set ", "!!binary ", "? ", "|\n", "#", "'", '"',
         "!!python/object:os.system ", "!!float ", "2020-01-01", "\u2028", "\ufeff", "---\n", "...\n", "%YAML 1.1\n", ",", "0o7", "~"]
    )  # fmt: skip
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        length = draw(st.integers(0, 12))
        text = text[:at] + draw(st.one_of(st.just(""), pieces)) + text[at + length :]
    return text


ANY_MAP = st.one_of(mutated(), mutated(), garbled())
QUICK = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def test_the_map_that_is_mutated_has_every_key_and_no_mistake() -> None:
    found = checked(EVERY_KEY)
    assert found is not None
    assert len(found.rows) == len(BASE["rows"])
    assert not unplannable(found)


@QUICK
@given(ANY_MAP)
def test_no_map_is_worse_than_refused(text: str) -> None:
    checked(text)


@pytest.mark.long
@settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(ANY_MAP)
def test_no_map_of_many_is_worse_than_refused(text: str) -> None:
    checked(text)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_map_can_be_checked(name: str) -> None:
    text = (files("meterd.drivers") / "maps" / f"{name}.yaml").read_text("utf-8")
    assert checked(text) is not None


def of_tests() -> list[str]:
    """Maps that other tests have as whole texts, and those in files."""
    paths = [*(TESTS.parent / "config").rglob("*.yaml"), *TESTS.rglob("*.yaml")]
    found = [path.read_text("utf-8") for path in paths]
    for path in sorted(TESTS.rglob("test_*.py")):
        nodes = ast.walk(ast.parse(path.read_text("utf-8")))
        constants = (node.value for node in nodes if isinstance(node, ast.Constant))
        found += [text for text in constants if isinstance(text, str)]
    return [text for text in found if re.search(r"^rows:", text, re.MULTILINE)]


def test_every_map_of_the_tests_can_be_checked() -> None:
    texts = of_tests()
    assert len(texts) > 10
    assert [text for text in texts if checked(text) is not None]
