"""Documents under manifests/: each is read as it says, or refused with the field that it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from volant.core.errors import InvalidInput
from volant.core.manifest import convert_manifest, read_manifest
from volant.core.manifest_origin import modernise

DIRECTORY = Path(__file__).parent / "manifests"


def each(kind: str) -> pytest.MarkDecorator:
    paths = sorted(DIRECTORY.glob(f"{kind}-*.json"))
    assert paths
    return pytest.mark.parametrize("case", [json.loads(path.read_text()) for path in paths], ids=[path.stem for path in paths])


@each("read")
def test_it_is_read(case: dict[str, Any]) -> None:
    manifest = read_manifest(json.dumps(case["document"]).encode())
    for field, value in case["expect"].items():
        found: Any = manifest
        for name in field.split("."):
            found = getattr(found, name)
        assert json.loads(msgspec.json.encode(found)) == value, field
    assert convert_manifest(msgspec.to_builtins(manifest)) == manifest, "what was read is read again as it is"


@each("refused")
def test_it_is_refused_by_name(case: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_manifest(json.dumps(case["document"]).encode())
    assert caught.value.field == case["field"], (case["why"], caught.value.message)


@pytest.mark.parametrize(
    "document", [None, [], "x", 7, {}, {"workload": 1}, {"workload": {"entrypoint": "a", "args": 1}}, {"env": 1}]
)
def test_what_is_no_manifest_is_left_to_whoever_reads_it(document: object) -> None:
    before = json.dumps(document)
    modernise(document)
    assert json.dumps(document) == before, "it is not changed in place"
    with pytest.raises(InvalidInput):
        convert_manifest(document)
