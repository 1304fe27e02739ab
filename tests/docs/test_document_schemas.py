"""The schemas of documents are fresh, and say of the examples what volantd says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from volant.cli.documents import read_documents
from volant.core.document_schema import ANY, KINDS, build_schema
from volant.core.resource import from_wire
from volant.schemas import main, render_schemas

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "docs" / "reference" / "schemas" / "v1"
EXAMPLES = ROOT / "examples" / "deployment"


def test_the_schemas_are_fresh() -> None:
    written = {path.name: path.read_bytes() for path in SCHEMAS.iterdir()}
    assert written == render_schemas(), "python -m volant.schemas docs/reference/schemas/v1"


def test_the_schemas_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    assert main([str(tmp_path / "new")]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == render_schemas().keys()
    assert main([]) == 2


@pytest.mark.parametrize("kind", [*KINDS, ANY])
def test_a_schema_is_one(kind: str) -> None:
    schema = build_schema(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    text = json.dumps(schema)
    for name in {part.partition('"')[0] for part in text.split('"#/$defs/')[1:]}:
        assert name in schema["$defs"]


def test_the_examples_are_valid() -> None:
    documents, errors = read_documents([str(EXAMPLES)])
    assert not errors
    assert {document.kind for document in documents} >= {"Deployment", "Network", "Quota", "CronJob"}
    for document in documents:
        jsonschema.Draft202012Validator(build_schema(ANY)).validate(document.content)
        jsonschema.Draft202012Validator(build_schema(document.kind)).validate(document.content)
        assert from_wire(KINDS[document.kind], document.content).name == document.name
    for file in EXAMPLES.glob("*.yaml"):
        first = file.read_text().splitlines()[0]
        assert (file.parent / first.partition("$schema=")[2]).resolve() == (SCHEMAS / "volant.json").resolve()


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "VM"},
        {"kind": "Vm", "name": "web"},
        {"kind": "VM", "name": "web", "memory": 1},
        {"kind": "VM", "name": "Web"},
        {"kind": "VM", "name": "web", "memory_mb": "128"},
        {"kind": "Deployment", "name": "web", "vm": {"plugin": "nginx", "nope": 1}},
        {"kind": "Deployment", "name": "web", "strategy": {"type": "sudden"}},
        {"kind": "List", "items": [{"kind": "VM"}]},
    ],
)
def test_what_cannot_be_is_marked(document: dict[str, Any]) -> None:
    assert list(jsonschema.Draft202012Validator(build_schema(ANY)).iter_errors(document))


def test_fields_explain_themselves() -> None:
    schema = build_schema("Deployment")
    assert schema["properties"]["min_ready_s"]["description"].startswith("A replica counts as available")
    assert schema["$defs"]["Strategy"]["properties"]["max_surge"]["description"] == "A share is rounded up."
    assert schema["$defs"]["VMSpec"]["properties"]["root"]["description"].startswith("`disk`: the writable layer survives")
    assert schema["description"].startswith("The deployment: a number of VMs")
