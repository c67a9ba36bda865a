"""Misbehaviour on request: how it is written, and when it strikes.

timeout           every time               late:0.2@1.5s    one in five (by chance), 1.5 s late
close:1/10        every tenth time         exception:2:0.1  exception 2, one in ten
busy:3            three times exception 6, then one good reply
"""

import random
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from meterd.errors import ConfigError

# Seconds where none are given: the delay of a late reply, the pause between dribbled bytes,
# how long a port stays away.
SECONDS = {"late": 1.5, "dribble": 0.2, "unplug": 2.0}
# These carry a number before anything else: the exception code, how often to be busy.
NUMBERED = {"exception": 4, "busy": 2}

_TEXT = re.compile(
    r"(?P<kind>[a-z_]+)(?P<fields>(:[0-9./]+)*)(@(?P<seconds>[0-9.]+)(?P<unit>ms|s)?)?"
)


@dataclass(frozen=True, slots=True)
class SimulatedFault:
    """One kind of misbehaviour and how often it strikes.

    With `every` it is each n-th request, else chance by `probability`. `seconds` and `number`
    mean what SECONDS and NUMBERED say; for `truncate`, `number` is how many bytes get through
    (0: any).
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
            object.__setattr__(self, "seconds", SECONDS.get(self.kind, 0.0))
        if not self.number:
            object.__setattr__(self, "number", NUMBERED.get(self.kind, 0))


def parse_fault(text: str) -> SimulatedFault:
    """One fault from its text. Raises ConfigError."""
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"fault {text!r} is not written like late, late:0.2 or late:0.2@1.5s")
    kind, fields = found["kind"], found["fields"].split(":")[1:]
    seconds = float(found["seconds"] or 0) / (1000 if found["unit"] == "ms" else 1)
    try:
        number = int(fields.pop(0)) if kind in NUMBERED and fields else 0
        if len(fields) > 1:
            raise ValueError(fields)
        probability, every = _when(fields[0] if fields else "1")
    except ValueError as error:
        form = f"{kind}:N:0.1" if kind in NUMBERED else f"{kind}:0.1 or {kind}:1/10"
        raise ConfigError(f"fault {text!r} is not written like {form}") from error
    return SimulatedFault(kind, probability, every, seconds, number)


def parse_faults(text: str) -> tuple[SimulatedFault, ...]:
    """Faults from a comma-separated text; an empty text is none."""
    return tuple(parse_fault(part) for part in text.split(",") if part.strip())


def _when(text: str) -> tuple[float, int]:
    """A chance such as 0.1, or 1/10 for each tenth request."""
    one, slash, every = text.partition("/")
    if not slash:
        return float(text), 0
    if one != "1" or int(every) < 1:
        raise ValueError(text)
    return 1.0, int(every)


class Injector:
    """Decides for each request which fault strikes, if any; the same seed decides the same."""

    def __init__(
        self, known: Collection[str], faults: Iterable[SimulatedFault] = (), seed: int = 0
    ) -> None:
        self.random = random.Random(seed)
        self.injected: Counter[str] = Counter()
        self._known = known
        self._requests = 0
        self._busy = 0
        self.set(faults)

    @property
    def faults(self) -> tuple[SimulatedFault, ...]:
        return self._faults

    def set(self, faults: Iterable[SimulatedFault]) -> None:
        """Misbehave like this from now on. Raises ConfigError for a kind that is not known."""
        faults = tuple(faults)
        for fault in faults:
            if fault.kind not in self._known:
                raise ConfigError(
                    f"unknown fault {fault.kind!r}; known here are {', '.join(sorted(self._known))}"
                )
        self._faults = faults
        self._requests = 0
        self._busy = 0

    def strike(self, unfit: Collection[str] = ()) -> SimulatedFault | None:
        """The fault for this request: the first that is due and not `unfit` here. Counts it."""
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
        """A run of `number` refusals, after which one request is surely served."""
        if self._busy:
            self._busy -= 1
            return self._busy > 0
        if self.random.random() >= fault.probability:
            return False
        self._busy = fault.number
        return True
