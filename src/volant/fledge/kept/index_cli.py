"""``fledge index``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="index", epilog="\b\nExamples:\n  fledge index plugins\n  fledge index plugins -o public/index.json")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write it. [default: DIRECTORY/index.json]")
def index(directory: Path, output: Path | None) -> None:
    """Write an index of the plugins in DIRECTORY: of every manifest.json in it and below.

    Publish the directory by https as it is, then: volar plugins index add NAME https://…/index.json
    """
    from volant.fledge.kept.index_file import build_index

    target = output or directory / "index.json"
    content = build_index(directory, target.parent)
    target.write_bytes(content)
    click.echo(str(target))
