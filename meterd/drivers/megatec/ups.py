"""Driver for Megatec UPSes: polls the status line, reads ratings and names once, sends commands."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from meterd.drivers.backoff import RetryPause, loop_time
from meterd.drivers.megatec.battery import Battery, State
from meterd.drivers.megatec.commands import instant_commands
from meterd.drivers.megatec.options import MegatecOptions
from meterd.drivers.megatec.reply_filter import ReplyFilter
from meterd.drivers.megatec.reply_lines import (
    MEGATEC,
    MUSTEK,
    Dialect,
    Status,
    number,
    parse_info,
    parse_ratings,
    parse_status,
    unknown,
)
from meterd.drivers.megatec.status_bits import Letters
from meterd.errors import DeviceCode, DeviceError, LinkCode, LinkError, ProtocolError, Unsupported
from meterd.model.sample import Quality, Reading
from meterd.wire.link import Link
from meterd.wire.megatec import send_command

_DIALECTS = {"auto": (MEGATEC, MUSTEK), "megatec": (MEGATEC,), "mustek": (MUSTEK,)}
# Seconds before the first repetition of a query without reply: each costs a timeout.
FIRST_PAUSE_SILENT_S = 60.0
# Polls in a row without a status after which another unit, with another dialect, may answer.
MISSED_POLLS_BEFORE_RESET = 3
# Bytes of Q1 or QS and of its reply, each with the CR.
_REQUEST_BYTES, _STATUS_BYTES = 3, 47
# Temperatures that units without a thermometer send, in °C.
_FILLER_TEMPERATURES = (0.0, 25.0)


@dataclass(slots=True)
class _UpsQuery:
    """A query that is repeated with backoff until it is answered; `readings` are its result."""

    command: str
    settled: bool = False
    backoff: RetryPause = field(default_factory=RetryPause)
    readings: list[Reading] = field(default_factory=list)


class MegatecUps:
    """A UPS on a serial port. Polls send Q1 or QS, F and I; only `act` makes the UPS act."""

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
        # Backoff for trying the preferred dialect while another one is in use.
        self._preferred_backoff = RetryPause()
        self._ratings = _UpsQuery("F", settled=not options.ratings)
        self._names = _UpsQuery("I", settled=not options.vendor)
        self._queries = [q for q in (self._ratings, self._names) if not q.settled]
        self._letters = Letters(ignore_shutdown_bit=options.ignore_shutdown_bit)
        self._battery = Battery(options.battery, options.runtimecal)
        self._monotonic = monotonic
        self._own_nominal = options.battery.nominal is not None
        self._thermometer = False
        self._reply_filter = ReplyFilter(link)
        self._commands = instant_commands(options)

    @staticmethod
    def link_defaults(options: MegatecOptions) -> Mapping[str, str]:
        """The serial settings of the protocol's documents."""
        return MegatecUps.LINK_DEFAULTS

    def traffic(self) -> list[tuple[int, int]]:
        """Bytes sent and received by each request of one poll: the status line alone."""
        return [(_REQUEST_BYTES, _STATUS_BYTES)]

    def quantities(self) -> frozenset[str]:
        """All quantities that it may read with these options."""
        rated = self._ratings in self._queries
        tables = [dialect.status for dialect in self._dialects]
        tables += [dialect.ratings for dialect in self._dialects] if rated else []
        names = {field.quantity for table in tables for field in table}
        return frozenset(
            (*names, *self._battery.quantities(rated=rated), *self._letters.quantities())
        )

    @property
    def commands(self) -> Sequence[str]:
        """The commands of `act`, by NUT's names."""
        return tuple(self._commands)

    async def read(self) -> list[Reading]:
        """Raises LinkError when the unit is silent or garbled, Unsupported when it refuses."""
        dialect, status = await self._detect()
        await self._run_query(self._ratings, lambda line: parse_ratings(line, dialect))
        await self._run_query(self._names, parse_info)
        await self._try_preferred()
        return self._readings(dialect, status)

    async def act(self, command: str) -> None:
        """Send one of `commands`, once. Nothing is sent to a unit that does not give its status.

        Raises Unsupported when the unit refuses, DeviceError when a test could drop the load,
        LinkError when it gave no status before, or the outcome is unknown.
        """
        instant_command = self._commands[command]
        dialect, before = await self._detect()
        instant_command.check(before)
        try:
            await send_command(self._link, instant_command.command)
        except (DeviceError, ProtocolError):
            if not instant_command.shows(before, await self._ask_status(dialect)):
                raise
        if instant_command.shuts_down:
            self._letters.shutdown_sent(before)

    async def _detect(self) -> tuple[Dialect, Status]:
        """The status and its dialect, which is detected again after the link was reopened.

        While the unit does not answer, all dialects are tried at each third poll only.
        """
        if self._link.epoch != self._epoch:
            self._dialect = None
        before = self._dialect
        if self._missed and not self._missed % MISSED_POLLS_BEFORE_RESET:
            self._dialect = None
        try:
            dialect, status = await self._status()
        except (LinkError, DeviceError):
            self._missed += 1
            self._dialect = before
            raise
        if self._link.epoch != self._epoch or self._missed >= MISSED_POLLS_BEFORE_RESET:
            self._reset()
        self._missed = 0
        return dialect, status

    def _reset(self) -> None:
        """The link was reopened, or the unit was away: reset what was learned of it."""
        self._epoch = self._link.epoch
        self._letters.reset()
        self._thermometer = False
        for query in self._queries:
            query.settled = False
            query.backoff.reset()

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
                if not _is_transient(error):
                    raise
                failure = failure or error
            else:
                self._dialect = dialect
                self._preferred_backoff.reset()
                self._preferred_backoff.failed(self._monotonic(), FIRST_PAUSE_SILENT_S)
                return dialect, status
        if failure is None and len(self._dialects) > 1:
            text = "the unit knows neither Q1 nor QS: it speaks another protocol"
            raise Unsupported(text, code=DeviceCode.UNSUPPORTED) from refusal
        raise failure or refusal or AssertionError("there is at least one dialect")

    async def _try_status(self, dialect: Dialect) -> Status:
        """The status; repeated after a garbled reply, as the first one on a new line often is."""
        try:
            return await self._ask_status(dialect)
        except ProtocolError:
            return await self._ask_status(dialect)

    async def _ask_status(self, dialect: Dialect) -> Status:
        return await self._reply_filter.query(
            dialect.command, b"(", lambda line: parse_status(line, dialect)
        )

    async def _run_query(self, query: _UpsQuery, parse: Callable[[str], list[Reading]]) -> None:
        now = self._monotonic()
        if query.settled or now < query.backoff.due:
            return
        try:
            query.readings = await self._reply_filter.query(query.command, b"#", parse)
            query.settled = True
        except Unsupported:
            query.readings = []
            query.backoff.failed(now)
        except LinkError as error:
            if not _is_transient(error):
                raise
            query.backoff.failed(now, FIRST_PAUSE_SILENT_S)

    async def _try_preferred(self) -> None:
        """Try the preferred dialect again: it may have failed while the unit started only."""
        first, now = self._dialects[0], self._monotonic()
        if self._dialect in (None, first) or now < self._preferred_backoff.due:
            return
        try:
            await self._ask_status(first)
        except (LinkError, DeviceError) as error:
            if isinstance(error, LinkError) and not _is_transient(error):
                raise
            self._preferred_backoff.failed(now, FIRST_PAUSE_SILENT_S)
        else:
            self._dialect = first
            self._reset()

    def _readings(self, dialect: Dialect, status: Status) -> list[Reading]:
        readings = dict(status.fields)
        del readings["battery.voltage"]
        rated = {reading.quantity: reading for reading in self._ratings.readings}
        nominal = rated.get("battery.voltage.nominal")
        if self._own_nominal:
            rated.pop("battery.voltage.nominal", None)
        readings["ups.temperature"] = self._temperature(readings["ups.temperature"])
        if dialect is MEGATEC:
            readings["input.frequency"] = _input_frequency(status)
        return [
            *readings.values(),
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

    def _temperature(self, reading: Reading) -> Reading:
        """0 and 25 °C are fillers, unless another value proved that there is a thermometer."""
        value = number(reading)
        if value is not None and value not in _FILLER_TEMPERATURES:
            self._thermometer = True
        if value is None or self._thermometer:
            return reading
        reason = f"{value:.1f} is what units without a thermometer send"
        if value == 0:
            return unknown("ups.temperature", "°C", reason)
        return reading._replace(reason=reason, quality=Quality.SUSPECT)


def _input_frequency(status: Status) -> Reading:
    """The input frequency; no value on battery, when some units report the output's here."""
    reading = status.fields["input.frequency"]
    if status.bit(7):
        reason = "on battery the unit shows what it makes itself"
        return unknown("input.frequency", "Hz", reason)
    if number(reading) == 0:
        return unknown("input.frequency", "Hz", "the unit says 0 Hz while on mains")
    return reading


def _is_transient(error: LinkError) -> bool:
    """Whether the line still is there, and only this answer was not."""
    return isinstance(error, ProtocolError) or error.code == LinkCode.TIMEOUT
