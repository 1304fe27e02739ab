"""Paragraphs of fields, as Debian's control files and package databases have them (deb822(5))."""

from __future__ import annotations


def read_paragraphs(text: str) -> list[dict[str, str]]:
    """The first line of each field by its name, for each paragraph; a line that is no field is passed over."""
    return [_read_fields(lines) for paragraph in text.split("\n\n") if (lines := paragraph.splitlines())]


def _read_fields(lines: list[str]) -> dict[str, str]:
    # What begins with a blank goes on with the field above it.
    parted = (line.partition(":") for line in lines if not line.startswith((" ", "\t", "#")))
    return {name: value.strip() for name, colon, value in parted if colon}
