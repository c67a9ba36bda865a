"""A store with some days in it."""

from pathlib import Path

import pytest

from tests.cli.stores import Site


@pytest.fixture
def empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    """There is no store yet."""
    return Site(tmp_path, capsys)


@pytest.fixture(scope="module")
def filled() -> list[Site]:
    """What the first test of a file has filled, as it was then."""
    return []


@pytest.fixture
def site(
    empty: Site,
    filled: list[Site],
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> Site:
    if not filled:
        first = Site(tmp_path_factory.mktemp("filled"), capsys)
        first.fill()
        filled.append(first)
    empty.take_over(filled[0])
    return empty
