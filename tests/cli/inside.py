"""The meterd command inside the test's own process: as fast as its function."""

import pytest

from meterd.cli.main import main
from tests.cli.command import Ended


def inside(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ended:
    """Run a command that needs no loop of the test's own; stdout is no terminal."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    said = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return Ended(ended.value.code, said.out, said.err)
