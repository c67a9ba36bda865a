"""Commands load what they use: a Raspberry Pi pays a second for SQLAlchemy and alembic."""

import subprocess
import sys

import pytest

from tests.cli.command import environment

# Runs a command in this process, then says what it had to load.
_SCRIPT = """
import sys
from meterd.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    print("loaded", *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""
HEAVY = {
    "aiohttp",
    "alembic",
    "numpy",
    "prometheus_client",
    "pydantic",
    "pymodbus",
    "ruamel",
    "serial",
    "sqlalchemy",
}


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (("--version",), set()),
        (("--help",), set()),
        (("maps",), {"ruamel"}),
        (("drivers",), {"pydantic", "pymodbus", "ruamel"}),
        (("poll", "eastron_sdm630@tcp://127.0.0.1:1/1"), {"pydantic", "pymodbus", "ruamel"}),
        (("poll", "megatec@serial:///nowhere"), {"pydantic", "pymodbus", "ruamel", "serial"}),
        (("run", "--help"), {"pydantic", "ruamel"}),
    ],
)
def test_it_loads_no_more_than_it_uses(words: tuple[str, ...], allowed: set[str]) -> None:
    command = [sys.executable, "-c", _SCRIPT, *words]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), check=False, timeout=60
    )
    *_, last = done.stderr.splitlines()
    first, *loaded = last.split()
    assert first == "loaded"
    assert HEAVY & set(loaded) <= allowed
