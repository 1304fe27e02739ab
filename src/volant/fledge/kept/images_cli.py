"""``fledge images``: what was built here and is kept in the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from volant.fledge.session import Session, session_options

if TYPE_CHECKING:
    from volant.artifact.images import ImageRecord

_LIST_EXAMPLES = """\b
Examples:
  fledge images list
  fledge images list --json
"""
_INSPECT_EXAMPLES = """\b
Examples:
  fledge images inspect web                 the newest web
  fledge images inspect web:1.2
  fledge images inspect 3f9a61
"""
_EXPORT_EXAMPLES = """\b
Examples:
  fledge images export web:1.2 -o out       its files, for volar plugins install
"""
_PRUNE_EXAMPLES = """\b
Examples:
  fledge images prune --dry-run             what would go
  fledge images prune                       images that newer builds replaced, and files that nothing needs
  fledge images prune --older-than 30d      and what was not built, or of the cache not used, for 30 days
"""


@click.group()
def images() -> None:
    """What was built here: list, inspect, export, remove."""


@images.command("list", epilog=_LIST_EXAMPLES)
@session_options
def list_images(session: Session) -> None:
    """List what was built here, the newest first."""
    from volant.fledge.kept.keeping import list_kept

    found = session.run_in_workshop(list_kept)
    session.print([_summarise(image) for image in found], _tabulate(found))


@images.command("inspect", epilog=_INSPECT_EXAMPLES)
@click.argument("image")
@session_options
def inspect_image(session: Session, image: str) -> None:
    """Say what is in IMAGE: a name, NAME:VERSION, or the first digits of its digest."""
    from volant.fledge.kept.examine import describe_artifact
    from volant.fledge.kept.keeping import examine_kept

    found = session.run_in_workshop(lambda workshop: examine_kept(image, workshop))
    session.print(found, describe_artifact(found))


@images.command(epilog=_EXPORT_EXAMPLES)
@click.argument("image")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Directory for the files.")
@session_options
def export(session: Session, image: str, output: Path) -> None:
    """Write the files of IMAGE into a directory. Prints the path of the manifest."""
    from volant.fledge.kept.keeping import export_kept

    session.run_in_workshop(lambda workshop: export_kept(image, output, workshop))
    manifest = str(output / "manifest.json")
    session.print({"manifest": manifest}, manifest)


@images.command(epilog=_PRUNE_EXAMPLES)
@click.argument("names", metavar="[IMAGE]...", nargs=-1)
@click.option("--older-than", default="", metavar="AGE", help="Also what is older: 30d, 12h.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and leave it.")
@session_options
def prune(session: Session, names: tuple[str, ...], older_than: str, dry_run: bool) -> None:
    """Remove images, and the files that nothing needs any more.

    Without IMAGE: those that a newer build of the same name and version replaced. What a plugin of volantd needs stays.
    """
    from volant.core.duration import parse_duration
    from volant.fledge.kept.keeping import prune_kept
    from volant.fledge.progress import format_size

    older_than_s = parse_duration(older_than, "older-than") if older_than else None
    gone = session.run_in_workshop(lambda workshop: prune_kept(names, older_than_s, dry_run, workshop))
    verb = "would go" if dry_run else "gone"
    lines = [f"{image.reference} {image.digest[7:19]}" for image in gone.images]
    lines.append(f"{verb}: {len(gone.images)} images, {format_size(gone.freed_bytes)}")
    document = {
        "images": [_summarise(image) for image in gone.images], "freed_bytes": gone.freed_bytes, "dry_run": dry_run,
    }  # fmt: skip
    session.print(document, "\n".join(lines))


def _summarise(image: ImageRecord) -> dict[str, object]:
    return {
        "name": image.name, "version": image.version, "digest": image.digest, "source": image.source,
        "built_at": image.built_at, "size_bytes": image.size, "files": {name: file.size for name, file in image.files.items()},
    }  # fmt: skip


def _tabulate(found: list[ImageRecord]) -> str:
    import time

    from volant.fledge.progress import format_size

    if not found:
        return "nothing was built here yet: fledge build"
    rows = [("NAME", "VERSION", "DIGEST", "SIZE", "BUILT", "SOURCE")]
    for image in found:
        built = time.strftime("%Y-%m-%d %H:%M", time.localtime(image.built_at))
        rows.append((image.name, image.version, image.digest[7:19], format_size(image.size), built, image.source[:40]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
