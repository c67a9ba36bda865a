"""Limits of one running query (samples, deadline, cancellation), and its annotations."""

import time
from dataclasses import dataclass, field

from meterd.promql.result import PromErrorType, QueryError, QueryLimits


@dataclass(slots=True)
class Budget:
    """Samples loaded and computed so far; warnings and infos in order, without duplicates."""

    limits: QueryLimits
    samples: int = 0
    warnings: dict[str, None] = field(default_factory=dict)
    infos: dict[str, None] = field(default_factory=dict)

    def spend(self, samples: int) -> None:
        """Counts samples. Raises QueryError: execution beyond max_samples, timeout, canceled."""
        self.samples += samples
        if self.samples > self.limits.max_samples:
            message = "query processing would load too many samples into memory in query execution"
            raise QueryError(PromErrorType.EXECUTION, message)
        self.check_deadline()

    def check_deadline(self) -> None:
        """Raises QueryError (timeout) past the deadline, (canceled) once the client is gone."""
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
