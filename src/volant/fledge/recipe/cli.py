"""``fledge init``, ``fledge validate`` and ``fledge schema``: recipes before anything is built."""

from __future__ import annotations

from pathlib import Path

import click

_INIT_EXAMPLES = """\b
Examples:
  fledge init                               look at this directory
  fledge init app --force                   at ./app, and replace the fledge.toml there
"""
_VALIDATE_EXAMPLES = """\b
Examples:
  fledge validate                           ./fledge.toml, and the manifest.toml beside it
  fledge validate web/fledge.toml db/fledge.toml
"""
_SCHEMA_EXAMPLES = """\b
Examples:
  fledge schema > fledge.schema.json        for an editor that checks TOML
  fledge schema manifest.toml
"""


@click.command(epilog=_INIT_EXAMPLES)
@click.argument("directory", default=".", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the fledge.toml that is there.")
def init(directory: Path, force: bool) -> None:
    """Look at DIRECTORY and write a fledge.toml that builds it.

    It knows Dockerfiles, OCI layouts and archives, root file systems, Node and Python projects, web sites and programs.
    """
    from volant.fledge.recipe.suggest import write_suggestion

    path, suggestion = write_suggestion(directory, replace=force)
    click.echo(f"found {suggestion.seen}", err=True)
    if suggestion.missing:
        click.echo(f"fill in {suggestion.missing}", err=True)
    click.echo(path)


@click.command(epilog=_VALIDATE_EXAMPLES)
@click.argument("recipes", nargs=-1, type=click.Path(path_type=Path))
@click.option("-m", "--manifest", type=click.Path(path_type=Path), help="A manifest.toml, instead of one beside the recipe.")
def validate(recipes: tuple[Path, ...], manifest: Path | None) -> None:
    """Check recipes without building them: every key, what goes with what, and that the files they name are there."""
    from volant.fledge.build import read_job
    from volant.fledge.recipe.mapping import read_mappings
    from volant.fledge.rootfs import check_filesystem

    for path in recipes or (Path("fledge.toml"),):
        job = read_job(path, None, manifest)
        read_mappings(job.recipe.mappings, job.base)
        check_filesystem(job.recipe.filesystem)
        click.echo(f"{path}: right")


@click.command(epilog=_SCHEMA_EXAMPLES)
@click.argument("file", default="fledge.toml", type=click.Choice(["fledge.toml", "manifest.toml", "manifest.json"]))
def schema(file: str) -> None:
    """Print the JSON Schema of a file that people write."""
    from volant.fledge.recipe.schema import render_schema

    click.echo(render_schema(file).decode(), nl=False)
