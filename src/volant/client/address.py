"""Where volantd answers, as ``VOLANT_API`` writes it."""

from __future__ import annotations

from volant.core.errors import InvalidInput

VARIABLE = "VOLANT_API"
DEFAULT = "unix:///run/volant/volantd.sock"


def socket_path(address: str) -> str:
    """The path in ``unix:///path`` or ``unix:path``. Raises InvalidInput."""
    scheme, colon, rest = address.partition(":")
    path = rest.removeprefix("//") if rest.startswith("///") else rest
    if scheme != "unix" or not colon or not path or path.startswith("//"):
        raise InvalidInput(f"{address[:80]!r} is not where a volantd answers", field=VARIABLE, hint=f"write {VARIABLE}={DEFAULT}")
    return path
