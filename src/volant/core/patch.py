"""Two ways to write down a change of a JSON document: merge patch (RFC 7396) and JSON patch (RFC 6902)."""

from __future__ import annotations

import copy
from typing import Any

from volant.core.errors import InvalidInput, WrongState

OPERATIONS_MAX = 100
_INDEX_DIGITS = 6


def merge_patch(document: Any, patch: Any) -> Any:
    """``document`` with ``patch`` in it (RFC 7396, section 2): null takes a member away, whatever is no object replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def json_patch(document: Any, operations: Any) -> Any:
    """``document`` after ``operations`` (RFC 6902), all or none.

    Raises:
        InvalidInput: they cannot be read, or name a place that is not there. WrongState: a ``test`` does not hold.
    """
    if not isinstance(operations, list) or len(operations) > OPERATIONS_MAX:
        raise InvalidInput(f"a JSON patch is a list of at most {OPERATIONS_MAX} operations (RFC 6902)")
    changed = copy.deepcopy(document)
    for operation in operations:
        changed = _apply(changed, operation)
    return changed


def _apply(document: Any, operation: Any) -> Any:
    if not isinstance(operation, dict):
        raise InvalidInput("an operation of a JSON patch is an object")
    path = _read_pointer(operation, "path")
    match operation.get("op"):
        case "add" | "replace" | "test" as op:
            if "value" not in operation:
                raise InvalidInput(f"{op} needs a value", field=_written(path))
            if op == "test":
                if not _same(_find(document, path), operation["value"]):
                    raise WrongState(f"{_written(path)} is not what the patch expects")
                return document
            if op == "replace":
                document = _remove(document, path)
            return _add(document, path, copy.deepcopy(operation["value"]))
        case "remove":
            return _remove(document, path)
        case "copy":
            return _add(document, path, copy.deepcopy(_find(document, _read_pointer(operation, "from"))))
        case "move":
            source = _read_pointer(operation, "from")
            if path[: len(source)] == source and path != source:
                raise InvalidInput("a value cannot move into itself", field=_written(path))
            value = _find(document, source)
            return _add(_remove(document, source), path, value)
        case other:
            raise InvalidInput(
                f"{str(other)[:40]!r} is no operation of a JSON patch", hint="add, remove, replace, move, copy, test"
            )


def _same(left: Any, right: Any) -> bool:
    # RFC 6902, section 4.6: true is no number.
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)


def _read_pointer(operation: dict[str, Any], member: str) -> tuple[str, ...]:
    """A JSON pointer (RFC 6901)."""
    text = operation.get(member)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise InvalidInput(f"{member} is no JSON pointer", hint="as in /env/MODE")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:])


def _written(path: tuple[str, ...]) -> str:
    return ".".join(path)[:80] or "the document"


def _find(document: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list):
            document = document[_read_index(part, len(document) - 1, path)]
        else:
            raise InvalidInput(f"there is no {_written(path)}", field=_written(path))
    return document


def _add(document: Any, path: tuple[str, ...], value: Any) -> Any:
    if not path:
        return value
    parent = _find(document, path[:-1])
    if isinstance(parent, dict):
        parent[path[-1]] = value
    elif isinstance(parent, list):
        parent.insert(len(parent) if path[-1] == "-" else _read_index(path[-1], len(parent), path), value)
    else:
        raise InvalidInput(f"{_written(path[:-1])} has no members", field=_written(path))
    return document


def _remove(document: Any, path: tuple[str, ...]) -> Any:
    if not path:
        return None
    _find(document, path)
    parent = _find(document, path[:-1])
    if isinstance(parent, dict):
        del parent[path[-1]]
    else:
        del parent[int(path[-1])]
    return document


def _read_index(text: str, highest: int, path: tuple[str, ...]) -> int:
    is_plain = text.isascii() and text.isdecimal() and len(text) <= _INDEX_DIGITS and (text == "0" or text[0] != "0")
    if not is_plain or int(text) > highest:
        raise InvalidInput(f"there is no {_written(path)}", field=_written(path))
    return int(text)
