"""The `alerts:` section: alert rules, and the hooks that deliver their notices."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator
from pydantic import field_validator as check

from meterd.config.codes import Code, ValueFlaw
from meterd.config.duration import between
from meterd.config.fields import Number, OrEmpty, Section, has_control, one_line
from meterd.config.names import Name
from meterd.model.quantity import describe, suggest

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _as_tuple(value: object) -> object:
    """A single name is a list of one."""
    return (value,) if isinstance(value, str) else value


def _quantity(name: str) -> str:
    if describe(name) is None:
        raise ValueFlaw(Code.UNKNOWN_QUANTITY, "must be a quantity", suggest(name)).error()
    return name


def _hook_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_complete = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_complete = False
    if not is_complete or parts.scheme not in ("http", "https") or re.search(r"[\s\x00-\x1f]", url):
        hint = "write http://HOST:PORT/PATH"
        raise ValueFlaw(Code.HOOK, "must be an http:// or https:// URL", hint).error()
    return url


def _header_lines(value: object) -> object:
    """Parse headers from a `headers_file`: lines of `Name: value`."""
    if not isinstance(value, str):
        return value
    pairs = [line.partition(":") for line in value.splitlines() if line.strip()]
    if not all(colon for _, colon, _ in pairs):
        raise ValueFlaw(Code.HEADER, "must be lines of `Name: value`").error()
    return {name.strip(): text.strip() for name, _, text in pairs}


def _header_name(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise ValueFlaw(Code.HEADER, "must be a header's name, such as Authorization").error()
    return name


def _header_value(value: str) -> str:
    if has_control(value):
        raise ValueFlaw(Code.HEADER, "must be one line without control characters").error()
    return value


CONDITIONS = ("equals", "above", "below")


def condition_flaw(given: Sequence[str]) -> ValueFlaw | None:
    """The flaw of a rule with these of the CONDITIONS; None where it has exactly one."""
    if len(given) == 1:
        return None
    what = f"has {' and '.join(given)}" if given else "has no condition"
    return ValueFlaw(
        Code.CONDITION, what, "give exactly one of equals, above and below", show=False
    )


Headers = Annotated[
    dict[
        Annotated[str, AfterValidator(_header_name)], Annotated[str, AfterValidator(_header_value)]
    ],
    BeforeValidator(_header_lines),
    OrEmpty,
]


# A value of a map's `enum`, by its text.
State = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(one_line)]


class RuleSettings(Section):
    """One alert rule. Exactly one of equals, above, below is set; `device` empty: every device.

    `equals` is a number, or the text of an enumerated quantity's number, which
    daemon/alerting.py translates by the devices' maps.

    `for_`: seconds that the condition holds before the alert fires. `clear_for`: seconds that it
    does not hold before the alert ends.
    """

    device: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = ()
    quantity: Annotated[str, AfterValidator(_quantity)]
    equals: Annotated[Number | State | None, Field(union_mode="left_to_right")] = None
    above: Number | None = None
    below: Number | None = None
    clear_below: Number | None = None
    clear_above: Number | None = None
    for_: Annotated[float, between("0s", "30d")] = Field(default=0.0, alias="for")
    clear_for: Annotated[float, between("0s", "30d")] = 0.0
    severity: Literal["info", "warning", "critical"] = "warning"
    notify: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = ()
    text: Annotated[str, Field(max_length=500), AfterValidator(one_line)] | None = None

    @check("clear_below", "clear_above")
    @classmethod
    def _check_clear_threshold(cls, clear: float | None, info: ValidationInfo) -> float | None:
        partner = "above" if info.field_name == "clear_below" else "below"
        # pydantic validates in the order of the fields: the partner is absent from `data` only
        # where its own value is invalid.
        if clear is None or partner not in info.data:
            return clear
        limit = info.data[partner]
        if limit is None:
            what = f"goes with `{partner}:`, which this rule does not have"
            raise ValueFlaw(Code.CLEAR, what, show=False).error()
        wrong, right = ("higher", "lower") if partner == "above" else ("lower", "higher")
        if (clear > limit) if wrong == "higher" else (clear < limit):
            what = f"must not be {wrong} than `{partner}: {limit:g}`"
            hint = f"an alert clears at a {right} value than it fires at"
            raise ValueFlaw(Code.CLEAR, what, hint).error()
        return clear

    @model_validator(mode="after")
    def _one_condition(self) -> "RuleSettings":
        given = [name for name in CONDITIONS if getattr(self, name) is not None]
        if flaw := condition_flaw(given):
            raise flaw.error()
        return self


class HookSettings(Section):
    """A webhook. URL and headers may hold secrets, so its repr leaves them out."""

    type: Literal["webhook"]
    url: Annotated[str, AfterValidator(_hook_url), Field(repr=False)]
    timeout: Annotated[float, between("100ms", "60s")] = 10.0
    headers: Headers = Field(default_factory=dict, repr=False)


class AlertsSettings(Section):
    """Alert rules and hooks, by name."""

    rules: Annotated[dict[Name, RuleSettings], OrEmpty] = Field(default_factory=dict)
    hooks: Annotated[dict[Name, HookSettings], OrEmpty] = Field(default_factory=dict)
