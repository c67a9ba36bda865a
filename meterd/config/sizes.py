"""Sizes in the file: a number with its unit, such as 500kB or 16MiB, within limits."""

import re

from pydantic import BeforeValidator, ValidationInfo

from meterd.config.codes import Code, ValueFlaw

_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20}
_UNITS["GiB"] = 1 << 30
_SIZE = re.compile(r"([0-9]{1,12}) ?([A-Za-z]{1,3})")


def size(text: str) -> int | None:
    """The size in bytes: "16MiB" is 16777216; None where the text is no size."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2] not in _UNITS:
        return 0 if text.strip() == "0" else None
    return int(match[1]) * _UNITS[match[2]]


def _bound(text: str) -> int:
    if (limit := size(text)) is None:
        raise ValueError(text)
    return limit


def size_between(low: str, high: str) -> BeforeValidator:
    """The validator of a size from `low` to `high`, both included; its value is bytes.

    Numbers are taken as bytes where code makes the settings; in a file only 0 is.
    """
    minimum, maximum = _bound(low), _bound(high)

    def check(value: object, info: ValidationInfo) -> int:
        number = value if isinstance(value, int) and not isinstance(value, bool) else None
        if number is not None and info.context is not None and number != 0:
            number = None
        if isinstance(value, str):
            number = size(value)
        if number is None:
            hint = "write it as in 500kB, 16MiB or 1GB"
            raise ValueFlaw(Code.TYPE, "must be a size with its unit", hint).error()
        if not minimum <= number <= maximum:
            raise ValueFlaw(Code.RANGE, f"must be from {low} to {high}").error()
        return number

    return BeforeValidator(check)
