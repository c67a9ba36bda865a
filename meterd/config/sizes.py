"""Sizes in bytes as keys of the file: with their unit, and within their limits."""

import re

from pydantic import BeforeValidator, ValidationInfo

from meterd.config.codes import Code, ValueFlaw

_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20}
_UNITS["GiB"] = 1 << 30
_SIZE = re.compile(r"([0-9]{1,12}) ?([A-Za-z]{1,3})")


def size(text: str) -> int | None:
    """Bytes: "16MiB" is 16777216; None for what is no size."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or found[2] not in _UNITS:
        return 0 if text.strip() == "0" else None
    return int(found[1]) * _UNITS[found[2]]


def _bound(text: str) -> int:
    if (limit := size(text)) is None:
        raise ValueError(text)
    return limit


def size_between(low: str, high: str) -> BeforeValidator:
    """A size from `low` to `high`, both included. Numbers are bytes where code sets them."""
    least, most = _bound(low), _bound(high)

    def check(value: object, info: ValidationInfo) -> int:
        number = value if isinstance(value, int) and not isinstance(value, bool) else None
        if number is not None and info.context is not None and number != 0:
            number = None
        if isinstance(value, str):
            number = size(value)
        if number is None:
            hint = "write it as in 500kB, 16MiB or 1GB"
            raise ValueFlaw(Code.TYPE, "must be a size with its unit", hint).error()
        if not least <= number <= most:
            raise ValueFlaw(Code.RANGE, f"must be from {low} to {high}").error()
        return number

    return BeforeValidator(check)
