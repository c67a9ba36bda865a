"""OpenAPI 3.1, made from the table of routes and the models it names."""

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from meterd import __version__
from meterd.api import problem
from meterd.api.answer import Answer, as_json
from meterd.api.route import Route

_REF = "#/components/schemas/{model}"
# What the door may answer on every path, before a route is asked.
_ALWAYS = (HTTPStatus.MISDIRECTED_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR)


class Document(BaseModel):
    """An OpenAPI 3.1 document."""

    model_config = ConfigDict(extra="allow")

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The description of the listed routes as plain data."""
    listed = [route for route in routes if route.listed]
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (model, "serialization") for model in dict.fromkeys(_models(listed))
    ]
    names, schemas = models_json_schema(modes, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in listed:
        answer = names[(route.answer, "serialization")] if route.answer else None
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, answer)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "meterd",
            "version": __version__,
            "summary": "Energy meters and UPSes: newest samples, history, alerts",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }


def answer(routes: Sequence[Route]) -> Answer:
    return as_json(document(routes))


def _models(routes: Sequence[Route]) -> Iterator[type[BaseModel]]:
    yield problem.ProblemDetails
    yield from (route.answer for route in routes if route.answer is not None)


def _operation(route: Route, answer: dict[str, Any] | None) -> dict[str, Any]:
    bodies = {media: {"schema": answer or {"type": "string"}} for media in route.media}
    responses: dict[str, Any] = {"200": {"description": "OK", "content": bodies}}
    for status in sorted({*route.refusals, *_ALWAYS}):
        refused = {"schema": {"$ref": _REF.format(model=problem.ProblemDetails.__name__)}}
        responses[str(int(status))] = {
            "description": HTTPStatus(status).phrase,
            "content": {problem.MEDIA: refused},
        }
    words = re.findall(r"\w+", route.path) or ["page"]
    return {
        "operationId": "_".join([route.method.lower(), *words]),
        "summary": route.summary,
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": responses,
    }


def _path_parameters(route: Route) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", route.path):
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": f"The {name} as /api/v1/devices lists it",
            "schema": {"type": "string"},
        }


def _query_parameters(route: Route) -> Iterator[dict[str, Any]]:
    schema = route.query.model_json_schema()
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
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
