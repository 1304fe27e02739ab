"""Which distribution a root tree says it is (os-release(5))."""

from __future__ import annotations

import re
import shlex

from volant.fledge.sbom.package import Distribution
from volant.fledge.sbom.tree import Tree

OS_RELEASE_MAX_BYTES = 64 * 1024

_PLACES = ("etc/os-release", "usr/lib/os-release")
_ID = re.compile(r"[a-z0-9._-]{1,64}")
_VERSION = re.compile(r"[a-zA-Z0-9._+~-]{1,64}")


def read_distribution(tree: Tree) -> Distribution:
    """``ID`` and ``VERSION_ID``; values that os-release(5) does not allow count as not given."""
    for place in _PLACES:
        content = tree.read_file(place, OS_RELEASE_MAX_BYTES)
        if content is not None:
            values = _parse(content.decode("utf-8", "replace"))
            name, version = values.get("ID", ""), values.get("VERSION_ID", "")
            return Distribution(name if _ID.fullmatch(name) else "", version if _VERSION.fullmatch(version) else "")
    return Distribution()


def _parse(text: str) -> dict[str, str]:
    values = {}
    for line in text.splitlines():
        key, separator, value = line.strip().partition("=")
        if not separator or key.startswith("#"):
            continue
        try:
            words = shlex.split(value)
        except ValueError:
            continue
        values[key] = words[0] if words else ""
    return values
