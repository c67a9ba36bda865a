"""Interpolation: `${NAME}` from the environment, and `*_file:` keys by the files' contents."""

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from meterd.config.codes import Code
from meterd.config.problems import FilePosition, Problems, excerpt
from meterd.config.settings import NAME_MAPPINGS, fits
from meterd.config.yaml_tree import UNKNOWN, Entry, Items, Keys, Node, Scalar, is_unknown

SECRET_MAX_BYTES = 65_536
_SUFFIX = "_file"
_VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)\}|(\{))")


class _VariableError(Exception):
    """A ${…} without a value; its args are what is wrong and a hint."""


@dataclass(frozen=True, slots=True)
class Interpolation:
    """Substitutes variables and secrets in a YAML tree; relative paths start at `folder`."""

    environ: Mapping[str, str]
    folder: Path
    problems: Problems

    def fill(self, root: Keys) -> Keys:
        """The tree with the values of ${NAME}, and with `x: CONTENT` for each `x_file: PATH`."""
        return self._fill_keys(root, ())

    def _fill(self, node: Node, path: tuple[str, ...]) -> Node:
        if isinstance(node, Scalar):
            return self._substitute(node)
        if isinstance(node, Items):
            return replace(node, nodes=tuple(self._fill(item, (*path, "")) for item in node.nodes))
        return self._fill_keys(node, path)

    def _fill_keys(self, node: Keys, path: tuple[str, ...]) -> Keys:
        entries: dict[str, Entry] = {}
        for key, entry in node.entries.items():
            inner = self._fill(entry.node, (*path, key))
            if not isinstance(inner, Scalar) or not _is_file_key(key, path):
                entries[key] = replace(entry, node=inner)
                continue
            name = key.removesuffix(_SUFFIX)
            if name in node.entries:
                what = f"both {name} and {key} are given"
                self.problems.add(Code.FILE_KEY_TWICE, entry.place, what, "keep one of them")
            else:
                entries[name] = Entry(entry.place, self._secret(key, inner))
        return replace(node, entries=entries)

    def _substitute(self, node: Scalar) -> Scalar:
        if not isinstance(node.value, str) or "$" not in node.value:
            return node
        try:
            value = _VARIABLE.sub(self._variable, node.value)
        except _VariableError as error:
            self.problems.add(Code.VARIABLE, node.place, *error.args)
            return Scalar(node.place, None, source=UNKNOWN)
        source = f"what {excerpt(node.value)} stands for" if _names_variable(node.value) else ""
        return replace(node, value=value, source=source)

    def _variable(self, match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        if match[3]:
            raise _VariableError(
                f"{excerpt(match.string)} holds a '${{' that names no variable",
                "write ${NAME}, with letters, digits and _ only; $${ stands for ${ itself",
            )
        if (value := self.environ.get(match[2])) is not None:
            return value
        raise _VariableError(
            f"the environment variable {match[2]} is not set",
            f"set it where meterd is started, or write $${{{match[2]}}} for the text itself",
        )

    def _secret(self, key: str, node: Scalar) -> Scalar:
        unknown = Scalar(node.place, None, source=UNKNOWN)
        if is_unknown(node):
            return unknown
        if not isinstance(node.value, str) or not node.value:
            self.problems.add(Code.FILE_KEY, node.place, f"{key} must be the path of a file")
            return unknown
        text = self._read(self.folder / node.value, node.place)
        if text is None:
            return unknown
        return Scalar(node.place, text, source=f"the content of {excerpt(node.value)}")

    def _read(self, path: Path, place: FilePosition) -> str | None:
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                self.problems.add(Code.FILE_KEY, place, f"{path} is no file")
                return None
            with path.open("rb") as file:
                data = file.read(SECRET_MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.problems.add(
                Code.FILE_KEY, place, f"{excerpt(str(path))} cannot be read: {reason}"
            )
            return None
        self._check_mode(path, status.st_mode, place)
        return self._decode(path, data, place)

    def _check_mode(self, path: Path, mode: int, place: FilePosition) -> None:
        # systemd restricts its credentials by an ACL, which shows as group bits of the mode.
        credentials = self.environ.get("CREDENTIALS_DIRECTORY")
        if mode & 0o077 and not (credentials and path.is_relative_to(credentials)):
            what = f"{path} is a secret, and its mode {mode & 0o777:04o} lets other users at it"
            self.problems.add(Code.FILE_KEY_MODE, place, what, f"chmod 600 {path}")

    def _decode(self, path: Path, data: bytes, place: FilePosition) -> str | None:
        try:
            text = data.decode("utf-8").strip("\r\n")
        except UnicodeDecodeError:
            text = ""
        if text and len(data) <= SECRET_MAX_BYTES and "\0" not in text:
            return text
        what = f"{path} must be a text of 1 to {SECRET_MAX_BYTES} bytes in UTF-8"
        self.problems.add(Code.FILE_KEY, place, what)
        return None


def _names_variable(text: str) -> bool:
    return any(match[2] for match in _VARIABLE.finditer(text))


def _is_file_key(key: str, path: tuple[str, ...]) -> bool:
    is_named = any(fits(path, pattern) for pattern in NAME_MAPPINGS)
    return key.endswith(_SUFFIX) and key != _SUFFIX and not is_named
