"""Simulated faults: their syntax, and which requests each applies to.

timeout           every time               late:0.2@1.5s    one in five (at random), 1.5 s late
close:1/10        every tenth time         exception:2:0.1  exception 2, one in ten
busy:3            three times exception 6, then one correct reply
"""

import random
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from meterd.errors import ConfigError

# Default seconds: delay of a late reply, pause between dribbled bytes, time unplugged.
DEFAULT_SECONDS = {"late": 1.5, "dribble": 0.2, "unplug": 2.0}
# Kinds with a number as their first field: the exception code, the number of busy replies.
DEFAULT_NUMBERS = {"exception": 4, "busy": 2}

_FAULT = re.compile(
    r"(?P<kind>[a-z_]+)(?P<fields>(:[0-9./]+)*)(@(?P<seconds>[0-9.]+)(?P<unit>ms|s)?)?"
)


@dataclass(frozen=True, slots=True)
class SimulatedFault:
    """One kind of fault and how often it is injected.

    With `every` in each n-th request, else at random by `probability`. `seconds` and `number`:
    see DEFAULT_SECONDS and DEFAULT_NUMBERS; of `truncate`, `number` is how many bytes are sent
    (0: a random number).
    """

    kind: str
    probability: float = 1.0
    every: int = 0
    seconds: float = 0.0
    number: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1 or self.every < 0 or self.seconds < 0 or self.number < 0:
            raise ConfigError(
                f"fault {self.kind}: a chance is above 0 and at most 1, not {self.probability:g}"
            )
        if not self.seconds:
            object.__setattr__(self, "seconds", DEFAULT_SECONDS.get(self.kind, 0.0))
        if not self.number:
            object.__setattr__(self, "number", DEFAULT_NUMBERS.get(self.kind, 0))


def parse_fault(text: str) -> SimulatedFault:
    """Parse one fault. Raises ConfigError."""
    match = _FAULT.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"fault {text!r} is not written like late, late:0.2 or late:0.2@1.5s")
    kind, fields = match["kind"], match["fields"].split(":")[1:]
    seconds = float(match["seconds"] or 0) / (1000 if match["unit"] == "ms" else 1)
    try:
        number = int(fields.pop(0)) if kind in DEFAULT_NUMBERS and fields else 0
        if len(fields) > 1:
            raise ValueError(fields)
        probability, every = _parse_frequency(fields[0] if fields else "1")
    except ValueError as error:
        form = f"{kind}:N:0.1" if kind in DEFAULT_NUMBERS else f"{kind}:0.1 or {kind}:1/10"
        raise ConfigError(f"fault {text!r} is not written like {form}") from error
    return SimulatedFault(kind, probability, every, seconds, number)


def parse_faults(text: str) -> tuple[SimulatedFault, ...]:
    """Parse comma-separated faults; an empty text has none. Raises ConfigError."""
    return tuple(parse_fault(part) for part in text.split(",") if part.strip())


def _parse_frequency(text: str) -> tuple[float, int]:
    """Parse 0.1, a probability, or 1/10: each tenth request. Raises ValueError."""
    numerator, slash, every = text.partition("/")
    if not slash:
        return float(text), 0
    if numerator != "1" or int(every) < 1:
        raise ValueError(text)
    return 1.0, int(every)


class Injector:
    """Selects the fault of each request; deterministic by the seed.

    `injected` counts the faults by kind.
    """

    def __init__(
        self, kinds: Collection[str], faults: Iterable[SimulatedFault] = (), seed: int = 0
    ) -> None:
        self.random = random.Random(seed)
        self.injected: Counter[str] = Counter()
        self._kinds = kinds
        self._requests = 0
        self._busy_left = 0
        self.set(faults)

    @property
    def faults(self) -> tuple[SimulatedFault, ...]:
        return self._faults

    def set(self, faults: Iterable[SimulatedFault]) -> None:
        """Replace the faults from now on. Raises ConfigError for an unknown kind."""
        faults = tuple(faults)
        for fault in faults:
            if fault.kind not in self._kinds:
                raise ConfigError(
                    f"unknown fault {fault.kind!r}; known here are {', '.join(sorted(self._kinds))}"
                )
        self._faults = faults
        self._requests = 0
        self._busy_left = 0

    def next_fault(self, unfit: Collection[str] = ()) -> SimulatedFault | None:
        """The fault of this request, which is counted: the first that is due and not in `unfit`."""
        self._requests += 1
        due = [fault for fault in self._faults if self._due(fault) and fault.kind not in unfit]
        if not due:
            return None
        self.injected[due[0].kind] += 1
        return due[0]

    def _due(self, fault: SimulatedFault) -> bool:
        if fault.every:
            return self._requests % fault.every == 0
        if fault.kind == "busy":
            return self._is_busy(fault)
        return self.random.random() < fault.probability

    def _is_busy(self, fault: SimulatedFault) -> bool:
        """Whether to refuse: after each run of `number` refusals one request is served."""
        if self._busy_left:
            self._busy_left -= 1
            return self._busy_left > 0
        if self.random.random() >= fault.probability:
            return False
        self._busy_left = fault.number
        return True
