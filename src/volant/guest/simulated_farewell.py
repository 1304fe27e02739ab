"""What a simulated guest leaves on its console when it powers off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from volant.guest.document import digest_document
from volant.guest.farewell import Farewell, StopReason, encode_farewell
from volant.guest.protocol import Exit


def say_farewell(document: bytes, reason: str, workload_notice: Mapping[str, Any] | None) -> bytes:
    """The line; nothing while it is not stopping, and of a guest that was never told who it is."""
    if not document or not reason:
        return b""
    told = (workload_notice or {}).get("exit")
    ended = Farewell(reason=cast(StopReason, reason), exit=Exit(**told) if told else None)
    return encode_farewell(digest_document(document), ended)
