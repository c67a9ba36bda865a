"""The `cluster:` section: several meterds share a store, and each device has one of them."""

from typing import Annotated, Literal

from pydantic import Field

from meterd.config.duration import between
from meterd.config.fields import Section


class ClusterSettings(Section):
    """That the store is shared, and how fast another meterd steps in.

    `lease`, in seconds: who does not renew for two of these has lost its devices, and another
    one has them before the third has passed. `alone`: whether a meterd that cannot reach the
    store goes on polling when its leases may be over.
    """

    lease: Annotated[float, between("1s", "10m")] = 10.0
    name: Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[\w.-]+$")] | None = None
    alone: Literal["poll", "pause"] = "poll"
