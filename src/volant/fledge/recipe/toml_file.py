"""The TOML files that people write for fledge: read with limits, checked against a record, complained about by line."""

from __future__ import annotations

import difflib
import tomllib
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from volant.core.errors import InvalidInput
from volant.core.resource import split_validation_error
from volant.fledge.recipe.place import find_error_line, find_line

FILE_MAX_BYTES = 256 * 1024

T = TypeVar("T")
StructT = TypeVar("StructT", bound=msgspec.Struct)


def read_toml(path: Path, parse: Callable[[str], T], *, hint: str) -> T:
    """What ``parse`` makes of the file's text. ``hint`` says what to do when it cannot be read.

    Raises:
        InvalidInput: it cannot be read, or breaks a rule; the message begins with the file and the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    if len(content) > FILE_MAX_BYTES:
        raise InvalidInput(f"{path} is larger than {FILE_MAX_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{path}:{line}: it is not TOML: not UTF-8") from error
    try:
        return parse(text)
    except InvalidInput as error:
        cause = error.__cause__
        if isinstance(cause, tomllib.TOMLDecodeError):
            line_number = find_error_line(cause)
        else:
            line_number = find_line(text, error.field) if error.field else None
        place = f"{path}:{line_number}" if line_number else str(path)
        raise InvalidInput(f"{place}: {error.message}", field=error.field, hint=error.hint) from error


def parse_toml(text: str) -> dict[str, Any]:
    """The document as plain data. Raises InvalidInput when it is no TOML."""
    if len(text) > FILE_MAX_BYTES:
        raise InvalidInput(f"it is larger than {FILE_MAX_BYTES} bytes")
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(f"it is not TOML: {error}") from error


def convert(data: Mapping[str, Any], kind: type[StructT]) -> StructT:
    """``data`` as a record. Raises InvalidInput with the field that does not fit."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        message, field = split_validation_error(error)
        raise InvalidInput(f"{field}: {message}" if field else message, field=field) from error


def check_keys(data: Mapping[str, Any], struct: type[msgspec.Struct], *, file: str, where: str = "") -> None:
    """Refuse the first key that ``struct`` does not have, naming the nearest that it has. Raises InvalidInput."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in data.items():
        name = f"{where}.{key}" if where else key
        if key not in fields:
            place = f"[{where}]" if where else file
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(fields)}"
            raise InvalidInput(f"{place} has no key {key!r}", field=name, hint=hint)
        for nested, within in _find_structs(fields[key]):
            for item_name, item in _list_items(name, value, within):
                if isinstance(item, dict):
                    check_keys(item, nested, file=file, where=item_name)


def _list_items(name: str, value: Any, within: bool) -> list[tuple[str, Any]]:
    if isinstance(value, list):
        return [(name, item) for item in value]
    if within and isinstance(value, dict):
        return [(f"{name}.{key}", item) for key, item in value.items()]
    return [(name, value)]


def _find_structs(kind: Any, within: bool = False) -> list[tuple[type[msgspec.Struct], bool]]:
    """The records that a value of ``kind`` is or holds; True with those that are values of a mapping."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [(kind, within)]
    within = within or typing.get_origin(kind) is dict
    return [found for argument in typing.get_args(kind) for found in _find_structs(argument, within)]
