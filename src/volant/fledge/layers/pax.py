"""Records of PAX extended headers (POSIX.1-2017, pax, "pax Extended Header"): names and values as bytes, in their order."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from volant.core.errors import InvalidInput

_LENGTH_DIGITS = 20
_TIME = re.compile(rb"-?[0-9]{1,20}(?:\.[0-9]{0,40})?")

Records = list[tuple[bytes, bytes]]


def parse_records(body: bytes) -> Records:
    """Every record of one header. Raises InvalidInput when a length is not what it says."""
    records: Records = []
    at = 0
    while at < len(body):
        space = body.find(b" ", at, at + _LENGTH_DIGITS)
        digits = body[at:space] if space > at else b""
        end = at + int(digits) if digits.isdigit() else 0
        if not space < end <= len(body) or body[end - 1] != 0x0A:
            raise InvalidInput("an extended header is damaged: a record is not as long as it says")
        key, separator, value = body[space + 1 : end - 1].partition(b"=")
        if not separator or not key:
            raise InvalidInput("an extended header is damaged: a record has no name")
        records.append((key, value))
        at = end
    return records


def parse_decimal(value: bytes, what: str) -> int:
    """A whole number that is not negative. Raises InvalidInput."""
    if not value.isdigit() or len(value) > _LENGTH_DIGITS:
        raise InvalidInput(f"its {what} is {show(value)}, which is no number")
    return int(value)


def parse_time_ns(value: bytes) -> int:
    """Seconds since 1970 with any number of decimals, in nanoseconds rounded down. Raises InvalidInput."""
    if not _TIME.fullmatch(value):
        raise InvalidInput(f"its time is {show(value)}, which is no number")
    try:
        return int((Decimal(value.decode("ascii")) * 10**9).to_integral_value(rounding="ROUND_FLOOR"))
    except InvalidOperation as error:
        raise InvalidInput(f"its time is {show(value)}, which has too many digits") from error


def show(name: bytes) -> str:
    """A name as an error message may carry it: short, on one line, nothing in it that a terminal would obey."""
    text = name[:200].decode("utf-8", "backslashreplace")
    if text.isprintable() and len(name) <= 200:
        return text
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text) + ("…" if len(name) > 200 else "")
