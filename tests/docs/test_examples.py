"""Commands in the documents can be typed: each names a command that there is, with options and arguments that it takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from volant.cli.volar import volar

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = {ROOT / "docs" / "reference" / "cli.md"}
_PROMPT = re.compile(r"^\s*# (volar .*)$", re.MULTILINE)


def _read_commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        if page not in GENERATED:
            for line in _PROMPT.findall(page.read_text()):
                yield str(page.relative_to(ROOT)), line.partition(" | ")[0].partition(" > ")[0].partition(" &")[0]


COMMANDS = list(_read_commands())


def parse_command(line: str) -> click.Context:
    """What ``volar`` makes of a line, short of doing it. Raises click.UsageError."""
    _, *words = shlex.split(line, comments=True)
    command: click.Command = volar
    context = click.Context(volar, info_name="volar", **volar.context_settings)
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found
        parent = context
        context = click.Context(command, info_name=name, parent=parent)
        if not isinstance(command, click.Group):
            return command.make_context(name, words, parent=parent)
    return context


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_each_command_of_a_document_can_be_typed(page: str, line: str) -> None:
    assert parse_command(line).command is not volar, page


def test_the_pages_hold_commands_and_this_test_can_fail() -> None:
    assert {page for page, _ in COMMANDS} >= {"README.md", "docs/howto/fast-starts.md", "docs/tutorial/first-plugin.md"}
    for line in ("volar vms frobnicate", "volar vms fork", "volar vms create web --plugin nginx --fast", "volar pools set a b"):
        with pytest.raises(click.UsageError):
            parse_command(line)
