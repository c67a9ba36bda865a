"""OpenAPI 3.1, made from the table of routes and the models it names."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from meterd import __version__
from meterd.api import problem
from meterd.api.answer import JSON, ApiAnswer, encode, tagged
from meterd.api.examples import EXAMPLES, TEXTS
from meterd.api.route import Route

_REF = "#/components/schemas/{model}"
# What the door may answer on every path, before a route is asked.
_DOOR = (400, 408, 413, 415, 421, 431, 500)
_LOCK = (401, 429)

_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of `meterd token add NAME`",
    },
    "basic": {"type": "http", "scheme": "basic", "description": "A user of `api: users:`"},
    "digest": {
        "type": "http",
        "scheme": "digest",
        "description": "RFC 7616 with SHA-256, where every user has a password that is no hash",
    },
}
_INFO = {
    "title": "meterd",
    "version": __version__,
    "summary": "Energy meters and UPSes: newest samples, history, consumption, alerts",
    "description": "Times in answers are RFC 3339 in UTC; in queries and bodies also Unix seconds, "
    "now and now-6h. Points carry Unix milliseconds. What is not known is null with a reason, "
    "never 0. On loopback nobody needs a login unless the configuration wants one. Prometheus' own "
    "API (PromQL) is under /prometheus/api/v1 and described by Prometheus.",
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}
_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "The ways to log in; one header each"},
    429: {"Retry-After": "Seconds to wait"},
    503: {"Retry-After": "Seconds after which it may be better"},
    405: {"Allow": "What is possible here"},
}
_IDS = {
    "devices": "A device's id as GET /api/v1/devices lists it",
    "alerts": "An alert's id as GET /api/v1/alerts lists it",
    "silences": "A silence's id as GET /api/v1/silences lists it",
    "corrections": "A correction's id as GET /api/v1/corrections lists it",
}

Names = Mapping[Any, dict[str, Any]]
"""Models and their modes -> the reference to their schema."""


class Document(BaseModel):
    """An OpenAPI 3.1 document."""

    model_config = ConfigDict(extra="allow")

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


def document(routes: Sequence[Route], base: str = "") -> dict[str, Any]:
    """The OpenAPI description of the routes as plain data; `base`: the prefix of every path."""
    listed = [route for route in routes if route.listed]
    names, schemas = models_json_schema(list(dict.fromkeys(_models(listed))), ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in listed:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, names)
    return {
        "openapi": "3.1.0",
        "info": _INFO,
        "servers": [{"url": base or "/"}],
        "paths": paths,
        "components": {"schemas": schemas["$defs"], "securitySchemes": _SCHEMES},
    }


@lru_cache(16)
def answer(routes: tuple[Route, ...], base: str) -> ApiAnswer:
    """Made once for each base: it takes 30 ms."""
    return tagged(encode(document(routes, base)))


def _models(routes: Sequence[Route]) -> Iterator[tuple[type[BaseModel], JsonSchemaMode]]:
    yield problem.ProblemDetails, "serialization"
    for route in routes:
        if route.answer is not None:
            yield route.answer, "serialization"
        if route.body is not None:
            yield route.body, "validation"


def _operation(route: Route, names: Names) -> dict[str, Any]:
    words = re.findall(r"\w+", route.path) or ["page"]
    operation: dict[str, Any] = {
        "operationId": "_".join([route.method.lower(), *words]),
        "summary": route.summary,
        "tags": [_tag(route.path)],
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": dict(_responses(route, names)),
        "security": [] if route.scope == "open" else [{name: []} for name in _SCHEMES],
    }
    if route.scope != "open":
        operation["x-scope"] = route.scope
    if route.body is not None:
        operation["requestBody"] = _body(route.body, names)
    return operation


def _tag(path: str) -> str:
    if not path.startswith("/api/"):
        return "page" if path in ("/", "/docs") else "daemon"
    word = path.split("/")[3]
    return {"silences": "alerts", "latest": "values", "range": "values", "stream": "values"}.get(
        word, word
    )


def _body(model: type[BaseModel], names: Names) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": names[model, "validation"]}
    if model in EXAMPLES:
        content["example"] = EXAMPLES[model]
    is_required = any(field.is_required() for field in model.model_fields.values())
    return {"required": is_required, "content": {JSON: content}}


def _responses(route: Route, names: Names) -> Iterator[tuple[str, dict[str, Any]]]:
    content: dict[str, Any] = {}
    for media in route.media:
        is_json = route.answer is not None
        schema = names[route.answer, "serialization"] if route.answer else {"type": "string"}
        content[media] = {"schema": schema}
        example = EXAMPLES.get(route.answer) if is_json and route.answer else TEXTS.get(media)
        if example is not None:
            content[media]["example"] = example
    phrase = HTTPStatus(route.status).phrase
    yield str(route.status), {"description": phrase, "content": content}
    if route.tagged:
        yield "304", {"description": "As before: If-None-Match names its ETag"}
    lock = () if route.scope == "open" else _LOCK
    rights = () if route.scope in ("open", "read") else (403,)
    for status in sorted({*route.refusals, *_DOOR, *lock, *rights}):
        yield str(status), _refused(status)


def _refused(status: int) -> dict[str, Any]:
    schema = {"$ref": _REF.format(model=problem.ProblemDetails.__name__)}
    found: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {problem.MEDIA: {"schema": schema}},
    }
    headers = _HEADERS.get(status, {})
    if headers:
        found["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in headers.items()
        }
    return found


def _path_parameters(route: Route) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", route.path):
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": _IDS[route.path.split("/")[3]],
            "schema": {"type": "string", "minLength": 1},
        }


def _query_parameters(route: Route) -> Iterator[dict[str, Any]]:
    schema = route.query.model_json_schema()
    required = schema.get("required", ())
    fields = schema.get("properties", {}).items()
    # What every query with times has in common comes last.
    for name, field in sorted(fields, key=lambda item: item[0] in ("from", "to")):
        plain = {key: value for key, value in field.items() if key not in ("title", "description")}
        # Null is how an absent parameter looks inside; a query cannot say it.
        choices = [one for one in plain.pop("anyOf", ()) if one.get("type") != "null"]
        if plain.get("default", ...) in (None, []):
            del plain["default"]
        yield {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": field["description"],
            "schema": {**plain, **(choices[0] if choices else {})},
            **({"style": "form", "explode": True} if plain.get("type") == "array" else {}),
        }
