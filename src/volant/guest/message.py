"""Messages: a 4-byte length and one JSON object (docs/guest-protocol.md, section 4; RFC 8259). Pure."""

from __future__ import annotations

import json
import re
import struct
from typing import Any, NoReturn, TypeVar

import msgspec

from volant.core.errors import InvalidInput, TooLarge
from volant.guest.breach import Breach

MAX_MESSAGE_BYTES = 65_536
MAX_DEPTH = 16
LENGTH_BYTES = 4
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)

T = TypeVar("T")


def encode_message(content: object) -> bytes:
    """Length and JSON of ``content``, a struct or mapping.

    Raises:
        TooLarge: it would pass 65,536 bytes.
        InvalidInput: a text in it is not UTF-8.
    """
    try:
        body = msgspec.json.encode(content)
    except UnicodeEncodeError as error:
        raise InvalidInput(f"a text for the guest is not UTF-8: {error.object[:80]!r}") from error
    if len(body) > MAX_MESSAGE_BYTES:
        raise TooLarge(f"a message to the guest may have {MAX_MESSAGE_BYTES} bytes, this one has {len(body)}")
    return struct.pack(">I", len(body)) + body


def decode_body(body: bytes) -> dict[str, Any]:
    """The JSON object that ``body`` is.

    Raises:
        Breach: not UTF-8, not JSON, not an object, deeper than 16, or a member name twice in one object.
    """
    try:
        text = body.decode("utf-8")
        _check_depth(text)
        content = json.loads(text, object_pairs_hook=_unique_members, parse_constant=_refuse_constant)
        if "\\u" in text:
            # JSON can escape half a surrogate pair; such a string is no text and could not be stored or sent on.
            json.dumps(content, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise Breach(f"the guest's agent sent a message that is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise Breach("the guest's agent sent a message that is no JSON object")
    return content


def convert_message(content: object, type_: type[T]) -> T:
    """``content`` as a struct. Raises Breach naming the member that is not as the specification says."""
    try:
        return msgspec.convert(content, type_)
    except (msgspec.ValidationError, OverflowError) as error:
        raise Breach(f"the guest's agent sent a message that is not as specified: {error}") from error


class MessageDecoder:
    """Bytes in, bodies of messages out. The length is judged before the body is waited for."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> None:
        self._held += data

    def next_body(self) -> bytes | None:
        """The next whole message's body, or None until more is fed.

        Raises:
            Breach: a length above 65,536.
        """
        held = self._held
        if len(held) < LENGTH_BYTES:
            return None
        length = int.from_bytes(held[:LENGTH_BYTES], "big")
        if length > MAX_MESSAGE_BYTES:
            raise Breach(f"the guest's agent announced a message of {length} bytes, more than {MAX_MESSAGE_BYTES}")
        if len(held) < LENGTH_BYTES + length:
            return None
        body = bytes(held[LENGTH_BYTES : LENGTH_BYTES + length])
        del held[: LENGTH_BYTES + length]
        return body

    def take_rest(self) -> bytes:
        """What was fed beyond the last message: on exec and log streams the first records."""
        rest = bytes(self._held)
        self._held.clear()
        return rest


def _check_depth(text: str) -> None:
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return
    depth = 0
    for match in _BRACKETS.finditer(text):
        mark = match.group()
        if mark in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH}")
        elif mark in "}]":
            depth -= 1


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a member name twice in one object")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
