"""SunSpec meters and inverters: found anew on each connection, then read model by model."""

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
    """A meter or an inverter that describes itself as SunSpec lays down.

    Meters say positive for what is taken from the grid, as the house does. Inverters say
    positive for what they give: the models turn active and reactive power round, so that
    generation is negative, and call the energy given an export. `direction: reversed` is for
    current transformers that are mounted the other way round, as with any meter.
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
        self._texts_owed = True
        self._costs = link_costs(link)
        self._every = every(options.slow, interval)
        self._poll = 0
        self._exclusions = Exclusions()
        self.notices: list[Notice] = self._exclusions.notices
        self._monotonic = monotonic
        self._budget = RequestBudget()
        # Where the chain of models ended too early, and when that is looked at again.
        self._cut: ModelSurvey | None = None
        self._cut_backoff = RetryPause()

    @with_traffic
    async def read(self) -> list[Reading]:
        """Fast rows at each poll, slow ones at each n-th. What never changes is read once on each
        connection, and told at each poll.

        Raises LinkError, or DeviceError: `no_sunspec`, `no_part`, and `moved` when the chain
        has changed, which the next poll then walks anew.
        """
        epoch, learnt = self._link.epoch, self._epoch
        self._epoch = _NEVER  # what a failed poll leaves behind: the device may be another one
        if epoch != learnt:
            await self._discover()
        readings: list[Reading] = []
        now = self._monotonic()
        if now - self._budget.renewed >= LONGEST_PAUSE_S:
            self._budget.left, self._budget.renewed = SPLIT_BUDGET, now
        tiers = due(self._poll, self._every)
        if not any(reader.is_due(tiers) for reader in self._readers):
            tiers = ALL  # a poll that asks nothing would call a device up that is long gone
        for reader in self._readers:
            readings += await reader.read(tiers, now)
        if self._texts_owed or (epoch and self._link.epoch != epoch):
            self._texts = [one for reader in self._static for one in await reader.read(now=now)]
            self._texts_owed = False
        # The very first exchange opens the link; a link reopened later means starting over.
        self._epoch = epoch or self._link.epoch
        self._poll += 1
        await self._try_again(now)
        self._exclusions.settle(now)
        readings += [*self._texts, *(self._exclusions.columns or ())]
        return [_unsigned_zero(reading) for reading in readings]

    def left_out(self) -> list[LeftOut]:
        """What is not asked for now, why, and when it is tried again."""
        return self._exclusions.listed(self._monotonic())

    def traffic(self) -> list[tuple[int, int]]:
        """Bytes sent and received by each request of a whole poll, in this link's frames.

        Before the device was found, what the longest model of the wanted kind would take.
        """
        words = [count for reader in self._readers for count in reader.requests()]
        return [self._client.sizes(3, count) for count in words or [self._longest()]]

    def quantities(self) -> frozenset[str]:
        """What the wanted part may deliver: a device says only when it is asked what it has."""
        wanted = self._options.part
        return frozenset(
            row.quantity
            for model in MODELS.values()
            if wanted in (None, model.number, model.kind.value)
            or model.kind in (ModelKind.IDENTITY, ModelKind.ADDITION)
            for row in rows(model.number, 0, 3)
        )

    @property
    def unit(self) -> int:
        """The unit that it asks."""
        return self._options.unit

    @property
    def part(self) -> tuple[str | int | None, int]:
        """Which part of the unit it reads: its kind or model, and which one of several."""
        return self._options.part, self._options.index

    def _longest(self) -> int:
        wanted = self._options.part
        lengths = [
            model.lengths[0]
            for model in MODELS.values()
            if wanted in (None, model.number, model.kind.value)
        ]
        return min(max(lengths) + 2, PROTOCOL_LIMIT)

    async def _discover(self) -> None:
        place = await self._locate()
        survey = await walk(self._client, place)
        part = choose(survey, self._options.part, self._options.index)
        self._exclusions.forget(self._monotonic())
        self._texts_owed = True
        self._poll = 0
        self._cut = survey if survey.end else None
        self._cut_backoff.reset()
        self._cut_backoff.failed(self._monotonic())
        self._arrange(survey, part)

    async def _locate(self) -> ModelAddress:
        """The place, next time looked for there first. Where nobody answered, elsewhere first:
        some devices are silent about registers that they do not have."""
        try:
            place = await locate(self._client, self._bases)
        except LinkError as error:
            if error.code == LinkCode.TIMEOUT:
                self._bases = [*self._bases[1:], self._bases[0]]
            raise
        self._bases.sort(key=lambda base: base != place.base)
        return place

    def _arrange(self, survey: ModelSurvey, part: SunSpecPart) -> None:
        """One reader a model. Of two models with the same quantity the first one gives it."""
        self._readers, self._static = [], []
        self._budget = budget = RequestBudget(renewed=self._monotonic())
        taken: set[str] = set()
        models = [*part.models, *([part.identity] if part.identity else [])]
        for found in models:
            mine = rows(found.number, found.address, survey.place.function)
            fresh: tuple[Row, ...] = tuple(row for row in mine if row.quantity not in taken)
            if not fresh:
                continue
            taken |= {row.quantity for row in fresh}
            reader = ModelReader(self._client, found, fresh, budget, self._costs, self._exclusions)
            static = all(row.tier == _STATIC for row in fresh)
            (self._static if static else self._readers).append(reader)
        # A poll that asks nothing would call a device up that is long gone.
        if not self._readers:
            self._readers, self._static = self._static, []

    # -- what is left out ------------------------------------------------------------------------

    async def _try_again(self, now: float) -> None:
        """One more request, where something that is left out is due."""
        if (tried := self._exclusions.due(now)) is None:
            await self._look_at_the_end(now)
            return
        try:
            await self._ask_again(tried)
        except DeviceError as error:
            self._failed(tried, Cause.REFUSED, str(error), now)
        except LinkError as error:
            self._failed(tried, Cause.SILENT, str(error), now)
        else:
            self._exclusions.answered(tried, self._monotonic(), self._together)
            self._poll = 0
            self._texts_owed |= any(reader.has(tried.rows) for reader in self._static)

    async def _ask_again(self, tried: Exclusion) -> None:
        for reader in (*self._readers, *self._static):
            if reader.has(tried.rows) or (not tried.rows and reader.in_pieces):
                await reader.try_again(tried.rows)
                return

    def _failed(self, tried: Exclusion, cause: Cause, why: str, began: float) -> None:
        now = self._monotonic()
        self._exclusions.failed(tried, cause, why, now, took=now - began, splits=True)

    def _together(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Those of one model that one request can fetch."""
        first = min(rows, key=lambda row: row.first)
        model = next(one for one in (*self._readers, *self._static) if one.has([first]))
        near = [row for row in rows if row.last - first.first < PROTOCOL_LIMIT]
        return [row for row in near if model.has([row])]

    async def _look_at_the_end(self, now: float) -> None:
        """A device that starts up may not have all of its models yet: then find it anew."""
        if self._cut is None or now < self._cut_backoff.due:
            return
        self._cut_backoff.failed(now)
        try:
            header = await header_at(self._client, self._cut.place.function, self._cut.stop)
        except (DeviceError, LinkError):
            return
        if header != self._cut.header:
            self._epoch = _NEVER


def _unsigned_zero(reading: Reading) -> Reading:
    """0 W turned round is 0 W, not -0 W."""
    return reading._replace(value=0.0) if reading.value == 0 else reading
