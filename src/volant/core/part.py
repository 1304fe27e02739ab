"""What the parts of a manifest are made of."""

from __future__ import annotations

from typing import Annotated

import msgspec

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Milliseconds = Annotated[int, msgspec.Meta(ge=1, le=3_600_000)]
Command = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=256)]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Frozen, and refuses fields that it does not know."""
