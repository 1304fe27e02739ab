"""fledge's page and schemas cannot rot: every command, option, key and file stands there, and what is generated is fresh."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import msgspec
import pytest

from volant.fledge.cli import fledge
from volant.fledge.kept.examine import PAPERS
from volant.fledge.recipe.record import Recipe
from volant.fledge.recipe.schema import SCHEMA_FILES, render_schema

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/fledge.md").read_text()
SHARED_OPTIONS = {"--cache-dir", "--no-cache", "--json", "--quiet", "--help"}


def walk(group: click.Group, path: str = "fledge") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from walk(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = dict(walk(fledge))


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_explains_itself_and_stands_on_the_page(path: str) -> None:
    command = COMMANDS[path]
    assert command.help
    if path != "fledge version":
        assert command.epilog is not None
        assert "Examples:" in command.epilog
    synopsis = PAGE.split("```")[1]
    words = path.split()
    assert re.search(rf"^fledge {words[1]}\b", synopsis, re.MULTILINE), path
    assert words[-1] in synopsis


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_has_a_help_and_stands_on_the_page(path: str) -> None:
    for option in COMMANDS[path].params:
        if not isinstance(option, click.Option):
            continue
        assert option.help, option.name
        assert any(name in PAGE for name in option.opts), (path, option.opts)


def list_keys(struct: type[msgspec.Struct], where: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        yield f"{where}{field.encode_name}"


def test_every_key_of_a_recipe_stands_on_the_page() -> None:
    sections = {field.encode_name: field.type for field in msgspec.structs.fields(Recipe)}
    for name in ("source", "filesystem", "initramfs", "init", "agent", "kernel", "plugin", "workload"):
        (struct,) = [
            one
            for one in (sections[name], *getattr(sections[name], "__args__", ()))
            if isinstance(one, type) and issubclass(one, msgspec.Struct)
        ]
        for key in list_keys(struct):
            assert re.search(rf"\b{key}\b", PAGE), f"{name}.{key}"
    for name in sections:
        if name != "$schema":
            assert re.search(rf"\b{name}\b", PAGE), name


def test_every_paper_stands_on_the_page() -> None:
    assert all(f"`{name}`" in PAGE for name in PAPERS)


@pytest.mark.parametrize("file", SCHEMA_FILES)
def test_the_schemas_are_fresh(file: str) -> None:
    stored = (ROOT / "docs/reference/schemas" / SCHEMA_FILES[file]).read_bytes()
    assert stored == render_schema(file), "python -m volant.fledge.recipe.schema"


def read_schema(file: str) -> Any:
    return json.loads(render_schema(file))


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*/fledge.toml")), ids=lambda path: path.parent.name)
def test_examples_fit_the_schema(path: Path) -> None:
    jsonschema.Draft202012Validator(read_schema("fledge.toml")).validate(tomllib.loads(path.read_text()))


@pytest.mark.parametrize(
    "text",
    [
        'version = "2"',
        'strategy = "iso"',
        'strategy = "oci_rootfs"\n[source]\nimgae = "a"',
        'strategy = "initramfs"\n[init]\nnone = 1',
    ],
)
def test_the_schema_refuses_what_fledge_refuses(text: str) -> None:
    document = {"version": "1", "strategy": "oci_rootfs", **tomllib.loads(text)}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(read_schema("fledge.toml")).validate(document)
