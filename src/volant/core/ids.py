"""Names and ids: what may be one, and how new ones are made."""

from __future__ import annotations

import re
import uuid
from typing import NewType

from volant.core.errors import InvalidInput

Uid = NewType("Uid", str)
"""32 lower-case hexadecimal digits, unique for ever, never reused."""

RunId = NewType("RunId", str)
"""One start of one VM: 32 lower-case hexadecimal digits."""

Digest = NewType("Digest", str)
"""``sha256:`` and 64 lower-case hexadecimal digits."""

NAME_MAX = 63
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def new_uid() -> Uid:
    return Uid(uuid.uuid4().hex)


def new_run_id() -> RunId:
    return RunId(uuid.uuid4().hex)


def check_name(name: str, field: str = "name") -> str:
    """Return ``name`` when it is a DNS label (RFC 1123, section 2.1), else raise InvalidInput.

    A VM's name becomes its host name and part of URLs, so nothing wider is taken.
    """
    if len(name) > NAME_MAX or not _NAME.fullmatch(name):
        shown = name if len(name) <= 80 else name[:77] + "..."
        raise InvalidInput(
            f"{shown!r} is not a valid name",
            field=field,
            hint="use 1 to 63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit",
        )
    return name


def check_digest(digest: str, field: str = "checksum") -> Digest:
    """Return ``digest`` as a Digest, else raise InvalidInput."""
    if not _DIGEST.fullmatch(digest):
        raise InvalidInput(
            f"{digest[:80]!r} is not a sha256 digest", field=field, hint="write sha256: and 64 lower-case hexadecimal digits"
        )
    return Digest(digest)
