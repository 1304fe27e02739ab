"""The OpenAPI document as docs/reference keeps it.

``python -m volant.api.reference > docs/reference/openapi.json``
"""

from __future__ import annotations

import sys

import msgspec

from volant import __version__
from volant.api.app import HANDLERS
from volant.api.openapi import build_document


def render_document() -> bytes:
    return msgspec.json.format(msgspec.json.encode(build_document(HANDLERS, __version__)), indent=2) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(render_document())
