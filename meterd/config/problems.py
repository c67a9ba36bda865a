"""Collects the problems of one file, with their positions."""

from dataclasses import dataclass

from meterd.config.codes import Code
from meterd.errors import ConfigError, Problem

_EXCERPT_MAX_CHARS = 60


@dataclass(frozen=True, slots=True, order=True)
class FilePosition:
    """A position in the file; line and column count from 1."""

    line: int
    column: int


START = FilePosition(1, 1)


class Problems:
    """The problems of one file, to be reported at once and in the order of the file."""

    def __init__(self, file: str) -> None:
        self.file = file
        # A dict keeps each once: a YAML alias would repeat a mistake.
        self._problems: dict[Problem, None] = {}

    def __bool__(self) -> bool:
        return bool(self._problems)

    def add(self, code: Code, place: FilePosition, what: str, hint: str = "") -> None:
        self._problems[Problem(self.file, place.line, place.column, code.value, what, hint)] = None

    def adopt(self, error: ConfigError, place: FilePosition, prefix: str) -> None:
        """Add the problems of another error with their own positions, or its text at this one."""
        self._problems.update(dict.fromkeys(error.problems))
        if not error.problems:
            self.add(Code.VALUE, place, f"{prefix}: {error}")

    def error(self) -> ConfigError:
        """The exception with all problems, sorted by position."""
        return ConfigError(
            sorted(
                self._problems,
                key=lambda p: (p.file, p.line, p.column, p.code),
            )
        )


def excerpt(text: str) -> str:
    """The text quoted, escaped, and cut to 60 characters."""
    return repr(text if len(text) <= _EXCERPT_MAX_CHARS else text[: _EXCERPT_MAX_CHARS - 1] + "…")
