"""From a query string to a checked model, or to a refusal that says what is allowed."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Protocol, TypeVar, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)

from meterd.api import times
from meterd.api.problem import ApiRefusal, ParameterError, quote
from meterd.api.problem_code import ProblemCode
from meterd.api.window import Calendar, Width

AGGREGATES = ("avg", "min", "max", "last", "sum", "count")

# As long as any name of a device or quantity may sensibly be.
_LONGEST_NAME = 128

MOST_COUNTED = 11_000
_DIGITS = re.compile(r"0*[0-9]{1,5}", re.ASCII)
_MS = re.compile(r"[0-9]{1,15}", re.ASCII)

Name = Annotated[str, StringConstraints(min_length=1, max_length=_LONGEST_NAME)]


_MILLIS = WithJsonSchema({"type": "integer", "minimum": 0, "maximum": times.LATEST_MS})


class ApiQuery(BaseModel):
    """Base of all query models: unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Between(ApiQuery):
    """Base of queries with `start` and `end`: Grafana's plug-ins have times in ms only."""

    from_: Annotated[int | None, _MILLIS] = Field(
        None, alias="from", description="As start, in Unix milliseconds: ${__from} in Grafana"
    )
    to: Annotated[int | None, _MILLIS] = Field(
        None, description="As end, in Unix milliseconds: ${__to} in Grafana"
    )


_SPAN = {"from": "start", "to": "end"}
# As ms it is the year 1973, as seconds the year 5138: what lies below was meant as seconds.
_LEAST_MS = 100_000_000_000


class NoQuery(ApiQuery):
    """A request that takes no parameters."""


def _moment(value: Any, info: ValidationInfo) -> Any:
    if value is None:
        return value  # absent, where it may be
    context: Mapping[str, int] = info.context or {}
    try:
        return times.moment(value, context["now"])
    except ValueError as error:
        raise ParameterError(ProblemCode.BAD_TIME, str(error), hint=times.MOMENT_HINT) from error


def _step(value: Any) -> Any:
    if not isinstance(value, str) or value == "raw":
        return Width(0) if value == "raw" else value
    try:
        calendar = Calendar.read(value)
        return Width(calendar.nominal if calendar else times.duration(value), calendar)
    except ValueError as error:
        hint = f"{times.DURATION_HINT}; 1d, 1w, 1mo and 1y are those of the site's clock; "
        hint += "raw gives every sample as polled"
        raise ParameterError(ProblemCode.BAD_STEP, str(error), hint=hint) from error


def _aggregate(value: Any) -> Any:
    if value not in AGGREGATES:
        raise ParameterError(ProblemCode.BAD_AGG, "is no aggregate", allowed=AGGREGATES)
    return value


def _count(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not _DIGITS.fullmatch(value) or not int(value):
        hint = f"write a whole number from 1 to {MOST_COUNTED}"
        raise ParameterError(
            ProblemCode.BAD_NUMBER, "is no number that is possible here", hint=hint
        )
    return int(value)


_WRITTEN_MOMENT = {
    "type": "string",
    "pattern": times.MOMENT,
    "examples": ["now-6h", "2026-11-21T10:00:00Z"],
}
# Of a query, where everything is text.
Moment = Annotated[int, BeforeValidator(_moment), WithJsonSchema(_WRITTEN_MOMENT)]
# Of a body, where a number is Unix seconds as in a query.
BodyMoment = Annotated[
    int,
    BeforeValidator(_moment),
    WithJsonSchema(
        {
            "anyOf": [
                _WRITTEN_MOMENT,
                {"type": "number", "minimum": 0, "maximum": times.LATEST_S},
            ]
        }
    ),
]
Step = Annotated[
    Width,
    BeforeValidator(_step),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": times.STEP,
            "examples": ["10s", "5m", "1h", "90", "1d", "1mo", "raw"],
        }
    ),
]
Count = Annotated[
    int,
    BeforeValidator(_count),
    Field(ge=1, le=MOST_COUNTED),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MOST_COUNTED}),
]
Aggregate = Annotated[
    str, BeforeValidator(_aggregate), WithJsonSchema({"type": "string", "enum": list(AGGREGATES)})
]


class Multi(Protocol):
    """A decoded query string: names that may occur more than once."""

    def __len__(self) -> int: ...
    def keys(self) -> Any: ...
    def getall(self, key: str) -> Sequence[str]: ...


Q = TypeVar("Q", bound=ApiQuery)


def parse(model: type[Q], query: Multi, now: int) -> Q:
    """The query as its model; `now` in Unix ms. Raises ApiRefusal."""
    if not len(query) and not _needs(model):
        empty: Q = _empty(model)
        return empty
    given: dict[str, Any] = {}
    lists = _lists(model)
    for name in set(query.keys()):
        values = list(query.getall(name))
        if name in lists:
            given[name] = values
        elif len(values) > 1:
            detail = f"parameter {quote(name)} is given {len(values)} times"
            raise ApiRefusal(
                400, ProblemCode.REPEATED_PARAMETER, detail, parameter=name[:_LONGEST_NAME]
            )
        else:
            given[name] = values[0]
    if issubclass(model, Between):
        _settle(given)
    try:
        return model.model_validate(given, context={"now": now})
    except ValidationError as error:
        raise _refusal(dict(error.errors(include_url=False)[0]), model) from error


@cache
def _needs(model: type[ApiQuery]) -> bool:
    return any(field.is_required() for field in model.model_fields.values())


@cache
def _empty(model: type[Q]) -> Q:
    """The model without parameters; frozen, so one object serves all requests."""
    return model()


@cache
def _lists(model: type[ApiQuery]) -> frozenset[str]:
    fields = model.model_fields.items()
    return frozenset(name for name, one in fields if get_origin(one.annotation) is list)


def names_of(model: type[ApiQuery]) -> list[str]:
    """The parameters as they are written in a URL."""
    return sorted(field.alias or name for name, field in model.model_fields.items())


def _settle(given: dict[str, Any]) -> None:
    """Times in ms are start and end."""
    for alias, name in _SPAN.items():
        if alias not in given:
            continue
        text = given.pop(alias)
        if name in given:
            detail = f"{alias} is {name} in milliseconds: give one of the two"
            raise ApiRefusal(400, ProblemCode.REPEATED_PARAMETER, detail, parameter=alias)
        if not _MS.fullmatch(text) or int(text) > times.LATEST_MS:
            detail = f"{alias}: {quote(text)} is no time in Unix milliseconds"
            hint = f"write 1795255200000, or use {name}"
            raise ApiRefusal(400, ProblemCode.BAD_TIME, detail, hint=hint, parameter=alias)
        if 0 < int(text) < _LEAST_MS:
            detail = f"{alias}: {text} is in {times.rfc3339(int(text))[:4]}: it is in milliseconds"
            hint = f"write {name}={text} for Unix seconds, {alias}={text}000 for milliseconds"
            raise ApiRefusal(400, ProblemCode.BAD_TIME, detail, hint=hint, parameter=alias)
        given[name] = times.rfc3339(int(text))


def _refusal(error: Mapping[str, Any], model: type[ApiQuery]) -> ApiRefusal:
    """`error` is pydantic's: type, loc, msg, input, and ctx where it has one."""
    name = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        allowed = names_of(model)
        return ApiRefusal(
            400,
            ProblemCode.UNKNOWN_PARAMETER,
            f"there is no parameter {quote(name)} here",
            hint="" if allowed else "this request takes no parameters",
            allowed=allowed,
            parameter=name[:_LONGEST_NAME],
        )
    value = quote(str(error["input"]))
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, ParameterError):
        return ApiRefusal(
            400,
            cause.code,
            f"{name}: {value} {cause}",
            hint=cause.hint,
            allowed=cause.allowed,
            parameter=name,
        )
    return ApiRefusal(
        400, ProblemCode.BAD_PARAMETER, f"{name}: {value} {_why(error)}", parameter=name
    )


def _why(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "string_too_short":
            return "is empty: name one, or leave the parameter out"
        case "string_too_long":
            return f"is longer than {_LONGEST_NAME} characters"
    return str(error["msg"])
