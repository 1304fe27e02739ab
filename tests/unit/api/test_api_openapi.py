"""The OpenAPI document says what really crosses the API."""

from __future__ import annotations

from typing import Any

import pytest

from volant.api.app import HANDLERS
from volant.api.openapi import build_document, problems_of
from volant.api.vms import CREATE
from volant.client.connection import Connection
from volant.core.errors import AlreadyExists, Forbidden, InvalidInput, Malformed, TimedOut, TooLarge, WrongMediaType

from .served import Served
from .test_api_fast_starts import make_stats

DOCUMENT = build_document(HANDLERS, "0")
SCHEMAS = DOCUMENT["components"]["schemas"]


def _check(value: Any, schema: dict[str, Any], where: str) -> None:
    """Enough of JSON Schema (2020-12) for the documents of this API."""
    if "$ref" in schema:
        return _check(value, SCHEMAS[schema["$ref"].rpartition("/")[2]], where)
    if "anyOf" in schema:
        kinds = [option for option in schema["anyOf"] if (option.get("type") == "null") == (value is None)]
        assert kinds, where
        return None if value is None else _check(value, kinds[0], where)
    if "const" in schema:
        assert value == schema["const"], where
    if "enum" in schema:
        assert value in schema["enum"], where
    types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "null": type(None)}
    assert isinstance(value, types.get(schema.get("type", ""), object)), (where, value)
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        assert set(schema.get("required", [])) <= set(value), where
        rest = schema.get("additionalProperties", True)
        for name, item in value.items():
            if name in properties:
                _check(item, properties[name], f"{where}.{name}")
            else:
                assert rest is not False, f"{where}.{name}"
                if isinstance(rest, dict):
                    _check(item, rest, f"{where}.{name}")
    if schema.get("type") == "array":
        for item in value:
            _check(item, schema["items"], f"{where}[]")
    return None


def _schema(path: str, method: str, status: int) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path][method]["responses"][str(status)]["content"]["application/json"]["schema"]
    return found


def test_answers_are_what_the_document_says(served: Served, api: Connection) -> None:
    made = api.request("POST", "/api/v1/vms", document={"name": "web", "plugin": "nginx"})
    _check(made.json(), _schema("/api/v1/vms", "post", 201), "VM")
    served.run(served.plane.make_ready("web"))
    served.run(served.plane.events.record("web", "Ready", "it is"))
    for path in (
        "/api/v1/vms",
        "/api/v1/vms/{name}",
        "/api/v1/plugins",
        "/api/v1/events",
        "/api/v1/system/checks",
        "/api/v1/system/summary",
        "/healthz",
    ):
        _check(api.get_json(path.replace("{name}", "web")), _schema(path, "get", 200), path)
    taken = api.request("POST", "/api/v1/snapshots", document={"name": "before", "vm": "web"}, query={"wait": "ready"})
    _check(taken.json(), _schema("/api/v1/snapshots", "post", 201), "Snapshot")
    forked = api.request("POST", "/api/v1/vms/web/fork", document={"names": ["web-1"]})
    _check(forked.json(), _schema("/api/v1/vms/{name}/fork", "post", 201), "forked")
    built = api.request("POST", "/api/v1/templates", document={"plugin": "nginx"})
    _check(built.json(), _schema("/api/v1/templates", "post", 200), "Template")
    pooled = api.request("PUT", "/api/v1/plugins/nginx/pool", document={"size": 2})
    _check(pooled.json(), _schema("/api/v1/plugins/{name}/pool", "put", 200), "pooled")
    served.plane.door.stats[made.json()["uid"]] = make_stats()
    for path in ("/api/v1/snapshots", "/api/v1/templates", "/api/v1/pools", "/api/v1/vms/{name}/stats", "/api/v1/stats"):
        _check(api.get_json(path.replace("{name}", "web")), _schema(path, "get", 200), path)
    _check(api.request("POST", "/api/v1/templates/prune").json(), _schema("/api/v1/templates/prune", "post", 200), "pruned")
    _check(api.request("POST", "/api/v1/system/drain").json(), _schema("/api/v1/system/drain", "post", 200), "drained")
    _check(api.request("DELETE", "/api/v1/vms/web").json(), _schema("/api/v1/vms/{name}", "delete", 202), "deleted")


def test_the_checker_of_these_tests_can_fail(api: Connection) -> None:
    made = api.request("POST", "/api/v1/vms", document={"name": "web", "plugin": "nginx"}).json()
    for broken in ({**made, "surprise": 1}, {**made, "cpu_cores": "1"}, {key: made[key] for key in made if key != "uid"}):
        with pytest.raises(AssertionError):
            _check(broken, SCHEMAS["VM"], "VM")


def test_what_refuses_unknown_fields_says_so() -> None:
    for name in ("VM", "VMWanted", "Plugin", "Snapshot", "SnapshotWanted", "Event", "ExecRequest", "ForkWanted", "PoolWanted"):
        assert SCHEMAS[name]["additionalProperties"] is False, name
    assert set(SCHEMAS["VMWanted"]["required"]) == {"name", "plugin"}
    assert SCHEMAS["VMStatus"].get("additionalProperties", True) is True


def test_less_may_be_sent_than_may_be_read() -> None:
    assert SCHEMAS["VMWanted"]["properties"]["power"]["enum"] == ["running", "stopped"]
    assert "parked" in SCHEMAS["VM"]["properties"]["power"]["enum"]
    assert SCHEMAS["SnapshotWanted"]["properties"]["transient"]["const"] is False


def test_every_error_of_a_route_stands_in_its_answers() -> None:
    assert {AlreadyExists, InvalidInput, Malformed, WrongMediaType, TooLarge, TimedOut, Forbidden} <= set(problems_of(CREATE))
    answers = DOCUMENT["paths"]["/api/v1/vms"]["post"]["responses"]
    assert {"200", "201", "400", "401", "403", "406", "409", "413", "415", "422", "431", "500", "503", "504"} == set(answers)
    assert "already_exists" in answers["409"]["description"]
    assert "403" not in DOCUMENT["paths"]["/healthz"]["get"]["responses"]


def test_the_headers_that_a_route_looks_at_stand_in_it() -> None:
    def headers(path: str, method: str) -> set[str]:
        parameters = DOCUMENT["paths"][path][method].get("parameters", [])
        return {one["name"] for one in parameters if one["in"] == "header"}

    assert headers("/api/v1/vms", "post") == {"Idempotency-Key", "Volant-Reason"}
    assert headers("/api/v1/vms/{name}", "patch") == {"If-Match", "Volant-Manager", "Volant-Reason"}
    assert headers("/api/v1/vms/{name}", "get") == {"If-None-Match"}
    assert headers("/api/v1/vms", "get") == {"If-None-Match", "Last-Event-ID"}
    assert headers("/api/v1/vms/{name}/agent/{path}", "post") == {"Volant-Timeout"}
    assert headers("/api/v1/system/token", "post") == set()
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                assert status == "304" or "Volant-Request-Id" in answer["headers"], (path, method, status)
    assert DOCUMENT["paths"]["/openapi"]["get"]["deprecated"] is True
