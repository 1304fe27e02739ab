"""What is looked at before any route's own code: whether it can answer in a wanted form, and whether it did already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from litestar import Request, Response

from volant.api.headers import MANAGER
from volant.api.idempotency import admit_once
from volant.api.operation import JSON, Operation, operation_of
from volant.api.problem import MEDIA_TYPE as PROBLEM
from volant.core.errors import NotAcceptable
from volant.core.ownership import check_manager
from volant.intent.ownership import begin_editing

OPERATION = "volant_operation"
"""The key of the Operation in an ASGI scope's ``state``."""


async def admit_request(request: Request[Any, Any, Any]) -> Response[bytes] | None:
    """A hook of every route, after its guards. None when its own code is to answer.

    Raises:
        NotAcceptable: it answers with JSON, and the client takes none. InvalidInput: whose change it is cannot be. What
            admit_once raises.
    """
    operation = operation_of(request.route_handler)
    if operation is None:
        return None
    request.scope["state"][OPERATION] = operation
    if (manager := request.headers.get(MANAGER.name)) is not None:
        begin_editing(check_manager(manager, MANAGER.name))
    _check_accept(operation, request.headers.get("accept", ""))
    return await admit_once(request, operation)


def _check_accept(operation: Operation, accept: str) -> None:
    """RFC 9110, section 12.5.1. Streams and files come as they are, whatever was asked for."""
    given = {body.media_type for bodies in operation.answers.values() for body in bodies if body.of is not None}
    if not accept.strip() or given != {JSON}:
        return
    if not any(_takes_json(one) for one in accept.split(",")):
        raise NotAcceptable(f"this answers with {JSON}", field="Accept", hint=f"Accept: {JSON}")


def _takes_json(one: str) -> bool:
    media_type, *parameters = (part.strip().lower() for part in one.split(";"))
    if media_type not in ("*/*", "application/*", JSON, PROBLEM):
        return False
    return not any(_is_refusal(parameter) for parameter in _qualities(parameters))


def _qualities(parameters: Iterable[str]) -> Iterable[str]:
    return (parameter.removeprefix("q=").strip() for parameter in parameters if parameter.startswith("q="))


def _is_refusal(quality: str) -> bool:
    return quality.rstrip("0") in ("", "0.", ".")
