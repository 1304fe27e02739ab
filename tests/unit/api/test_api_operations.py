"""What a workload says of its own API."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from volant.api.guest_document import DEPTH_MAX, DOCUMENT_MAX_BYTES, read_document
from volant.api.guest_operations import OPERATIONS_MAX, list_operations
from volant.client.connection import Connection
from volant.core.errors import BadAnswer, NotFound, TooLarge

from .guest_ports import Handler
from .served import Served
from .test_api_agent import hold

PETS: dict[str, Any] = {
    "openapi": "3.1.0",
    "servers": [{"url": "http://elsewhere.test/api/"}],
    "paths": {
        "/pets/{id}": {
            "parameters": [{"$ref": "#/components/parameters/Id"}],
            "get": {"operationId": "getPet", "summary": "One pet", "parameters": [{"name": "full", "in": "query"}]},
            "put": {
                "description": "Write it.\nAll of it.",
                "requestBody": {"required": True, "content": {"application/json": {}}},
            },
        },
        "/pets": {"get": {"operationId": "listPets"}, "x-else": {}, "summary": "all"},
    },
    "components": {"parameters": {"Id": {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}}},
}
YAML = b"openapi: 3.0.3\ninfo: {title: a, version: 2024-01-31}\npaths:\n  /x:\n    get: {operationId: getX}\n"


def serving(files: dict[str, bytes], asked: list[str]) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        asked.append(path)
        content = files.get(path)
        status = "404 Not Found" if content is None else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(content or b'')}\r\n\r\n".encode() + (content or b""))
        await writer.drain()

    return handle


def test_operations_are_listed_with_what_they_need(served: Served, api: Connection) -> None:
    asked: list[str] = []
    hold(served, serving({"/openapi.json": json.dumps(PETS).encode()}, asked))
    items = api.get_json("/api/v1/vms/web/operations")["items"]
    assert [(one["id"], one["method"], one["path"], one["target"]) for one in items] == [
        ("getPet", "GET", "/pets/{id}", "/api/pets/{id}"),
        ("", "PUT", "/pets/{id}", "/api/pets/{id}"),
        ("listPets", "GET", "/pets", "/api/pets"),
    ]
    assert items[0]["parameters"] == [
        {"name": "id", "in": "path", "required": True, "type": "integer", "description": ""},
        {"name": "full", "in": "query", "required": False, "type": "", "description": ""},
    ]
    assert (items[1]["summary"], items[1]["body_types"], items[1]["body_required"]) == ("Write it.", ["application/json"], True)
    assert api.get_json("/api/v1/vms/web/openapi") == PETS
    assert asked == ["/openapi.json"]  # the second answer was kept


@pytest.mark.parametrize(
    ("named", "asked_first"),
    [
        ("/docs/api.yaml?v=2", "/docs/api.yaml?v=2"),
        ("http://127.0.0.1:8080/docs/api.yaml", "/docs/api.yaml"),
        ("file:///etc/passwd", "/openapi.json"),
        ("//elsewhere.test/x", "/openapi.json"),
        ("http://169.254.169.254/x", "/openapi.json"),
        ("", "/openapi.json"),
    ],
)
def test_only_what_lies_in_the_workload_is_read(served: Served, api: Connection, named: str, asked_first: str) -> None:
    asked: list[str] = []
    hold(served, serving({asked_first: YAML}, asked), openapi=named)
    assert api.get_json("/api/v1/vms/web/openapi")["info"] == {"title": "a", "version": "2024-01-31"}
    assert asked == [asked_first]


def test_a_workload_without_one_says_so(served: Served, api: Connection) -> None:
    asked: list[str] = []
    hold(served, serving({}, asked))
    with pytest.raises(NotFound, match="no OpenAPI document"):
        api.get_json("/api/v1/vms/web/operations")
    assert asked == ["/openapi.json", "/openapi.yaml", "/openapi", "/v1/openapi"]


def test_a_document_that_is_too_large_is_not_read(served: Served, api: Connection) -> None:
    hold(served, serving({"/openapi.json": b" " * (DOCUMENT_MAX_BYTES + 1)}, []))
    with pytest.raises(TooLarge):
        api.get_json("/api/v1/vms/web/openapi")


BOMB = b"openapi: '3.0'\na: &a [x,x]\nb: &b [*a,*a]\npaths: {}\n"


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", b'{"openapi": 3, "paths": {}}', b'{"openapi": "3", "paths": []}', b"\xff\xfe\x00", b"a: [",
        b"!!python/object/apply:os.system ['true']", BOMB,
        b'{"openapi": "3", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"[" * 500_000, b"{a: " * 200_000,
        b'{"openapi": "3", "x": ' + b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1) + b"}",
        b"openapi: '3'\n? {a: 1}\n: 2\n", b"openapi: '3'\nx: .nan\npaths: {1: 2}\n---\nb: 1\n",
    ],
)  # fmt: skip
def test_what_is_no_document_is_refused(content: bytes) -> None:
    with pytest.raises(BadAnswer):
        read_document(content)


def test_nonsense_inside_is_passed_over_and_bounded() -> None:
    paths: dict[str, Any] = {f"/{number}": {"get": {"operationId": number}} for number in range(OPERATIONS_MAX + 5)}
    paths = {
        "x": {},
        "/a": 1,
        "/b": {"get": 1, "parameters": 3},
        "/c": {"post": {"parameters": [1, {"name": 1}], "requestBody": 2}},
        **paths,
    }
    found = list_operations({"openapi": "3", "paths": paths, "servers": [{"url": "http://[bad"}]})
    assert len(found) == OPERATIONS_MAX
    assert (found[0].method, found[0].path, found[0].id, found[0].parameters) == ("POST", "/c", "", [])
    circle = {
        "openapi": "3",
        "paths": {"/a": {"get": {"parameters": [{"$ref": "#/components/a"}]}}},
        "components": {"a": {"$ref": "#/components/a"}},
    }
    assert list_operations(circle)[0].parameters == []


def test_swagger_2_is_understood() -> None:
    document = {
        "swagger": "2.0", "basePath": "/v2", "consumes": ["application/xml"],
        "paths": {"/pet": {"post": {"parameters": [{"in": "body", "name": "body", "required": True}]}}},
    }  # fmt: skip
    (found,) = list_operations(document)
    assert (found.target, found.body_types, found.body_required) == ("/v2/pet", ["application/xml"], True)
