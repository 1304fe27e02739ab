"""Where sparse files of tar archives have data: GNU's old format, and the three that are PAX records (GNU tar manual,
"Storing Sparse Files")."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from volant.core.errors import InvalidInput
from volant.fledge.layers.pax import Records, parse_decimal

SparseMap = list[tuple[int, int]]
"""Offset and length of each run of data, in order."""

_PAIR = 24
_OLD_PAIRS = 4
_MORE_PAIRS = 21
_LINE_MAX_BYTES = 20
_PREFIX = b"GNU.sparse."


class PaxMap(msgspec.Struct, frozen=True):
    """``sparse`` is None when the map stands in front of the data (format 1.0)."""

    name: bytes
    size_bytes: int
    sparse: SparseMap | None


def parse_number(field: bytes, what: str) -> int:
    """A numeric field of a header: octal digits, or GNU's base 256. Raises InvalidInput."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ((1 << (8 * len(field) - 1)) - 1)
        # Two's complement in all bits but the mark; 0xff begins a negative number.
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    digits = field.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    if not digits.isdigit():
        raise InvalidInput(f"it is no tar archive, or a damaged one: a {what} is not a number")
    try:
        return int(digits, 8)
    except ValueError as error:
        raise InvalidInput(f"it is no tar archive, or a damaged one: a {what} is not a number") from error


def parse_old_map(header: bytes) -> tuple[SparseMap, bool, int]:
    """From a header of type S: the map, whether an extension block follows, and how long the file is."""
    return _parse_pairs(header, 386, _OLD_PAIRS), bool(header[482]), parse_number(header[483:495], "size")


def parse_old_map_extension(block: bytes) -> tuple[SparseMap, bool]:
    return _parse_pairs(block, 0, _MORE_PAIRS), bool(block[504])


def find_pax_map(records: Records) -> PaxMap | None:
    """What the records of formats 0.0, 0.1 and 1.0 say; None when the file is not sparse. Raises InvalidInput."""
    found = {key.removeprefix(_PREFIX): value for key, value in records if key.startswith(_PREFIX)}
    if not found:
        return None
    name = found.get(b"name", b"")
    size = parse_decimal(found.get(b"realsize") or found.get(b"size") or b"", "length")
    if b"major" in found:
        if (found[b"major"], found.get(b"minor")) != (b"1", b"0"):
            raise InvalidInput("it is sparse in a format that is not known")
        return PaxMap(name, size, None)
    if b"map" in found:
        numbers = [parse_decimal(number, "map of data") for number in found[b"map"].split(b",")] if found[b"map"] else []
    else:
        pairs = (_PREFIX + b"offset", _PREFIX + b"numbytes")
        numbers = [parse_decimal(value, "map of data") for key, value in records if key in pairs]
    if len(numbers) % 2 or (b"numblocks" in found and parse_decimal(found[b"numblocks"], "map of data") != len(numbers) // 2):
        raise InvalidInput("its map of data is damaged")
    return PaxMap(name, size, list(zip(numbers[::2], numbers[1::2], strict=True)))


def read_data_map(take_block: Callable[[], bytes]) -> SparseMap:
    """The map in front of the data of format 1.0: decimal numbers, one a line, filled up to whole blocks. Raises InvalidInput."""
    rest = b""

    def read_number() -> int:
        nonlocal rest
        while b"\n" not in rest:
            if len(rest) > _LINE_MAX_BYTES:
                raise InvalidInput("its map of data is damaged")
            rest += take_block()
        line, _, rest = rest.partition(b"\n")
        return parse_decimal(line, "map of data")

    return [(read_number(), read_number()) for _ in range(read_number())]


def check_map(sparse: SparseMap, stored_bytes: int, size_bytes: int) -> None:
    """Raises InvalidInput unless the runs are in order, apart, within the file, and as long as what is stored."""
    at = 0
    for offset, length in sparse:
        if offset < at or length < 0:
            raise InvalidInput("its map of data is damaged: its runs overlap")
        at = offset + length
    if at > size_bytes or sum(length for _, length in sparse) != stored_bytes:
        raise InvalidInput("its map of data is damaged: it is not as long as the file")


def _parse_pairs(block: bytes, begin: int, count: int) -> SparseMap:
    pairs = []
    for at in range(begin, begin + count * _PAIR, _PAIR):
        # GNU tar leaves the rest of the table empty.
        if not block[at]:
            break
        pairs.append((parse_number(block[at : at + 12], "map of data"), parse_number(block[at + 12 : at + 24], "map of data")))
    return pairs
