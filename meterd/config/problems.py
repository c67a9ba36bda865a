"""The mistakes found so far in one file, and how its values are shown to people."""

from dataclasses import dataclass

from meterd.config.codes import Code
from meterd.errors import ConfigError, Problem

_SHOWN = 60


@dataclass(frozen=True, slots=True, order=True)
class FilePosition:
    """Where something stands; both count from 1."""

    line: int
    column: int


START = FilePosition(1, 1)


class Problems:
    """Collects; a person gets all of them at once, in the order of the file."""

    def __init__(self, file: str) -> None:
        self.file = file
        # A dict keeps each once: an alias repeats a mistake that was made once.
        self._found: dict[Problem, None] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, code: Code, place: FilePosition, what: str, hint: str = "") -> None:
        self._found[Problem(self.file, place.line, place.column, code.value, what, hint)] = None

    def adopt(self, error: ConfigError, place: FilePosition, prefix: str) -> None:
        """Problems that somebody else found: with their own places, or at this one."""
        self._found.update(dict.fromkeys(error.problems))
        if not error.problems:
            self.add(Code.VALUE, place, f"{prefix}: {error}")

    def error(self) -> ConfigError:
        """All of them, by place."""
        return ConfigError(sorted(self._found, key=lambda p: (p.file, p.line, p.column, p.code)))


def excerpt(text: str) -> str:
    """The text in quotes, escaped, and cut where it is long."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")
