"""Everything that may go wrong, named by who acts on it.

`code` is a stable word for statuses, metrics and scripts; the text is for people.
Foreign exceptions are turned into one of these once, at the edge that meets them.
"""

from collections.abc import Iterable
from dataclasses import dataclass


class MeterdError(Exception):
    """The root of meterd's own errors."""

    def __init__(self, text: str, *, code: str = "error") -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file that a person wrote; line and column count from 1.

    `severity` is error, or warning for what can be loaded and is hardly what was meant.
    """

    file: str
    line: int
    column: int
    code: str
    what: str
    hint: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        hint = f"; hint: {self.hint}" if self.hint else ""
        place = f"{self.file}:{self.line}:{self.column}"
        return f"{place}: {self.severity}[{self.code}]: {self.what}{hint}"


class ConfigError(MeterdError):
    """A person has to correct something that was written; never retried."""

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        self.problems = () if isinstance(problems, str) else tuple(problems)
        text = problems if isinstance(problems, str) else "\n".join(map(str, self.problems))
        super().__init__(text, code="config")


class LinkError(MeterdError):
    """The way to the device failed: the link reopens, the bus backs off.

    Codes: timeout, refused, closed, unreachable, dns, port_gone, port_taken.
    """


class ProtocolError(LinkError):
    """Bytes arrived that are no frame, or no answer to what was asked."""


class DeviceError(MeterdError):
    """The device answered, and said no; the link is fine."""


class Unsupported(DeviceError):  # noqa: N818 (it is a verdict, not a mishap)
    """The device will never answer this: stop asking."""


class StoreError(MeterdError):
    """The store could not keep or find samples; what was polled is kept and tried again.

    Codes: unavailable, full, corrupt, newer_schema, already_running, busy (a tool has it, and will
    end some time), too_much, conflict (another transaction won; try again), unreachable (the
    server does not answer).
    """


class HookError(MeterdError):
    """A hook could not deliver; `retry` says whether trying again can help."""

    def __init__(self, text: str, *, code: str = "hook", retry: bool = True) -> None:
        super().__init__(text, code=code)
        self.retry = retry
