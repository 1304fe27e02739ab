"""Extended attributes of an entry: out of PAX records, onto a file."""

from __future__ import annotations

import base64
import binascii
import errno
import os
from urllib.parse import unquote_to_bytes

from volant.core.errors import InvalidInput
from volant.fledge.layers.pax import Records, show

DEFAULT_ACL = b"system.posix_acl_default"

_SCHILY = b"SCHILY.xattr."
_LIBARCHIVE = b"LIBARCHIVE.xattr."
ATTRIBUTE_PREFIXES = (_SCHILY, _LIBARCHIVE)
_KEPT = (b"user.", b"security.", b"trusted.", b"system.posix_acl_access", DEFAULT_ACL)
_NAME_MAX_BYTES = 255
_VALUE_MAX_BYTES = 65536

Attributes = dict[bytes, bytes]


def decode_attributes(records: Records) -> Attributes:
    """Names and values, sorted by name.

    SCHILY.xattr (star, GNU tar and Go) has the bytes as they are; LIBARCHIVE.xattr (bsdtar) has the name URL-encoded and the
    value in base64, and counts where the other is missing. Raises InvalidInput.
    """
    found: Attributes = {}
    for key, value in records:
        if key.startswith(_LIBARCHIVE):
            name = unquote_to_bytes(key.removeprefix(_LIBARCHIVE))
            try:
                found.setdefault(name, base64.b64decode(value + b"=" * (-len(value) % 4), validate=True))
            except binascii.Error as error:
                raise InvalidInput(f"the value of its attribute {show(name)} is no base64") from error
    found.update((key.removeprefix(_SCHILY), value) for key, value in records if key.startswith(_SCHILY))
    for name, value in found.items():
        if not 0 < len(name) <= _NAME_MAX_BYTES or b"\0" in name:
            raise InvalidInput(f"{show(name)!r} is no name of an attribute")
        if len(value) > _VALUE_MAX_BYTES:
            raise InvalidInput(f"its attribute {show(name)} has {len(value)} bytes, more than {_VALUE_MAX_BYTES}")
    return dict(sorted(found.items()))


def set_attributes(target: int | bytes, attributes: Attributes) -> list[bytes]:
    """Set them on an open file, or on what lies at a path, links not followed. Returns those that Linux has no place for.

    Those are other systems' own, and ``user.`` on links, devices and pipes (xattr(7)). Raises OSError for the rest.
    """
    refused = []
    for name, value in attributes.items():
        if not name.startswith(_KEPT):
            refused.append(name)
            continue
        try:
            if isinstance(target, int):
                os.setxattr(target, name, value)
            else:
                os.setxattr(target, name, value, follow_symlinks=False)
        except OSError as error:
            lost = isinstance(target, bytes) and name.startswith(b"user.") and error.errno in (errno.EPERM, errno.EOPNOTSUPP)
            if not lost:
                raise
            refused.append(name)
    return refused


def clear_attributes(descriptor: int) -> None:
    for name in os.listxattr(descriptor):
        os.removexattr(descriptor, name)
