"""Driver for SunSpec meters and inverters: discovered per connection, then polled by model."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from meterd.drivers.backoff import LONGEST_PAUSE_S, RetryPause, loop_time
from meterd.drivers.costs import link_costs
from meterd.drivers.exclusions import Cause, Exclusion, Exclusions, LeftOut
from meterd.drivers.registers import PROTOCOL_LIMIT, Row
from meterd.drivers.schedule import ALL, SLOW, due, every
from meterd.drivers.sunspec.discovery import (
    BASES,
    ModelAddress,
    ModelSurvey,
    header_at,
    locate,
    walk,
)
from meterd.drivers.sunspec.models import MODELS, ModelKind, rows
from meterd.drivers.sunspec.options import SunSpecOptions
from meterd.drivers.sunspec.parts import SunSpecPart, choose
from meterd.drivers.sunspec.reader import SPLIT_BUDGET, ModelReader, RequestBudget
from meterd.drivers.traffic import with_traffic
from meterd.errors import DeviceError, LinkCode, LinkError
from meterd.model.event import Notice
from meterd.model.sample import Reading
from meterd.wire.link import Link
from meterd.wire.modbus import ModbusClient

_NEVER = -1
_STATIC = "static"


class SunSpecMeter:
    """One part (meter or inverter) of a SunSpec device.

    A meter's positive direction is import, as in meterd. An inverter's is generation: the rows of
    its models negate active and reactive power, so that generation is negative, and its energy is
    export. `direction: reversed` is for current transformers that are mounted in the opposite
    direction, as with any meter.
    """

    Options: ClassVar[type[Any]] = SunSpecOptions

    def __init__(
        self,
        link: Link,
        options: SunSpecOptions,
        *,
        interval: float = SLOW,
        monotonic: Callable[[], float] = loop_time,
    ) -> None:
        self._client = self._listener = ModbusClient(link, options.unit)
        self._link = link
        self._options = options
        self._bases = list(BASES)
        self._epoch = _NEVER
        self._readers: list[ModelReader] = []
        self._static: list[ModelReader] = []
        self._texts: list[Reading] = []
        self._texts_due = True
        self._costs = link_costs(link)
        self._every = every(options.slow, interval)
        self._poll = 0
        self._exclusions = Exclusions()
        self.notices: list[Notice] = self._exclusions.notices
        self._monotonic = monotonic
        self._budget = RequestBudget()
        # The survey if its chain ended too early, and the backoff of checking that again.
        self._short_survey: ModelSurvey | None = None
        self._short_survey_backoff = RetryPause()

    @with_traffic
    async def read(self) -> list[Reading]:
        """One poll: fast rows each time, slow ones each n-th time. Static rows are read once per
        connection, and returned by each poll.

        Raises LinkError, or DeviceError: `no_sunspec`, `no_part`, and `moved` when the chain
        has changed, which the next poll walks again.
        """
        epoch, last_epoch = self._link.epoch, self._epoch
        self._epoch = _NEVER  # if this poll fails, the next one discovers the device again
        if epoch != last_epoch:
            await self._discover()
        readings: list[Reading] = []
        now = self._monotonic()
        if now - self._budget.renewed >= LONGEST_PAUSE_S:
            self._budget.left, self._budget.renewed = SPLIT_BUDGET, now
        tiers = due(self._poll, self._every)
        if not any(reader.is_due(tiers) for reader in self._readers):
            tiers = ALL  # a poll without any request would report a device as up that is gone
        for reader in self._readers:
            readings += await reader.read(tiers, now)
        if self._texts_due or (epoch and self._link.epoch != epoch):
            self._texts = [
                reading for reader in self._static for reading in await reader.read(now=now)
            ]
            self._texts_due = False
        # The first exchange opens the link (epoch 0 until then); reopening means discovery.
        self._epoch = epoch or self._link.epoch
        self._poll += 1
        await self._retry_excluded(now)
        self._exclusions.settle(now)
        readings += [*self._texts, *(self._exclusions.columns or ())]
        return [_unsigned_zero(reading) for reading in readings]

    def left_out(self) -> list[LeftOut]:
        """Rows that are excluded now, with reason and time of the next trial."""
        return self._exclusions.listed(self._monotonic())

    def traffic(self) -> list[tuple[int, int]]:
        """Bytes sent and received by each request of a poll with all rows, framing included.

        Before discovery, those of the longest model of the configured part.
        """
        words = [count for reader in self._readers for count in reader.requests()]
        return [self._client.sizes(3, count) for count in words or [self._longest()]]

    def quantities(self) -> frozenset[str]:
        """All quantities that the part may have: its models are known after discovery only."""
        part = self._options.part
        return frozenset(
            row.quantity
            for model in MODELS.values()
            if part in (None, model.number, model.kind.value)
            or model.kind in (ModelKind.IDENTITY, ModelKind.ADDITION)
            for row in rows(model.number, 0, 3)
        )

    @property
    def unit(self) -> int:
        """The unit id."""
        return self._options.unit

    @property
    def part(self) -> tuple[str | int | None, int]:
        """The configured part: its kind or model number, and its index."""
        return self._options.part, self._options.index

    def _longest(self) -> int:
        part = self._options.part
        lengths = [
            model.lengths[0]
            for model in MODELS.values()
            if part in (None, model.number, model.kind.value)
        ]
        return min(max(lengths) + 2, PROTOCOL_LIMIT)

    async def _discover(self) -> None:
        place = await self._locate()
        survey = await walk(self._client, place)
        part = choose(survey, self._options.part, self._options.index)
        self._exclusions.forget(self._monotonic())
        self._texts_due = True
        self._poll = 0
        self._short_survey = survey if survey.end else None
        self._short_survey_backoff.reset()
        self._short_survey_backoff.failed(self._monotonic())
        self._make_readers(survey, part)

    async def _locate(self) -> ModelAddress:
        """Register of the marker, which is tried first the next time. After a timeout another one
        is: some devices do not answer reads of registers that they do not have."""
        try:
            marker = await locate(self._client, self._bases)
        except LinkError as error:
            if error.code == LinkCode.TIMEOUT:
                self._bases = [*self._bases[1:], self._bases[0]]
            raise
        self._bases.sort(key=lambda base: base != marker.base)
        return marker

    def _make_readers(self, survey: ModelSurvey, part: SunSpecPart) -> None:
        """One reader per model; a quantity of several models is read from the first one."""
        self._readers, self._static = [], []
        self._budget = budget = RequestBudget(renewed=self._monotonic())
        taken: set[str] = set()
        models = [*part.models, *([part.identity] if part.identity else [])]
        for found in models:
            model_rows = rows(found.number, found.address, survey.place.function)
            new_rows: tuple[Row, ...] = tuple(
                row for row in model_rows if row.quantity not in taken
            )
            if not new_rows:
                continue
            taken |= {row.quantity for row in new_rows}
            reader = ModelReader(
                self._client, found, new_rows, budget, self._costs, self._exclusions
            )
            static = all(row.tier == _STATIC for row in new_rows)
            (self._static if static else self._readers).append(reader)
        # A poll without any request would report a device as up that is gone.
        if not self._readers:
            self._readers, self._static = self._static, []

    # -- exclusions ------------------------------------------------------------------------------

    async def _retry_excluded(self, now: float) -> None:
        """Send one more request if the trial of an exclusion is due."""
        if (tried := self._exclusions.due(now)) is None:
            await self._check_chain_end(now)
            return
        try:
            await self._retry(tried)
        except DeviceError as error:
            self._failed(tried, Cause.REFUSED, str(error), now)
        except LinkError as error:
            self._failed(tried, Cause.SILENT, str(error), now)
        else:
            self._exclusions.answered(tried, self._monotonic(), self._same_request)
            self._poll = 0
            self._texts_due |= any(reader.has(tried.rows) for reader in self._static)

    async def _retry(self, tried: Exclusion) -> None:
        for reader in (*self._readers, *self._static):
            if reader.has(tried.rows) or (not tried.rows and reader.is_split):
                await reader.retry(tried.rows)
                return

    def _failed(self, tried: Exclusion, cause: Cause, why: str, began: float) -> None:
        now = self._monotonic()
        self._exclusions.failed(tried, cause, why, now, took=now - began, splits=True)

    def _same_request(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows of the first one's model that fit one request with it."""
        first = min(rows, key=lambda row: row.first)
        model = next(reader for reader in (*self._readers, *self._static) if reader.has([first]))
        near = [row for row in rows if row.last - first.first < PROTOCOL_LIMIT]
        return [row for row in near if model.has([row])]

    async def _check_chain_end(self, now: float) -> None:
        """Discover again if a chain that ended early has grown, as on a device that starts up."""
        if self._short_survey is None or now < self._short_survey_backoff.due:
            return
        self._short_survey_backoff.failed(now)
        try:
            header = await header_at(
                self._client, self._short_survey.place.function, self._short_survey.stop
            )
        except (DeviceError, LinkError):
            return
        if header != self._short_survey.header:
            self._epoch = _NEVER


def _unsigned_zero(reading: Reading) -> Reading:
    """The reading with 0 in place of -0, which negated rows give."""
    return reading._replace(value=0.0) if reading.value == 0 else reading
