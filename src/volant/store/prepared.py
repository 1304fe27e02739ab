"""Operations made ready for any keeper: checked against the contract's limits, data encoded and looked into once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from volant.core.errors import InvalidInput, TooLarge
from volant.core.resource import split_validation_error
from volant.store.contract import MAX_BYTES, MAX_OPERATIONS, Create, Delete, Key, Operation, RequireLease, Update


class _Meta(msgspec.Struct, frozen=True):
    labels: dict[str, str] = {}
    deleting_at: str | None = None


class Seen(msgspec.Struct, frozen=True):
    """What a keeper looks at in a record's data; everything else is passed over."""

    meta: _Meta = _Meta()


class Written(msgspec.Struct, frozen=True):
    """The data of one Create or Update: its JSON text and its labels."""

    text: str
    labels: dict[str, str]


class Prepared(msgspec.Struct, frozen=True):
    """One transaction. ``written`` is as long as ``operations``, with None beside what writes no data."""

    operations: tuple[Operation, ...]
    written: tuple[Written | None, ...]
    size: int
    """Bytes of JSON."""


_look_into = msgspec.json.Decoder(Seen).decode
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def prepare(operations: Sequence[Operation]) -> Prepared:
    """Check and encode ``operations``. What the caller does to its data afterwards changes nothing.

    Raises:
        InvalidInput: none or more than MAX_OPERATIONS, a key named twice by writing operations, a name that is no text, or
            data that is no JSON object or whose ``meta.labels`` do not map text to text.
        TooLarge: more than MAX_BYTES of JSON.
    """
    if not operations:
        raise InvalidInput("a transaction needs at least one operation")
    # A lease is asked for beside what is done, so that whoever fills a transaction need not know that it must be held.
    count = sum(not isinstance(operation, RequireLease) for operation in operations)
    if count > MAX_OPERATIONS or len(operations) > MAX_OPERATIONS + 1:
        raise InvalidInput(f"a transaction holds at most {MAX_OPERATIONS} operations, this one has {count}")
    written: list[Written | None] = []
    named: set[Key] = set()
    size = 0
    for operation in operations:
        if isinstance(operation, RequireLease):
            check_text(operation.name, operation.holder)
        else:
            check_key(operation.key)
        if isinstance(operation, Create | Update | Delete):
            if operation.key in named:
                raise InvalidInput(f"a transaction names a key once, this one writes {operation.key} twice")
            named.add(operation.key)
        if isinstance(operation, Create | Update):
            encoded = encode_data(operation.key, operation.data)
            size += len(encoded)
            if size > MAX_BYTES:
                raise TooLarge(
                    f"a transaction writes at most {MAX_BYTES} bytes, this one passes that at {operation.key}",
                    hint="make the record smaller or write fewer at once",
                )
            written.append(Written(encoded.decode(), look_into(operation.key, encoded).meta.labels))
        else:
            written.append(None)
    return Prepared(tuple(operations), tuple(written), size)


def check_key(key: Key) -> None:
    """Raises InvalidInput for a key that cannot be written down as Unicode text."""
    check_text(key.kind, key.project, key.name)


def check_text(*texts: str) -> None:
    """Raises InvalidInput for a text with half a surrogate pair in it, which no keeper can write down."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"{text!r} is not Unicode text") from error


def encode_data(key: Key, data: dict[str, Any]) -> bytes:
    """``data`` as JSON. Raises InvalidInput when it is no JSON object."""
    if not isinstance(data, dict):
        raise InvalidInput(f"the data of {key} is not a JSON object")
    try:
        return _encode(data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput(f"the data of {key} cannot be written as JSON: {error}") from error


def look_into(key: Key, encoded: bytes) -> Seen:
    """Raises InvalidInput when ``meta`` is not what a keeper can read."""
    try:
        return _look_into(encoded)
    except msgspec.ValidationError as error:
        message, field = split_validation_error(error)
        raise InvalidInput(f"the data of {key} has a wrong {field or 'meta'}: {message}", field=field) from error


def see(text: str) -> Seen:
    """What a keeper looks at in data that it wrote itself."""
    return _look_into(text)


def decode_data(text: str) -> dict[str, Any]:
    """The inverse of encode_data. Raises msgspec.DecodeError on what was not written by it."""
    return _decode(text)
