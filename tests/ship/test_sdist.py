"""The source archive: everything that git has, so that a distribution builds and tests from it."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What the build writes itself.
MADE = {"PKG-INFO"}


def tracked() -> set[str]:
    """What git has or would take, as far as it is there; skips where this is no checkout."""
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("needs a git checkout")
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}


@pytest.mark.needs("git")
def test_it_holds_every_file_of_the_checkout_and_nothing_else(tmp_path: Path) -> None:
    expected = tracked()
    command = (sys.executable, "-m", "hatchling", "build", "--target", "sdist", "-d", str(tmp_path))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("meterd-*.tar.gz")
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    assert held - MADE == expected
