"""``python -m volant.schemas DIR`` writes the JSON Schemas of the documents that ``volar apply`` takes, one file a kind."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from volant.core.document_schema import ANY, KINDS, build_schema


def render_schemas() -> dict[str, bytes]:
    """What each file holds, by its name."""
    names = {ANY: f"{ANY}.json", **{kind: f"{kind.lower()}.json" for kind in KINDS}}
    return {name: msgspec.json.format(msgspec.json.encode(build_schema(kind)), indent=2) + b"\n" for kind, name in names.items()}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m volant.schemas DIR\n")
        return 2
    directory = Path(arguments[0])
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in render_schemas().items():
        (directory / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
