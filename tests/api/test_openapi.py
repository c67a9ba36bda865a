import re
from typing import Any

import pytest

from meterd.api.app import build
from meterd.api.examples import EXAMPLES
from meterd.api.openapi import answer, document
from meterd.api.query import AGGREGATES, names_of
from meterd.api.routes import FILES, ROUTES
from tests.api.fake import home

DOCUMENT = document(ROUTES)
METHODS = [
    (path, method, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


def test_the_description_holds_exactly_the_routes_that_are_served() -> None:
    app = build(home(), listen="127.0.0.1")
    served = {
        (route.resource.canonical, route.method.lower())
        for route in app.router.routes()
        if route.resource is not None
        and route.method != "HEAD"
        # That interface is Prometheus', and described by its documentation.
        and not route.resource.canonical.startswith("/prometheus/")
    }
    files = {(route.path, "get") for route in FILES}
    assert {(path, method) for path, method, _ in METHODS} == served - files


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_every_parameter_of_a_query_is_described(route: Any) -> None:
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    asked = {one["name"]: one for one in operation["parameters"] if one["in"] == "query"}
    assert set(asked) == set(names_of(route.query))
    for parameter in asked.values():
        assert len(parameter["description"]) > 10
        assert parameter["schema"]["type"] in ("string", "array", "integer")
    in_path = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
    assert in_path == set(re.findall(r"{(\w+)}", route.path))


def test_aggregates_are_listed() -> None:
    parameters = DOCUMENT["paths"]["/api/v1/range"]["get"]["parameters"]
    agg = next(one for one in parameters if one["name"] == "agg")
    assert agg["schema"]["items"]["enum"] == list(AGGREGATES)


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        here = {node["$ref"]} if "$ref" in node else set()
        return here.union(*(references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(references(value) for value in node))
    return set()


def test_every_reference_leads_somewhere_and_no_schema_is_left_over() -> None:
    schemas = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert references(DOCUMENT) == schemas


@pytest.mark.parametrize(("path", "method", "operation"), METHODS)
def test_every_operation_is_complete(path: str, method: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    good = [status for status in operation["responses"] if status.startswith("2")]
    assert len(good) == 1
    assert operation["responses"][good[0]]["content"]
    for status, response in operation["responses"].items():
        if status not in (*good, "304"):
            assert list(response["content"]) == ["application/problem+json"]


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in METHODS]
    assert len(names) == len(set(names))


def test_examples_are_what_their_models_say() -> None:
    for model, example in EXAMPLES.items():
        model.model_validate(example, context={"now": 0})


def test_a_login_is_asked_for_where_the_route_wants_one() -> None:
    for route in ROUTES:
        operation = DOCUMENT["paths"][route.path][route.method.lower()]
        ways = [name for one in operation["security"] for name in one]
        assert ways == ([] if route.scope == "open" else ["bearer", "basic", "digest"])
        assert ("403" in operation["responses"]) == (route.scope in ("admin", "command"))
        assert ("401" in operation["responses"]) == (route.scope != "open")


def test_what_changes_something_wants_more_than_reading() -> None:
    for route in ROUTES:
        assert (route.method == "GET") == (route.scope in ("open", "read")), route.path


def test_bodies_are_described() -> None:
    for path, method, operation in METHODS:
        if method == "post" and not path.endswith("/undo"):
            assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]


def test_it_is_made_once_for_each_base() -> None:
    assert answer(ROUTES, "") is answer(ROUTES, "")
    assert answer(ROUTES, "/meterd") is not answer(ROUTES, "")
