"""Texts of others on their way to a terminal, a log or a spreadsheet."""

import re

# What moves the cursor, changes the terminal or the order of what is read: C0, DEL, C1, the
# marks and embeddings of direction, line separators, the byte order mark, and halves of pairs.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
# A cell that begins so is a formula to spreadsheets, unless it is a number.
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


def has_controls(text: str, allowed: str = "") -> bool:
    """Whether there is a character that no text of one line has."""
    return any(found[0] not in allowed for found in _CONTROLS.finditer(text))


def escaped(text: str, kept: str = "") -> str:
    r"""The text with such characters as `\x1b` or `\u202e`; those in `kept` stay."""

    def spell(found: re.Match[str]) -> str:
        if found[0] in kept:
            return found[0]
        number = ord(found[0])
        if number > 0xFFFF:
            return f"\\U{number:08x}"
        return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"

    return _CONTROLS.sub(spell, text)


def escaped_json(text: str) -> str:
    r"""JSON that means the same, and has such characters as `\u001b`."""

    def spell(found: re.Match[str]) -> str:
        if found[0] == "\n":
            return found[0]
        units = found[0].encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))

    return _CONTROLS.sub(spell, text)


def for_spreadsheets(text: str) -> str:
    """The text of a cell, which no spreadsheet takes for a formula."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def from_spreadsheets(text: str) -> str:
    """The reverse."""
    inner = text.removeprefix("'")
    return inner if inner != text and for_spreadsheets(inner) == text else text
