"""``fledge kernel``: make a guest's kernel ready without building a plugin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from volant.fledge.session import Session, session_options

if TYPE_CHECKING:
    from volant.fledge.kernel.boot import KernelChoice

_FETCH_EXAMPLES = """\b
Examples:
  fledge kernel fetch                       Debian's cloud kernel, uncompressed, into the cache
  fledge kernel fetch --package linux-image-amd64 -o out
"""
_BUILD_EXAMPLES = """\b
Examples:
  fledge kernel build                       compile the minimal kernel into the cache
  fledge kernel build --jobs 4 -o out       and copy vmlinux, boot.cpio and kernel.json to ./out
"""


@click.group()
def kernel() -> None:
    """Get guest kernels ready: the distribution's, or a minimal one that is compiled here."""


@kernel.command(epilog=_FETCH_EXAMPLES)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Copy the files there too.")
@click.option("--package", default="", help="A kernel package for apt, instead of Debian's cloud kernel.")
@click.option("--deb", type=click.Path(path_type=Path), help="A kernel package's file.")
@session_options
def fetch(session: Session, output: Path | None, package: str, deb: Path | None) -> None:
    """Fetch the distribution's kernel and uncompress it for direct boot.

    Prints the path of vmlinux, its version and its sha256. What `fledge build` needs beside it is kept in the cache too.
    """
    from volant.core.errors import InvalidInput
    from volant.fledge.kernel.boot import KernelChoice

    if package and deb:
        raise InvalidInput("give either --package or --deb", field="kernel")
    _get_ready(session, KernelChoice(package=package, deb=deb), output)


@kernel.command(epilog=_BUILD_EXAMPLES)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Copy the files there too.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Compile that many files at once; as many as there are cores.")
@click.option("--deb", type=click.Path(path_type=Path), help="A linux-source package's file, instead of asking apt.")
@session_options
def build(session: Session, output: Path | None, jobs: int | None, deb: Path | None) -> None:
    """Compile the minimal kernel from Debian's linux-source, once: it is kept in the cache.

    Prints the path of vmlinux, its version and its sha256. A recipe chooses it with [kernel] source = "minimal".
    """
    from volant.fledge.kernel.boot import KernelChoice
    from volant.fledge.kernel.minimal import count_jobs

    _get_ready(session, KernelChoice(source="minimal", deb=deb, jobs=jobs or count_jobs()), output)


def _get_ready(session: Session, choice: KernelChoice, output: Path | None) -> None:
    import msgspec

    from volant.fledge.kernel.ready import ready_kernel

    path, record = session.run(lambda cache, progress: ready_kernel(choice, output, cache, progress))
    if session.as_json:
        document = {"path": str(path), **msgspec.to_builtins(record)}
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
    else:
        click.echo(f"{path}\n{record.label} ({record.kernel_release})\nsha256:{record.vmlinux.sha256}")
