"""A store with some days in it."""

from pathlib import Path

import pytest

from tests.cli.stores import Site


@pytest.fixture
def empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    """There is no store yet."""
    return Site(tmp_path, capsys)


@pytest.fixture
def site(empty: Site) -> Site:
    empty.fill()
    return empty
