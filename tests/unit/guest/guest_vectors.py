"""Reads tests/vectors/guest-protocol, which both ends of the protocol run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

DIRECTORY = Path(__file__).parents[2] / "vectors" / "guest-protocol"
_REPEATED = re.compile(r"\(([0-9a-f]{2})\*(\d+)\)")


def expand(text: str) -> bytes:
    """The bytes that a vector writes as hexadecimal, with ``(61*5)`` for the byte 61 five times."""
    return bytes.fromhex(_REPEATED.sub(lambda match: match.group(1) * int(match.group(2)), text))


def each_case(name: str) -> pytest.MarkDecorator:
    """Parametrise a test's ``case`` over the cases of a file."""
    cases: list[dict[str, Any]] = json.loads((DIRECTORY / f"{name}.json").read_text())["cases"]
    assert cases
    return pytest.mark.parametrize("case", cases, ids=[case["name"].replace(" ", "_") for case in cases])
