"""tests/system.sh: where it may install nothing it says what is missing, and fails nobody."""

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "system.sh"


def test_nothing_is_installed_where_that_is_said(tmp_path: Path) -> None:
    called = tmp_path / "called"
    for name in ("apt-get", "sudo"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} >> "{called}"\n')
        program.chmod(0o755)
    path = os.pathsep.join((str(tmp_path), "/usr/bin", "/bin"))
    done = subprocess.run(
        ["sh", str(SCRIPT), "no-such-program:its-package"],
        env={"PATH": path, "METERD_TEST_INSTALL": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert " its-package" in done.stderr
    assert not called.exists()
