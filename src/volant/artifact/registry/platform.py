"""Which of an index's images is for a machine."""

from __future__ import annotations

import platform as host_platform
import re
from collections.abc import Iterable

from volant.artifact.registry.documents import Descriptor, Platform
from volant.core.errors import InvalidInput, NotFound

_ARCHITECTURES = {
    "x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armhf": "arm", "i386": "386", "i686": "386",
    "ppc64el": "ppc64le",
}  # fmt: skip
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LEVEL = re.compile(r"v(\d{1,2})")


def parse_platform(text: str) -> Platform:
    """Read ``[OS/]ARCHITECTURE[/VARIANT]``, for example ``linux/arm64`` or ``arm/v7``; the OS is linux when it is left out.

    Raises:
        InvalidInput: it is not that.
    """
    words = text.split("/")
    if not 1 <= len(words) <= 3 or not all(_WORD.fullmatch(word) for word in words):
        raise InvalidInput(
            f"{text[:80]!r} is not a platform", field="platform", hint="write linux/amd64, linux/arm64 or linux/arm/v7"
        )
    if len(words) == 1 or (len(words) == 2 and _LEVEL.fullmatch(words[1])):
        words.insert(0, "linux")
    system, architecture = words[0].lower(), words[1].lower()
    return Platform(_ARCHITECTURES.get(architecture, architecture), system, words[2].lower() if len(words) == 3 else "")


def host() -> Platform:
    """Linux on this machine's processor."""
    return parse_platform(f"linux/{host_platform.machine()}")


def choose_platform(candidates: Iterable[Descriptor], wanted: Platform, what: str) -> Descriptor:
    """The first that fits best: the wanted variant, or the highest below it, which the same processor runs too.

    Raises:
        NotFound: none fits; the hint says what there is.
    """
    listed = tuple(candidates)
    ranked = sorted(
        (d for d in listed if d.platform is not None and fits(d.platform, wanted)), key=lambda d: -_level(d.platform or wanted)
    )
    if ranked:
        return ranked[0]
    if len(listed) == 1 and listed[0].platform is None:
        return listed[0]
    known = sorted({str(d.platform) for d in listed if d.platform is not None and d.platform.os not in ("", "unknown")})
    raise NotFound(
        f"{what} has nothing for {wanted}", hint=f"it has: {', '.join(known)}" if known else "it says of nothing what it is for"
    )


def fits(found: Platform, wanted: Platform) -> bool:
    if (found.os, _ARCHITECTURES.get(found.architecture, found.architecture)) != (wanted.os, wanted.architecture):
        return False
    return _level(found) <= _level(wanted) if _is_levelled(found) and _is_levelled(wanted) else found.variant == wanted.variant


def _is_levelled(platform: Platform) -> bool:
    variant = platform.variant or _DEFAULT_VARIANTS.get(platform.architecture, "")
    return bool(_LEVEL.fullmatch(variant))


def _level(platform: Platform) -> int:
    match = _LEVEL.fullmatch(platform.variant or _DEFAULT_VARIANTS.get(platform.architecture, ""))
    return int(match[1]) if match else 0
