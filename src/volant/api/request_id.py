"""The name of a request: in its answer, in problems and in every line that volantd logs for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from volant.core.ids import new_uid

HEADER = b"volant-request-id"
REQUEST_ID = "volant_request_id"
"""Its key in an ASGI scope's ``state``."""

_GIVEN = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def choose_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's own when it gave one that can be written in a log as it is, else a new one."""
    for name, value in headers:
        if name == HEADER and _GIVEN.fullmatch(value):
            return value.decode("ascii")
    return new_uid()


def request_id_of(scope: Mapping[str, Any]) -> str:
    """Empty outside of a served request."""
    return str(scope.get("state", {}).get(REQUEST_ID, ""))
