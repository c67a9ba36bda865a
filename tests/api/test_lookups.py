"""Names in queries: what a site or the catalogue knows, and what nobody does."""

import pytest

from meterd.api import lookups
from meterd.api.problem import ApiRefusal


def test_a_quantity_is_known_at_any_place() -> None:
    lookups.need_quantities(["frequency.l2", "active_power.ch13.l2", "x.mine"], ["x.mine"])


@pytest.mark.parametrize("name", ["frequency.l7", "active_energy.import.l1.t5", "x.other"])
def test_what_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(ApiRefusal):
        lookups.need_quantities([name], ["x.mine"])
