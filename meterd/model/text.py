"""Escapes control characters and formulas of foreign texts for terminals, logs and spreadsheets."""

import re

# Characters that control a terminal or reorder text: C0, DEL, C1, bidirectional marks and
# embeddings, line separators, the byte order mark, and lone surrogates.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
# A cell that begins with one of these is a formula to spreadsheets, unless it is a number.
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


def has_controls(text: str, allowed: str = "") -> bool:
    """Whether there is a control character other than those `allowed`."""
    return any(match[0] not in allowed for match in _CONTROLS.finditer(text))


def escaped(text: str, kept: str = "") -> str:
    r"""The text with control characters written as `\x1b` or `\u202e`, except those in `kept`."""

    def escape(match: re.Match[str]) -> str:
        if match[0] in kept:
            return match[0]
        number = ord(match[0])
        if number > 0xFFFF:
            return f"\\U{number:08x}"
        return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"

    return _CONTROLS.sub(escape, text)


def escaped_json(text: str) -> str:
    r"""Equivalent JSON with control characters but newlines written as `\u001b`."""

    def escape(match: re.Match[str]) -> str:
        if match[0] == "\n":
            return match[0]
        units = match[0].encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))

    return _CONTROLS.sub(escape, text)


def for_spreadsheets(text: str) -> str:
    """A cell's text, with an apostrophe in front where a spreadsheet would see a formula."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def from_spreadsheets(text: str) -> str:
    """Removes the apostrophe of `for_spreadsheets`."""
    inner = text.removeprefix("'")
    return inner if inner != text and for_spreadsheets(inner) == text else text
