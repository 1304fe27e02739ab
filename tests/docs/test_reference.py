"""The reference cannot rot: every command, route and error code stands in it, and what is generated is fresh."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest

from volant.api.app import HANDLERS
from volant.api.openapi import find_operations
from volant.api.reference import render_document
from volant.cli.reference import render_reference, walk_commands
from volant.core.errors import VolantError, error_classes

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
COMMANDS = {ctx.command_path: ctx for ctx in walk_commands()}


def test_the_cli_page_is_fresh() -> None:
    assert (REFERENCE / "cli.md").read_text() == render_reference(), "python -m volant.cli.reference > docs/reference/cli.md"


def test_the_openapi_document_is_fresh() -> None:
    stored = (REFERENCE / "openapi.json").read_bytes()
    assert stored == render_document(), "python -m volant.api.reference > docs/reference/openapi.json"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_explains_itself(path: str) -> None:
    command = COMMANDS[path].command
    assert command.help
    if path != "volar":
        assert command.epilog is not None
        assert "Examples:" in command.epilog
    for option in command.params:
        assert not isinstance(option, click.Option) or option.help, option.name


def test_the_api_page_lists_exactly_the_routes() -> None:
    listed = set(re.findall(r"^\| `([A-Z]+) (/[^`]*)` \|", (REFERENCE / "api.md").read_text(), re.MULTILINE))
    assert listed == {(method, path) for path, method, _ in find_operations(HANDLERS)}


def test_the_api_page_names_every_query_parameter() -> None:
    page = (REFERENCE / "api.md").read_text()
    for path, method, operation in find_operations(HANDLERS):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{method} {path}` |"))
        for query in operation.query:
            assert f"`{query.name}`" in row, (method, path)


def test_the_errors_page_lists_exactly_the_codes() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", (REFERENCE / "errors.md").read_text(), re.MULTILINE)
    product = {cls for cls in error_classes() if cls.__module__ == VolantError.__module__}
    assert {(code, int(status)) for code, status in rows} == {(cls.code, cls.status) for cls in product}


def test_every_reference_of_the_openapi_document_leads_somewhere() -> None:
    document = json.loads(render_document())
    targets = set(re.findall(r'"\$ref": ?"#/components/schemas/([^"]*)"', json.dumps(document)))
    assert targets
    assert targets <= set(document["components"]["schemas"])
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))
