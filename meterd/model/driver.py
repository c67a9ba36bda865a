"""What a driver is: the one method that each has, and the capabilities that it may have besides.

A capability is a Protocol of its own, and a driver has it whose object has its members: there is
nothing to inherit and nothing to register. `isinstance(driver, Commands)` asks for one; who polls
asks when the driver was built, not at each poll.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from meterd.model.event import Notice
from meterd.model.sample import CounterRegister, Reading

# The most that one poll may take: a driver that takes longer hangs, and its poll is cancelled.
POLL_LIMIT_S = 120.0
# The keys of a device in meterd.yaml that are not its driver's, so that no Options may have them.
DEVICE_KEYS = frozenset(
    {"driver", "link", "interval", "direction", "labels", "enabled", "timeout", "commands"}
)


@runtime_checkable
class Driver(Protocol):
    """What a device means by its bytes. No loop, no retry, no clock, no logging of failures.

    A driver class is found by its entry point in the group `meterd.drivers` and built as
    `DriverClass(link, options)`, one object for each device. The class has `Options`, a pydantic
    model of the device's keys in meterd.yaml that are its own. Capabilities of the class are
    BuildsItself, LinkDefaults and ValueNames, of its options LimitsPower and SlowTier, of its
    objects Commands, Notices, CounterRegisters, Quantities, UnitAddress, ExchangeTimeout,
    RequestSizes and Closes.
    """

    async def read(self) -> Sequence[Reading]:
        """Ask the device for everything. Raises LinkError or DeviceError."""


# -- of a driver's class ---------------------------------------------------------------------------


class DriverClass(Protocol):
    """What an entry point in the group `meterd.drivers` leads to."""

    Options: ClassVar[type[Any]]
    """A pydantic model: the keys of a device in meterd.yaml that are this driver's own."""

    def __call__(self, link: Any, options: Any) -> Driver:
        """The driver of one device. It must not talk to the device yet."""


@runtime_checkable
class BuildsItself(Protocol):
    """A class whose driver depends on more than link and options; called in its place."""

    build: Callable[..., Driver]
    """`build(link, options, *, interval)`, static; the device is polled each `interval` seconds."""


@runtime_checkable
class LinkDefaults(Protocol):
    """A class that knows how its device comes from the maker."""

    link_defaults: Callable[[Any], Mapping[str, str]]
    """`link_defaults(options)`, static: options of the link's URL that the user may leave out."""


@runtime_checkable
class ValueNames(Protocol):
    """A class that knows what the numbers of its enumerated quantities mean."""

    states: Callable[[Any], Mapping[str, Mapping[int, str]]]
    """`states(options)`, static: by quantity and number."""


# -- of a driver's options -------------------------------------------------------------------------


@runtime_checkable
class LimitsPower(Protocol):
    """Options that say how much can flow where the device measures."""

    @property
    def max_power(self) -> float | None:
        """In W; what is more is no value. None: nobody knows."""


@runtime_checkable
class SlowTier(Protocol):
    """Options of a driver that reads some values more rarely than at each poll."""

    @property
    def slow(self) -> float:
        """How often, in seconds; counters may be so old when they are looked at."""


# -- of a driver's object --------------------------------------------------------------------------


@runtime_checkable
class Commands(Protocol):
    """A driver that can make its device act."""

    @property
    def commands(self) -> Collection[str]:
        """Their names, as in `test.battery.start`."""

    async def act(self, command: str) -> None:
        """Do it, once. Never called during a poll. Raises LinkError or DeviceError."""


@runtime_checkable
class Notices(Protocol):
    """A driver that notices more than values."""

    @property
    def notices(self) -> list[Notice]:
        """What was noticed since the last poll; each becomes an event and is taken out."""


@runtime_checkable
class CounterRegisters(Protocol):
    """A driver that knows how its counters count, so that their rollover is no reset."""

    def counters(self) -> Sequence[CounterRegister]:
        """One for each counter. An `x.` quantity among them is a counter, too."""


@runtime_checkable
class Quantities(Protocol):
    """A driver that knows what it may deliver; `meterd check` tells of alert rules for others."""

    def quantities(self) -> Collection[str]:
        """The names of all quantities that `read` may give."""


@runtime_checkable
class UnitAddress(Protocol):
    """A driver of one of several devices on a bus."""

    @property
    def unit(self) -> int:
        """Which unit of the link it asks; two devices with the same one are one."""


@runtime_checkable
class ExchangeTimeout(Protocol):
    """A driver that learns how long its device takes."""

    @property
    def timeout(self) -> float:
        """What one exchange may take at most now, in seconds."""


@runtime_checkable
class RequestSizes(Protocol):
    """A driver whose share of its bus can be computed before it is polled."""

    def traffic(self) -> Sequence[tuple[int, int]]:
        """Bytes sent and received by each request of an ordinary poll."""


@runtime_checkable
class Closes(Protocol):
    """A driver that holds something beside its link: a session, a port, a library's handle."""

    async def close(self) -> None:
        """Let go of it. The device is polled no more, or the next `read` opens it again."""
