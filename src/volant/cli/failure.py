"""Errors as people see them: one line, a hint, and an exit code that scripts can tell apart."""

from __future__ import annotations

import click

from volant.core.errors import Conflict, InvalidInput, NotFound, VolantError

DONE, FAILED, BAD_INPUT, NOT_FOUND, CONFLICT = 0, 1, 2, 3, 4


def exit_code_of(error: VolantError) -> int:
    if isinstance(error, InvalidInput):
        return BAD_INPUT
    if isinstance(error, NotFound):
        return NOT_FOUND
    if isinstance(error, Conflict):
        return CONFLICT
    return FAILED


def printable(text: str) -> str:
    """One line of ``text`` without control characters: a message may hold what a guest wrote, and terminals obey."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def print_error(message: str, hint: str | None = None) -> None:
    click.echo(f"volar: {printable(message)}", err=True)
    if hint:
        click.echo(f"  hint: {printable(hint)}", err=True)


def print_volant_error(error: VolantError) -> None:
    field = error.field if isinstance(error, InvalidInput) else None
    shown = error.message if not field or field in error.message else f"{field}: {error.message}"
    print_error(shown, error.hint)
