"""Field types that several sections share: switches, numbers, labels, time zones."""

import re
import unicodedata
import zoneinfo
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from meterd.config.codes import Code, ValueFlaw
from meterd.config.names import spelling_hint

LABEL_MAX_CHARS = 200
# Prometheus' label names; those that begin with two underscores are reserved for it.
_LABEL_NAME = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*")
# Labels that meterd's own metrics carry.
_RESERVED_LABELS = ("device", "phase", "quantity", "quantile", "le")


class Section(BaseModel):
    """The base of all sections: frozen, and unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
        hide_input_in_errors=True,
    )


# YAML parses a section whose keys are all commented out as null: it is taken as empty.
OrEmpty = BeforeValidator(lambda value: {} if value is None else value)


def has_control(text: str) -> bool:
    """Whether the text has control characters, which split log lines and headers."""
    return any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in text)


def one_line(text: str) -> str:
    """Validate a text of one line without control characters."""
    if has_control(text):
        raise ValueFlaw(Code.VALUE, "must be one line without control characters").error()
    return text


def _switch(value: object) -> bool:
    # YAML 1.2 has no yes and no. A ${NAME} is substituted as text: "true" is true.
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    hints = {"yes": "write true", "on": "write true", "no": "write false", "off": "write false"}
    hint = hints.get(value.lower(), "") if isinstance(value, str) else ""
    raise ValueFlaw(Code.TYPE, "must be true or false", hint).error()


def _refuse_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueFlaw(Code.TYPE, "must be a number", "true is 1, false is 0").error()
    return value


Switch = Annotated[bool, BeforeValidator(_switch)]
Number = Annotated[float, BeforeValidator(_refuse_bool)]


def _label_name(name: str) -> str:
    if name in _RESERVED_LABELS:
        raise ValueFlaw(
            Code.LABEL, "must be another name than {}, which meterd uses itself"
        ).error()
    if not _LABEL_NAME.fullmatch(name):
        plain = re.sub(r"\W", "_", name, flags=re.ASCII).lstrip("_0123456789")
        what = "must be a label name: letters, digits and _, not starting with a digit or __"
        raise ValueFlaw(Code.LABEL, what, f"write {plain}" if plain else "").error()
    return name


def _label_value(value: str) -> str:
    if has_control(value) or len(value) > LABEL_MAX_CHARS:
        what = f"must be one line of up to {LABEL_MAX_CHARS} characters without control characters"
        raise ValueFlaw(Code.LABEL, what).error()
    return value


Labels = dict[
    Annotated[str, AfterValidator(_label_name)], Annotated[str, AfterValidator(_label_value)]
]


def _time_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    # OSError: "Australia" is a directory of the zone files.
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        zones = zoneinfo.available_timezones()
        hint = (
            _zone_hint(name, zones) if zones else "this machine has no zone files: install tzdata"
        )
        what = "must be an IANA time zone such as Europe/Berlin"
        raise ValueFlaw(Code.TIMEZONE, what, hint).error() from error
    return name


def _zone_hint(name: str, zones: set[str]) -> str:
    """A suggestion by the city alone, such as `Brisbane`, else by the whole name."""
    cities = {zone.rpartition("/")[2].lower(): zone for zone in sorted(zones) if "/" in zone}
    city = name.rpartition("/")[2].strip().replace(" ", "_").lower()
    if city in cities:
        return f"did you mean {cities[city]}?"
    hint = spelling_hint(name, zones)
    return hint if hint.startswith("did") else ""


TimeZone = Annotated[str, AfterValidator(_time_zone)]
