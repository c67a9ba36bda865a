"""What an idle daemon does not need, it does not load: numpy takes 12 MiB, alembic 11."""

import subprocess
import sys

_PROBE = """
import sys
import meterd.cli.run
import meterd.cli.servers
import meterd.api.app
import meterd.daemon.site
print(*sorted({"numpy", "alembic", "promql_parser"} & sys.modules.keys()))
"""


def test_a_daemon_loads_numpy_alembic_and_the_parser_when_they_are_needed() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _PROBE], check=True, capture_output=True, text=True, timeout=60
    )
    assert run.stdout.split() == []
