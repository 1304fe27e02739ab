"""What to tell when several things that went on at once failed."""

from __future__ import annotations

from volant.core.errors import VolantError


def first_error(errors: ExceptionGroup[Exception]) -> Exception:
    """The first that nobody raised on purpose, for that is a bug; else the first of all."""
    leaves: list[Exception] = []
    for error in errors.exceptions:
        leaves.append(first_error(error) if isinstance(error, ExceptionGroup) else error)
    return next((leaf for leaf in leaves if not isinstance(leaf, VolantError)), leaves[0])
