"""Problem documents (RFC 9457) back into the errors they were."""

from __future__ import annotations

from typing import Any

import msgspec

from volant.core.errors import CommandFailed, FieldConflict, InvalidInput, VolantError, error_classes


class ApiError(VolantError):
    """An answer that says it failed and is no error that is known here; ``status`` is the HTTP status."""

    code = "api_error"

    def __init__(self, message: str, *, status: int, code: str = "api_error", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status  # type: ignore[misc]  # the class has a status of its own for every other error
        self.code = code  # type: ignore[misc]  # likewise


def raise_problem(status: int, content: bytes | str) -> None:
    """Raise what an answer with an error's status tells. Always raises."""
    try:
        problem = msgspec.json.decode(content) if content else {}
    except msgspec.DecodeError:
        problem = {}
    raise read_problem(status, problem)


def read_problem(status: int, problem: Any) -> VolantError:
    """The error of its code, with its message, hint and field; ApiError when the code is not known."""
    if not isinstance(problem, dict):
        problem = {}
    code = str(problem.get("code", ""))
    message = str(problem.get("detail") or problem.get("title") or f"volantd answered with status {status}")
    hint = str(problem["hint"]) if problem.get("hint") else None
    cls = _CLASSES.get(code) or _BY_STATUS.get(status)
    if cls is None:
        return ApiError(message, status=status, code=code or "api_error", hint=hint)
    if issubclass(cls, InvalidInput):
        return cls(message, field=str(problem["field"]) if problem.get("field") else None, hint=hint)
    if issubclass(cls, FieldConflict):
        return cls(message, fields=_read_fields(problem.get("fields")), hint=hint)
    return cls(message, hint=hint)


def _read_fields(fields: Any) -> tuple[tuple[str, str], ...]:
    found = [one for one in fields if isinstance(one, dict)] if isinstance(fields, list) else []
    return tuple((str(one.get("path", "")), str(one.get("manager", ""))) for one in found)


_CLASSES = {cls.code: cls for cls in error_classes() if cls not in (CommandFailed, ApiError, VolantError)}
_BY_STATUS = {status: _CLASSES[code] for status, code in ((403, "forbidden"), (404, "not_found"), (413, "too_large"))}
