"""How much a layer may ask for before it is refused: hostile archives are small, and what they unpack to is not."""

from __future__ import annotations

import msgspec

from volant.core.errors import TooLarge
from volant.fledge.layers.pax import show

GIB = 1 << 30
_HINT = "if the image is meant to be that large, raise the limit"


class UnpackLimits(msgspec.Struct, frozen=True, kw_only=True):
    """For all layers of an image together, but for the sizes of one file, one path and one extended header.

    ``total_max_bytes`` counts files as long as they are, holes and files of lower layers included. ``metadata_max_bytes`` counts
    what is remembered or read besides content: names, links, extended headers, maps of sparse files. A layer may expand to
    ``ratio_floor_bytes`` at any rate, and beyond that to ``ratio_max`` times what was read of it.
    """

    total_max_bytes: int = 64 * GIB
    file_max_bytes: int = 32 * GIB
    max_entries: int = 1_000_000
    metadata_max_bytes: int = GIB // 8
    header_max_bytes: int = 1 << 20
    path_max_bytes: int = 1 << 14
    path_max_depth: int = 1024
    ratio_max: int = 200
    ratio_floor_bytes: int = GIB


class Budget:
    """What is left of the limits. Every method raises TooLarge when nothing is."""

    def __init__(self, limits: UnpackLimits) -> None:
        self.limits = limits
        self.entries = 0
        self.size_bytes = 0
        self.metadata_bytes = 0

    def charge_entry(self, name: bytes) -> None:
        self.entries += 1
        if self.entries > self.limits.max_entries:
            raise TooLarge(f"{show(name)}: the image has more than {self.limits.max_entries} entries", hint=_HINT)

    def charge_metadata(self, size_bytes: int, name: bytes) -> None:
        self.metadata_bytes += size_bytes
        if self.metadata_bytes > self.limits.metadata_max_bytes:
            raise TooLarge(
                f"{show(name)}: the image has more than {self.limits.metadata_max_bytes} bytes of names and headers", hint=_HINT
            )

    def charge_file(self, size_bytes: int, name: bytes) -> None:
        if size_bytes > self.limits.file_max_bytes:
            raise TooLarge(f"{show(name)} has {size_bytes} bytes, more than {self.limits.file_max_bytes}", hint=_HINT)
        self.size_bytes += size_bytes
        if self.size_bytes > self.limits.total_max_bytes:
            raise TooLarge(f"{show(name)}: the image unpacks to more than {self.limits.total_max_bytes} bytes", hint=_HINT)

    def check_header(self, size_bytes: int, name: bytes) -> None:
        """Before an extended header of that size is read."""
        if size_bytes > self.limits.header_max_bytes:
            raise TooLarge(f"{show(name)}: an extended header of {size_bytes} bytes, more than {self.limits.header_max_bytes}")
        self.charge_metadata(size_bytes, name)

    def check_ratio(self, read_bytes: int, expanded_bytes: int, name: bytes) -> None:
        if expanded_bytes > self.limits.ratio_floor_bytes and expanded_bytes > self.limits.ratio_max * read_bytes:
            raise TooLarge(f"{show(name)} is a bomb: {read_bytes} bytes of it expand to more than {expanded_bytes}", hint=_HINT)
