"""Colours, on terminals only: what is well is green, what is not is red, what is on its way is yellow."""

from __future__ import annotations

import os

import click

_COLOURS = {
    **dict.fromkeys(("Running", "Ready", "ok", "True"), "green"),
    **dict.fromkeys(("Failed", "failed", "Warning", "Deleting", "damaged", "missing"), "red"),
    **dict.fromkeys(("Pending", "Preparing", "Starting", "Stopping", "Suspending", "warning", "weak"), "yellow"),
}


def choose_colour(asked: str) -> bool | None:
    """What click's context is told for ``always``, ``never`` and ``auto``: None looks at the terminal. NO_COLOR is obeyed."""
    if asked != "auto":
        return asked == "always"
    return False if os.environ.get("NO_COLOR") else None


def paint(padded: str, word: str) -> str:
    """``padded`` in the colour of the ``word`` in it; click takes colours out again where they do not belong."""
    colour = _COLOURS.get(word)
    return click.style(padded, fg=colour) if colour else padded
