"""``fledge.toml``: what to build, read and checked."""

from __future__ import annotations

from pathlib import Path

from volant.fledge.recipe.record import FilesystemSection as FilesystemSection
from volant.fledge.recipe.record import Recipe
from volant.fledge.recipe.rules import check_heading, check_recipe
from volant.fledge.recipe.toml_file import check_keys, convert, parse_toml, read_toml


def read_recipe(path: Path) -> Recipe:
    """Read and check a ``fledge.toml``.

    Raises:
        InvalidInput: the file is missing, no TOML, or breaks a rule; the message names the file and the line.
    """
    return read_toml(path, parse_recipe, hint="name the file with -c, or let fledge init write one")


def parse_recipe(text: str) -> Recipe:
    """``read_recipe`` for what is already in memory. Raises InvalidInput."""
    data = parse_toml(text)
    check_keys(data, Recipe, file="fledge.toml")
    check_heading(data)
    return check_recipe(convert(data, Recipe))
