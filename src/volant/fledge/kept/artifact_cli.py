"""``fledge inspect``, ``fledge diff``, ``fledge push`` and ``fledge pull``: artifacts once they are built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from volant.fledge.session import Session, session_options

if TYPE_CHECKING:
    from volant.fledge.kept.compare import Difference

EXIT_DIFFERENT = 1
SHOWN_MAX = 200

_INSPECT_EXAMPLES = """\b
Examples:
  fledge inspect out                        what fledge build -o out wrote
  fledge inspect out/manifest.json --packages
  fledge inspect web:1.2                    an image in the store
"""
_DIFF_EXAMPLES = """\b
Examples:
  fledge diff out other                     two directories
  fledge diff web:1.1 web:1.2               two images in the store
  fledge diff web:1.1 web:1.2 --json
"""
_PUSH_EXAMPLES = """\b
Examples:
  fledge push out oci://registry.example.org/web:1.2
  fledge push web:1.2 oci://localhost:5000/web:1.2
"""
_PULL_EXAMPLES = """\b
Examples:
  fledge pull oci://registry.example.org/web:1.2 -o out
  fledge pull oci://registry.example.org/web@sha256:… -o out
"""


@click.command(epilog=_INSPECT_EXAMPLES)
@click.argument("artifact")
@click.option("--packages", "with_packages", is_flag=True, help="List every package that the SBOM names.")
@session_options
def inspect(session: Session, artifact: str, with_packages: bool) -> None:
    """Say what is inside ARTIFACT: a directory that fledge build wrote, its manifest.json, or an image in the store.

    Every file is checked against the manifest.
    """
    from volant.fledge.kept.choose import examine_given
    from volant.fledge.kept.examine import describe_artifact

    found = session.run_in_workshop(lambda workshop: examine_given(artifact, workshop))
    text = describe_artifact(found)
    if with_packages:
        text += "".join(f"\n  {package.type}  {package.name}  {package.version}" for package in found.packages)
    session.print(found, text)


@click.command(epilog=_DIFF_EXAMPLES)
@click.argument("left")
@click.argument("right")
@session_options
def diff(session: Session, left: str, right: str) -> None:
    """Explain what differs between two artifacts, from the manifest down to single files.

    Exit status: 0 when they are the same to the byte, 1 when they differ.
    """
    from volant.fledge.kept.choose import compare_given

    found = session.run_in_workshop(lambda workshop: compare_given(left, right, workshop))
    session.print({"same": not found, "differences": found}, "\n".join(map(_show, found[:SHOWN_MAX])) or "the same to the byte")
    if len(found) > SHOWN_MAX and not session.as_json:
        click.echo(f"… and {len(found) - SHOWN_MAX} more: --json lists them all")
    if found:
        raise click.exceptions.Exit(EXIT_DIFFERENT)


@click.command(epilog=_PUSH_EXAMPLES)
@click.argument("artifact")
@click.argument("reference", metavar="oci://HOST/NAME[:TAG]")
@session_options
def push(session: Session, artifact: str, reference: str) -> None:
    """Send ARTIFACT to a registry, with its papers and signatures, as one OCI artifact. Prints its name with its digest.

    Credentials are those of docker login or podman login.
    """
    from volant.fledge.kept.distribute import push_given

    digest = session.run_in_workshop(lambda workshop: push_given(artifact, reference, workshop))
    named = f"{reference.partition('@')[0]}@{digest}"
    session.print({"reference": named, "digest": digest}, named)


@click.command(epilog=_PULL_EXAMPLES)
@click.argument("reference", metavar="oci://HOST/NAME[:TAG]")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Directory for the files.")
@session_options
def pull(session: Session, reference: str, output: Path) -> None:
    """Fetch an artifact from a registry. Prints the path of its manifest."""
    from volant.fledge.kept.distribute import pull_named

    digest = session.run_in_workshop(lambda workshop: pull_named(reference, output, workshop))
    manifest = str(output / "manifest.json")
    session.print({"manifest": manifest, "digest": digest}, manifest)


def _show(one: Difference) -> str:
    values = f": {one.left or '(nothing)'} → {one.right or '(nothing)'}" if one.left or one.right else ""
    return f"{one.part}  {one.at}  {one.what}{values}"
