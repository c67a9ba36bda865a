"""One Megatec UPS: the status line each time, ratings and names once, orders when asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from meterd.drivers.backoff import RetryPause, loop_time
from meterd.drivers.megatec.battery import Battery, State
from meterd.drivers.megatec.commands import orders
from meterd.drivers.megatec.lines import (
    MEGATEC,
    MUSTEK,
    Dialect,
    Status,
    cut_info,
    cut_ratings,
    cut_status,
    number,
    unknown,
)
from meterd.drivers.megatec.options import MegatecOptions
from meterd.drivers.megatec.reply_filter import ReplyFilter
from meterd.drivers.megatec.status import Letters
from meterd.errors import DeviceCode, DeviceError, LinkCode, LinkError, ProtocolError, Unsupported
from meterd.model.sample import Quality, Reading
from meterd.wire.link import Link
from meterd.wire.megatec import tell

_DIALECTS = {"auto": (MEGATEC, MUSTEK), "megatec": (MEGATEC,), "mustek": (MUSTEK,)}
# Seconds before a question that met silence is first asked again: it costs its timeout.
FIRST_PAUSE_SILENT_S = 60.0
# After so many polls in a row without a status it may be another unit, in another dialect.
MISSED_POLLS = 3
# Q1 or QS and its answer, each with the CR.
_REQUEST_SIZE, _STATUS_SIZE = 3, 47
# What units without a thermometer send.
_NO_THERMOMETER = (0.0, 25.0)


@dataclass(slots=True)
class _UpsQuery:
    """Something asked until it is answered; what came stays until it may be another unit."""

    command: str
    settled: bool = False
    backoff: RetryPause = field(default_factory=RetryPause)
    readings: list[Reading] = field(default_factory=list)


class MegatecUps:
    """A UPS behind a serial port. Polls ask Q1 or QS, F and I; only `act` makes it act."""

    Options: ClassVar[type[Any]] = MegatecOptions
    LINK_DEFAULTS: ClassVar[Mapping[str, str]] = {
        "baud": "2400",
        "bytes": "8",
        "parity": "N",
        "stop": "1",
        "dtr": "1",
        "rts": "0",
    }

    def __init__(
        self,
        link: Link,
        options: MegatecOptions,
        *,
        monotonic: Callable[[], float] = loop_time,
    ) -> None:
        self._link = link
        self._dialects = _DIALECTS[options.protocol]
        self._dialect: Dialect | None = None
        self._epoch = link.epoch
        self._missed = 0
        # When the dialect of first choice is tried again, while another one is spoken.
        self._first_choice = RetryPause()
        self._ratings = _UpsQuery("F", settled=not options.ratings)
        self._names = _UpsQuery("I", settled=not options.vendor)
        self._asked = [q for q in (self._ratings, self._names) if not q.settled]
        self._letters = Letters(ignore_shutdown_bit=options.ignore_shutdown_bit)
        self._battery = Battery(options.battery, options.runtimecal)
        self._monotonic = monotonic
        self._own_nominal = options.battery.nominal is not None
        self._thermometer = False
        self._hearing = ReplyFilter(link)
        self._orders = orders(options)

    @staticmethod
    def link_defaults(options: MegatecOptions) -> Mapping[str, str]:
        """The serial settings that the protocol's documents ask for."""
        return MegatecUps.LINK_DEFAULTS

    def traffic(self) -> list[tuple[int, int]]:
        """Bytes sent and received by each request of one poll: the status line alone."""
        return [(_REQUEST_SIZE, _STATUS_SIZE)]

    def quantities(self) -> frozenset[str]:
        """What it may deliver, by what is configured; the unit may say less."""
        rated = self._ratings in self._asked
        tables = [each.status for each in self._dialects]
        tables += [each.ratings for each in self._dialects] if rated else []
        said = {field.quantity for table in tables for field in table}
        return frozenset(
            (*said, *self._battery.quantities(rated=rated), *self._letters.quantities())
        )

    @property
    def commands(self) -> Sequence[str]:
        """What `act` can do, by NUT's names."""
        return tuple(self._orders)

    async def read(self) -> list[Reading]:
        """Raises LinkError when the unit is silent or garbled, Unsupported when it refuses."""
        dialect, status = await self._meet()
        await self._once(self._ratings, lambda line: cut_ratings(line, dialect))
        await self._once(self._names, cut_info)
        await self._try_first_choice()
        return self._readings(dialect, status)

    async def act(self, command: str) -> None:
        """Send one of `commands`, once. Nothing is sent to a unit that does not give its status.

        Raises Unsupported when the unit refuses, DeviceError when a test could drop the load,
        LinkError when it is silent before or nobody can say whether it was taken.
        """
        order = self._orders[command]
        dialect, before = await self._meet()
        order.check(before)
        try:
            await tell(self._link, order.command)
        except (DeviceError, ProtocolError):
            if not order.shows(before, await self._ask_status(dialect)):
                raise
        if order.shuts_down:
            self._letters.ordered(before)

    async def _meet(self) -> tuple[Dialect, Status]:
        """The status, and in which dialect: found out again after a reopening.

        Where the unit is away, all dialects are asked at each third poll only.
        """
        if self._link.epoch != self._epoch:
            self._dialect = None
        before = self._dialect
        if self._missed and not self._missed % MISSED_POLLS:
            self._dialect = None
        try:
            dialect, status = await self._status()
        except (LinkError, DeviceError):
            self._missed += 1
            self._dialect = before
            raise
        if self._link.epoch != self._epoch or self._missed >= MISSED_POLLS:
            self._meet_anew()
        self._missed = 0
        return dialect, status

    def _meet_anew(self) -> None:
        """The link was reopened, or the unit was away: perhaps it is another one."""
        self._epoch = self._link.epoch
        self._letters.meet_anew()
        self._thermometer = False
        for question in self._asked:
            question.settled = False
            question.backoff.reset()

    async def _status(self) -> tuple[Dialect, Status]:
        if self._dialect is not None:
            return self._dialect, await self._ask_status(self._dialect)
        failure: LinkError | None = None
        refusal: Unsupported | None = None
        for dialect in self._dialects:
            try:
                status = await self._try_status(dialect)
            except Unsupported as error:
                refusal = error
            except LinkError as error:
                if not _passing(error):
                    raise
                failure = failure or error
            else:
                self._dialect = dialect
                self._first_choice.reset()
                self._first_choice.failed(self._monotonic(), FIRST_PAUSE_SILENT_S)
                return dialect, status
        if failure is None and len(self._dialects) > 1:
            text = "the unit knows neither Q1 nor QS: it speaks another protocol"
            raise Unsupported(text, code=DeviceCode.UNSUPPORTED) from refusal
        raise failure or refusal or AssertionError("there is at least one dialect")

    async def _try_status(self, dialect: Dialect) -> Status:
        """Asks again after garbage: the first answer of a fresh line often is."""
        try:
            return await self._ask_status(dialect)
        except ProtocolError:
            return await self._ask_status(dialect)

    async def _ask_status(self, dialect: Dialect) -> Status:
        return await self._hearing.ask(
            dialect.command, b"(", lambda line: cut_status(line, dialect)
        )

    async def _once(self, question: _UpsQuery, cut: Callable[[str], list[Reading]]) -> None:
        now = self._monotonic()
        if question.settled or now < question.backoff.due:
            return
        try:
            question.readings = await self._hearing.ask(question.command, b"#", cut)
            question.settled = True
        except Unsupported:
            question.readings = []
            question.backoff.failed(now)
        except LinkError as error:
            if not _passing(error):
                raise
            question.backoff.failed(now, FIRST_PAUSE_SILENT_S)

    async def _try_first_choice(self) -> None:
        """One answer that was lost, or refused while the unit started, is no reason for ever."""
        first, now = self._dialects[0], self._monotonic()
        if self._dialect in (None, first) or now < self._first_choice.due:
            return
        try:
            await self._ask_status(first)
        except (LinkError, DeviceError) as error:
            if isinstance(error, LinkError) and not _passing(error):
                raise
            self._first_choice.failed(now, FIRST_PAUSE_SILENT_S)
        else:
            self._dialect = first
            self._meet_anew()

    def _readings(self, dialect: Dialect, status: Status) -> list[Reading]:
        said = dict(status.fields)
        del said["battery.voltage"]
        rated = {reading.quantity: reading for reading in self._ratings.readings}
        nominal = rated.get("battery.voltage.nominal")
        if self._own_nominal:
            rated.pop("battery.voltage.nominal", None)
        said["ups.temperature"] = self._temperature(said["ups.temperature"])
        if dialect is MEGATEC:
            said["input.frequency"] = _input_frequency(status)
        return [
            *said.values(),
            *self._battery.read(self._state(status), number(nominal) if nominal else None),
            *self._letters.read(status),
            *rated.values(),
            *self._names.readings,
        ]

    def _state(self, status: Status) -> State:
        return State(
            voltage=status.fields["battery.voltage"],
            fine=status.fine,
            load=status.value("ups.load"),
            drains=status.bit(7) or status.bit(2),
            time=self._monotonic(),
        )

    def _temperature(self, said: Reading) -> Reading:
        """Fillers look like temperatures; they count once another value proved a thermometer."""
        value = number(said)
        if value is not None and value not in _NO_THERMOMETER:
            self._thermometer = True
        if value is None or self._thermometer:
            return said
        reason = f"{value:.1f} is what units without a thermometer send"
        if value == 0:
            return unknown("ups.temperature", "°C", reason)
        return said._replace(reason=reason, quality=Quality.SUSPECT)


def _input_frequency(status: Status) -> Reading:
    """Some units show the output's frequency in this field."""
    said = status.fields["input.frequency"]
    if status.bit(7):
        reason = "on battery the unit shows what it makes itself"
        return unknown("input.frequency", "Hz", reason)
    if number(said) == 0:
        return unknown("input.frequency", "Hz", "the unit says 0 Hz while on mains")
    return said


def _passing(error: LinkError) -> bool:
    """Whether the line still is there, and only this answer was not."""
    return isinstance(error, ProtocolError) or error.code == LinkCode.TIMEOUT
