"""Map files that are no maps at all: one mistake with a place, and no traceback."""

from pathlib import Path

import pytest

from meterd.drivers.map_library import load_map
from meterd.errors import ConfigError


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 20_000,
        b"a: " * 5_000,
        b"%YAML 99999999999.1\n---\nrows: {}\n",
        b'rows: "\\UFFFFFFFF"\n',
        b"\0",
        b"\xff\xfe",
        b"x: " + b"1" * 2_000_000,
        b"",
    ],
    ids=["nested", "nested keys", "version", "escape", "nul", "utf16", "large", "empty"],
)
def test_it_is_a_mistake(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "odd.yaml"
    file.write_bytes(text)
    with pytest.raises(ConfigError) as refused:
        load_map(str(file))
    assert "odd.yaml" in str(refused.value)
