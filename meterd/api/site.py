"""What the API needs to know of a running site; the daemon's Site fits it."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from meterd.alerts.engine import Alerts
from meterd.config.settings import Settings
from meterd.model.alert import Alert
from meterd.model.event import Event
from meterd.model.sample import Sink
from meterd.poll.latest import Latest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class LeftOutInfo(Protocol):
    """What a driver does not ask its device for at the moment.

    `most` is how many registers it asks for at once, where the device gives no more. It has been
    so for `lasts` seconds, and is tried again in `again` seconds.
    """

    @property
    def rows(self) -> Sequence[str]: ...
    @property
    def function(self) -> int: ...
    @property
    def registers(self) -> Sequence[int]: ...
    @property
    def most(self) -> int | None: ...
    @property
    def cause(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def lasts(self) -> float: ...
    @property
    def again(self) -> float: ...


class DeviceInfo(Protocol):
    """One device as it is configured. `interval` is in seconds, `link` has no secrets.

    `commands` are those that may be sent to it; `states` tells what the numbers of its enumerated
    quantities mean.
    """

    @property
    def id(self) -> str: ...
    @property
    def driver(self) -> str: ...
    @property
    def model(self) -> str | None: ...
    @property
    def link(self) -> str: ...
    @property
    def interval(self) -> float: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def enabled(self) -> bool: ...
    @property
    def timeout(self) -> float | None: ...
    @property
    def commands(self) -> Sequence[str]: ...
    @property
    def states(self) -> Mapping[str, Mapping[int, str]]: ...
    @property
    def left_out(self) -> Callable[[], Sequence[LeftOutInfo]]: ...


class SeriesInfo(Protocol):
    """One stored series; `first` and `last` are Unix ms, None while it holds nothing."""

    @property
    def device(self) -> str: ...
    @property
    def quantity(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def first(self) -> int | None: ...
    @property
    def last(self) -> int | None: ...


class Points(Protocol):
    """One series' points in time order, as (Unix ms, value); a gap has no points."""

    @property
    def device(self) -> str: ...
    @property
    def quantity(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def points(self) -> Sequence[tuple[int, float | None]]: ...


class Reader(Protocol):
    """Questions to the store and to what waits for its next commit."""

    async def series(self) -> Sequence[SeriesInfo]:
        """Every series. Raises StoreError."""

    async def range(
        self,
        devices: Sequence[str],
        quantities: Sequence[str],
        start: int,
        end: int,
        step: int,
        agg: str,
        edges: Sequence[int] = (),
    ) -> Sequence[Points]:
        """Points with start <= time < end (Unix ms) in buckets of `step` ms; 0: as polled.

        Buckets begin at `edges` (Unix ms) where there are any, else at multiples of `step`.

        Both name lists are explicit, never empty. Raises StoreError: too_much, unavailable.
        """

    def names(self) -> Sequence[SeriesInfo]:
        """Every series; to be called in a thread. Raises StoreError."""

    def columns(
        self,
        names: Sequence[tuple[str, str, str]],
        start: int,
        end: int,
        *,
        most: int | None = None,
    ) -> "Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]]":
        """For each (device, quantity, unit), times with start <= t < end, and values; nulls: NaN.

        To be called in a thread. Raises StoreError: too_much beyond `most` samples, …
        """


class StoreStatus(Protocol):
    """How the store's writer fares; `last_commit` is in Unix seconds, 0 before the first.

    `spooled` samples wait in files, `set_aside` counts database files that were damaged.
    """

    @property
    def writable(self) -> bool: ...
    @property
    def queued(self) -> int: ...
    @property
    def committed(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def spooled(self) -> int: ...
    @property
    def set_aside(self) -> int: ...
    @property
    def last_commit(self) -> float: ...
    @property
    def error(self) -> str: ...


class Site(Protocol):
    """A running site. `started` is in Unix ms.

    `keep_raw`: how long samples stay as they were polled, in seconds; None: for ever.
    """

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def timezone(self) -> str: ...
    @property
    def started(self) -> int: ...
    @property
    def latest(self) -> Latest: ...
    @property
    def elsewhere(self) -> Latest:
        """Of devices that other meterds on the same store poll: what they committed last."""

    @property
    def reader(self) -> Reader: ...

    def devices(self) -> Sequence[DeviceInfo]:
        """Every configured device, in the order of the configuration."""

    def store_status(self) -> StoreStatus: ...

    @property
    def alerting(self) -> Alerts: ...
    @property
    def keep_raw(self) -> float | None: ...

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        """Give every poll to one more sink, until what this returns is called."""

    def alerts(self) -> Sequence[Alert]:
        """Pending and firing alerts, and those resolved a short while ago."""

    async def command(self, device: str, command: str) -> None:
        """Make a device act. Raises LookupError where its driver has no such command, LinkError,
        DeviceError."""

    def events(self) -> Sequence[Event]:
        """What was noticed lately, newest first."""

    def event_counts(self) -> Mapping[tuple[str, str], int]:
        """How many events since the start, by device (empty: meterd's own) and kind."""

    def link_counters(self) -> Mapping[str, Mapping[str, int]]:
        """Link URL -> name of an event -> how often it happened since the start."""

    def ready(self) -> tuple[bool, str]:
        """Whether the store is writable and the first round is done; else why not."""
