"""From a query string to a checked model, or to a refusal that says what is allowed."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeVar, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from meterd.api import times
from meterd.api.problem import Refusal, quote

AGGREGATES = ("avg", "min", "max", "last", "sum", "count")

# As long as any name of a device or quantity may sensibly be.
_LONGEST_NAME = 128

Name = Annotated[str, StringConstraints(min_length=1, max_length=_LONGEST_NAME)]


class Query(BaseModel):
    """Base of all query models: what is not named in one is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoQuery(Query):
    """A request that takes no parameters."""


def _moment(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str):
        return value
    context: Mapping[str, int] = info.context or {}
    try:
        return times.moment(value, context["now"])
    except ValueError as error:
        raise PydanticCustomError(
            "bad_time", "{why}", {"why": str(error), "hint": times.MOMENT_HINT}
        ) from error


def _step(value: Any) -> Any:
    if not isinstance(value, str) or value == "raw":
        return 0 if value == "raw" else value
    try:
        return times.duration(value)
    except ValueError as error:
        hint = f"{times.DURATION_HINT}; raw gives every sample as polled"
        raise PydanticCustomError("bad_step", "{why}", {"why": str(error), "hint": hint}) from error


def _aggregate(value: Any) -> Any:
    if value not in AGGREGATES:
        raise PydanticCustomError("bad_agg", "is no aggregate", {"allowed": AGGREGATES})
    return value


Moment = Annotated[
    int,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "examples": ["now-6h", "2026-11-21T10:00:00Z", "0"]}),
]
Step = Annotated[
    int,
    BeforeValidator(_step),
    WithJsonSchema({"type": "string", "examples": ["10s", "5m", "1h", "1d", "90", "raw"]}),
]
Aggregate = Annotated[
    str, BeforeValidator(_aggregate), WithJsonSchema({"type": "string", "enum": list(AGGREGATES)})
]


class Multi(Protocol):
    """A decoded query string: names that may occur more than once."""

    def __len__(self) -> int: ...
    def keys(self) -> Any: ...
    def getall(self, key: str) -> Sequence[str]: ...


Q = TypeVar("Q", bound=Query)


def parse(model: type[Q], query: Multi, now: int) -> Q:
    """The query as its model; `now` in Unix ms. Raises Refusal."""
    given: dict[str, Any] = {}
    for name in query.keys() if len(query) else ():
        field = model.model_fields.get(name)
        values = list(query.getall(name))
        if field is not None and get_origin(field.annotation) is list:
            given[name] = values
        elif len(values) > 1:
            detail = f"parameter {quote(name)} is given {len(values)} times"
            raise Refusal(400, "repeated_parameter", detail, parameter=name[:_LONGEST_NAME])
        else:
            given[name] = values[0]
    try:
        return model.model_validate(given, context={"now": now})
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False)[0], model) from error


def _refusal(error: ErrorDetails, model: type[Query]) -> Refusal:
    name = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        allowed = sorted(model.model_fields)
        return Refusal(
            400,
            "unknown_parameter",
            f"there is no parameter {quote(name)} here",
            hint="" if allowed else "this request takes no parameters",
            allowed=allowed,
            parameter=name[:_LONGEST_NAME],
        )
    context = error.get("ctx", {})
    return Refusal(
        400,
        error["type"] if error["type"].startswith("bad_") else "bad_parameter",
        f"{name}: {quote(str(error['input']))} {_why(error)}",
        hint=str(context.get("hint", "")),
        allowed=context.get("allowed", ()),
        parameter=name,
    )


def _why(error: ErrorDetails) -> str:
    match error["type"]:
        case "string_too_short":
            return "is empty: name one, or leave the parameter out"
        case "string_too_long":
            return f"is longer than {_LONGEST_NAME} characters"
    return error["msg"]
