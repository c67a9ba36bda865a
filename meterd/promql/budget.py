"""What one query has used of what it may use, and what it has to tell besides the answer."""

import time
from dataclasses import dataclass, field

from meterd.promql.result import PromErrorType, QueryError, QueryLimits


@dataclass(slots=True)
class Budget:
    """Samples loaded and made so far; warnings and infos in the order they came."""

    limits: QueryLimits
    samples: int = 0
    warnings: dict[str, None] = field(default_factory=dict)
    infos: dict[str, None] = field(default_factory=dict)

    def spend(self, samples: int) -> None:
        """Raises QueryError: too many samples, out of time, or canceled."""
        self.samples += samples
        if self.samples > self.limits.max_samples:
            what = "query processing would load too many samples into memory in query execution"
            raise QueryError(PromErrorType.EXECUTION, what)
        self.pulse()

    def pulse(self) -> None:
        """Raises QueryError when the time is over or nobody waits any more."""
        limits = self.limits
        if limits.canceled is not None and limits.canceled():
            raise QueryError(PromErrorType.CANCELED, "query was canceled in expression evaluation")
        clock = limits.clock or time.monotonic
        if limits.deadline is not None and clock() > limits.deadline:
            raise QueryError(PromErrorType.TIMEOUT, "query timed out in expression evaluation")

    def warn(self, text: str) -> None:
        self.warnings[f"PromQL warning: {text}"] = None

    def inform(self, text: str) -> None:
        self.infos[f"PromQL info: {text}"] = None
