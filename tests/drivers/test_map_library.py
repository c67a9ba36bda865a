"""Maps by name and by path."""

from pathlib import Path

import pytest

from meterd.drivers.map_library import load_map, shipped
from meterd.errors import ConfigError

LONG = """\
rows:
  active_power: {function: 3, address: 2, type: s32, unit: kW}
limits: {max_registers: 1}
"""


def test_a_map_of_ones_own_that_no_request_can_read_is_not_taken(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(LONG)
    with pytest.raises(ConfigError) as caught:
        load_map(str(own))
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.code) == (str(own), 2, "M006")
    assert "needs 2 registers at once" in problem.what


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_bytes("maker: Zähler".encode("latin-1"))
    with pytest.raises(ConfigError, match="save it as UTF-8"):
        load_map(str(own))


def test_other_names_of_a_map_lead_to_it() -> None:
    aliases = {alias: name for name in shipped() for alias in load_map(name).aliases}
    assert not set(aliases) & set(shipped())
    assert all(load_map(alias).name == name for alias, name in aliases.items())
