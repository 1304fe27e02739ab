"""The API as its description has it: what a request may be. The description lies beside this module, as JSON."""

from __future__ import annotations

import json
import pkgutil

DESCRIPTION: dict = json.loads(pkgutil.get_data("api", "api.json") or b"")

UNDESCRIBED = {"RestoreConfig": {"net_fds"}}
"""What the code and docs/snapshot_restore.md have and the description has not."""


def resolve(schema: dict) -> tuple[str, dict]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return (name, DESCRIPTION["components"]["schemas"][name]) if name else ("", schema)


def validate(schema: dict, value, where: str) -> None:
    """Raise ValueError unless ``value`` is what the description says, and has no field that it does not name."""
    name, schema = resolve(schema)
    kind = schema.get("type")
    if kind == "object":
        if not isinstance(value, dict):
            raise ValueError(f"{where} is no object")
        known = schema.get("properties", {})
        for needed in schema.get("required", []):
            if needed not in value:
                raise ValueError(f"{where} lacks {needed}")
        for key, part in value.items():
            if key in known:
                validate(known[key], part, f"{where}.{key}")
            elif key not in UNDESCRIBED.get(name, ()) and "additionalProperties" not in schema:
                raise ValueError(f"{where} has {key}, which {name or 'it'} does not know")
    elif kind == "array":
        if not isinstance(value, list):
            raise ValueError(f"{where} is no array")
        for index, part in enumerate(value):
            validate(schema["items"], part, f"{where}[{index}]")
    elif kind == "string":
        if not isinstance(value, str):
            raise ValueError(f"{where} is no string")
    elif kind == "integer":
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{where} is no integer")
        if value < schema.get("minimum", 0) or value >= 1 << {"int8": 8, "uint8": 8, "int16": 16}.get(schema.get("format"), 64):
            raise ValueError(f"{where} is {value}")
    elif kind == "boolean" and not isinstance(value, bool):
        raise ValueError(f"{where} is no boolean")
    if "enum" in schema and value not in schema["enum"]:
        raise ValueError(f"{where} is {value!r}")
