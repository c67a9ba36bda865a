"""The pytest plug-in, by entry point `pytest11`: fixtures for the tests of drivers and maps.

pytest imports it in every run where meterd is installed, so it imports what it needs when a fixture
is asked for.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from meterd.testing.running_site import RunningSite


@pytest.fixture
def meterd_site(tmp_path: Path) -> "Callable[[str], AbstractAsyncContextManager[RunningSite]]":
    """Starts a site from the text of a meterd.yaml; its store is a new one in `tmp_path`.

    async with meterd_site("devices: {hall: {driver: shelly, link: …}}") as site:
        poll = await site.poll("hall")
    """
    from meterd.testing.running_site import running_site

    return lambda text: running_site(text, tmp_path)
