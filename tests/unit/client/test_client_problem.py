"""Problems become the errors they were."""

from __future__ import annotations

import msgspec
import pytest

from volant.api.problem import describe_error
from volant.client.problem import ApiError, read_problem
from volant.core.errors import CommandFailed, Forbidden, InvalidInput, VolantError, error_classes


@pytest.mark.parametrize("cls", [cls for cls in error_classes() if cls not in (CommandFailed, ApiError, VolantError)])
def test_every_error_crosses_the_wire(cls: type[VolantError]) -> None:
    error = cls("it did not work", hint="try again")
    problem = msgspec.json.decode(msgspec.json.encode(describe_error(error)))

    back = read_problem(error.status, problem)

    assert type(back) is cls
    assert (back.message, back.hint) == ("it did not work", "try again")


def test_the_field_crosses_too() -> None:
    problem = msgspec.to_builtins(describe_error(InvalidInput("too small", field="memory_mb")))
    back = read_problem(422, problem)
    assert isinstance(back, InvalidInput)
    assert back.field == "memory_mb"


def test_an_unknown_code_keeps_what_it_said() -> None:
    back = read_problem(418, {"code": "teapot", "detail": "short and stout", "hint": "pour"})
    assert isinstance(back, ApiError)
    assert (back.message, back.code, back.status, back.hint) == ("short and stout", "teapot", 418, "pour")


def test_an_answer_without_a_problem_still_says_something() -> None:
    assert read_problem(502, None).message == "volantd answered with status 502"
    assert isinstance(read_problem(403, {}), Forbidden)
