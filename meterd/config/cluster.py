"""The `cluster:` section: several meterds on one store, each device polled by one of them."""

from typing import Annotated, Literal

from pydantic import Field

from meterd.config.duration import between
from meterd.config.fields import Section


class ClusterSettings(Section):
    """Leases on devices: how fast another member takes over those of a failed one.

    `lease`, in seconds: a member that does not renew for two of these loses its devices, and
    another member has them before the third has passed. `alone`: whether a member that cannot
    reach the store goes on polling when its leases may have expired.
    """

    lease: Annotated[float, between("1s", "10m")] = 10.0
    name: Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[\w.-]+$")] | None = None
    alone: Literal["poll", "pause"] = "poll"
