"""JSON Schemas (draft 2020-12) of what people write in files, one a kind, made from the types themselves."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any

import msgspec

from volant.core.deployment import Deployment
from volant.core.field_paths import find_records
from volant.core.job import CronJob, Job
from volant.core.network import Network
from volant.core.node import Node
from volant.core.plugin import Plugin
from volant.core.quota import Quota
from volant.core.resource import API, META_FIELDS, Resource
from volant.core.vm import VM

DIALECT = "https://json-schema.org/draft/2020-12/schema"
KINDS: dict[str, type[Resource[Any, Any]]] = {
    cls.kind: cls for cls in (Node, Quota, Network, Plugin, VM, Job, CronJob, Deployment)
}
"""What files hold, in the order in which one needs another."""

ANY = "volant"
"""The schema of a document of any kind."""

_NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(@[A-Za-z0-9._+-]+)?$"


def build_schema(kind: str) -> dict[str, Any]:
    """Of a document of this kind, or of any for ``ANY``. Raises KeyError for a kind that no file holds."""
    if kind == ANY:
        return _build_any()
    definitions, root = _describe(KINDS[kind])
    return {"$schema": DIALECT, **root, "$defs": definitions}


def _build_any() -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    for kind, cls in KINDS.items():
        below, root = _describe(cls)
        definitions |= {**below, kind: root}
    items = {"type": "array", "items": {"$ref": "#"}}
    definitions["List"] = {
        "title": "List",
        "type": "object",
        "properties": {"kind": {"const": "List"}, "items": items},
        "required": ["kind", "items"],
    }
    # By the kind and not by trial, so that an error is told of the kind that it is.
    cases = [
        {"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]}, "then": {"$ref": f"#/$defs/{kind}"}}
        for kind in (*KINDS, "List")
    ]
    return {
        "$schema": DIALECT,
        "title": "A document that volar apply takes",
        "type": "object",
        "properties": {"kind": {"enum": [*KINDS, "List"]}},
        "required": ["kind"],
        "allOf": cases,
        "$defs": dict(sorted(definitions.items())),
    }


def _describe(cls: type[Resource[Any, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The definitions, and the flat form of the resource."""
    _, definitions = msgspec.json.schema_components([cls.spec_type], ref_template="#/$defs/{name}")
    for record in [cls.spec_type, *find_records(cls.spec_type)]:
        if record.__name__ in definitions:
            _explain(definitions[record.__name__], record)
    spec = definitions.pop(cls.spec_type.__name__)
    passed_over = {name: {"description": "Passed over."} for name in sorted(META_FIELDS - {"api", "kind", "name", "labels"})}
    root = {
        "title": cls.kind,
        "description": _first_line(spec.get("description") or inspect.getdoc(inspect.getmodule(cls)) or ""),
        "type": "object",
        "properties": {
            "api": {"const": API},
            "kind": {"const": cls.kind},
            "name": {"type": "string", "pattern": _NAME, "maxLength": 253},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            **spec["properties"],
            **passed_over,
        },
        # A file that names some of its fields leaves the others to whoever decides them.
        "required": ["kind", "name"],
        "additionalProperties": False,
    }
    return dict(sorted(definitions.items())), _allow_null(root)


def _first_line(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].replace("``", "`").split())


def _allow_null(root: dict[str, Any]) -> dict[str, Any]:
    """Null is as if it was not written, wherever a field stands."""
    fields = {name: _or_null(field) for name, field in root["properties"].items() if name not in ("api", "kind", "name")}
    return {**root, "properties": {**root["properties"], **fields}}


def _or_null(field: dict[str, Any]) -> dict[str, Any]:
    if set(field) <= {"description"} or any(each.get("type") == "null" for each in field.get("anyOf", ())):
        return field
    kept = [key for key in ("description", "default") if key in field]
    bare = {key: value for key, value in field.items() if key not in kept}
    return {**{key: field[key] for key in kept}, "anyOf": [bare, {"type": "null"}]}


def _explain(schema: dict[str, Any], record: type[msgspec.Struct]) -> None:
    """What is said of each field where it is declared, as its description."""
    said = _read_notes(record)
    for name, field in schema.get("properties", {}).items():
        if name not in said or "description" in field:
            continue
        if "$ref" in field:
            # Beside a reference a description is read since draft 2019-09; editors show the nearer one.
            schema["properties"][name] = {"description": said[name], **field}
        else:
            field["description"] = said[name]


@lru_cache(maxsize=128)
def _read_notes(record: type[msgspec.Struct]) -> dict[str, str]:
    found: dict[str, str] = {}
    for cls in reversed(record.__mro__):
        if cls.__module__.startswith("volant.") and issubclass(cls, msgspec.Struct):
            found |= dict(_parse_notes(cls))
    return found


def _parse_notes(cls: type) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except OSError:
        return  # where there is no source there are no notes
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    for field, note in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(note, ast.Expr)
            and isinstance(note.value, ast.Constant)
            and isinstance(note.value.value, str)
        ):
            yield field.target.id, " ".join(note.value.value.replace("``", "`").split())
