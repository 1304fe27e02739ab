"""The ``fledge`` command. Imports wait until a command needs them, so that help and mistakes come at once."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import click

from volant import __version__
from volant.fledge.kept.artifact_cli import diff, inspect, pull, push
from volant.fledge.kept.images_cli import images
from volant.fledge.kept.index_cli import index
from volant.fledge.kernel.cli import kernel
from volant.fledge.recipe.cli import init, schema, validate
from volant.fledge.session import Session, session_options
from volant.fledge.signing.cli import keygen, sign, verify

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

_EXAMPLES = """\b
Examples:
  fledge init                               look at this directory and write a fledge.toml
  fledge build -o out                       build ./fledge.toml into ./out
  fledge build -o out nginx:1.27            an image, from Docker's storage here or from its registry
  fledge build -o out .                     the Dockerfile in this directory
  volar plugins install "$(fledge build -q -c web.toml -o out)"
  fledge images list                        what was built here
  fledge push out oci://registry.example.org/web:1.2
"""
_BUILD_EXAMPLES = """\b
Examples:
  fledge build -o out                       build ./fledge.toml into ./out
  fledge build -c examples/nginx/fledge.toml -o out
  fledge build -o out oci:layout:1.2        an image in an OCI layout
  fledge build -o out . --target server --build-arg VERSION=1.2 --secret token=token.txt
  fledge build --verify                     build twice, under different conditions, and compare
  fledge build --update-lock                take newer Debian packages than fledge.lock names
"""


@click.group(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fledge", message="%(prog)s %(version)s")
def fledge() -> None:
    """Turn OCI images, Dockerfiles, Debian packages and programs into files that boot as microVMs."""


@fledge.command(epilog=_BUILD_EXAMPLES)
@click.argument("source", required=False)
@click.option("-c", "--config", type=click.Path(path_type=Path), help="The recipe. [default: fledge.toml]")
@click.option("-m", "--manifest", type=click.Path(path_type=Path), help="A manifest.toml, instead of one beside the recipe.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Directory for the files; without it they are in the store."
)
@click.option("-f", "--dockerfile", type=click.Path(path_type=Path), help="The Dockerfile, instead of DIR/Dockerfile.")
@click.option("--context", type=click.Path(path_type=Path), help="The Dockerfile's context, instead of its directory.")
@click.option("--target", default="", help="The stage of the Dockerfile to build.")
@click.option("--build-arg", "build_args", multiple=True, metavar="NAME=VALUE", help="An ARG of the Dockerfile; repeatable.")
@click.option("--secret", "secrets", multiple=True, metavar="ID=FILE", help="A secret for RUN --mount=type=secret; repeatable.")
@click.option("--platform", default="", help="Which of a multi-platform image, as linux/amd64.")
@click.option("--name", default="", help="The plugin's name.")
@click.option("--plugin-version", default="", help="The plugin's version.")
@click.option("--filesystem", default="", help="erofs, squashfs, ext4, xfs or btrfs.")
@click.option("--initramfs", "--output-initramfs", "is_initramfs", is_flag=True, help="A guest in memory, without a disk.")
@click.option("--update-lock", is_flag=True, help="Resolve Debian packages anew and write fledge.lock.")
@click.option("--verify", "is_twice", is_flag=True, help="Build a second time, elsewhere and otherwise, and compare.")
@session_options
def build(
    session: Session,
    source: str | None,
    config: Path | None,
    manifest: Path | None,
    output: Path | None,
    dockerfile: Path | None,
    context: Path | None,
    target: str,
    build_args: tuple[str, ...],
    secrets: tuple[str, ...],
    platform: str,
    name: str,
    plugin_version: str,
    filesystem: str,
    is_initramfs: bool,
    update_lock: bool,
    is_twice: bool,
) -> None:
    """Build a plugin: kernel, root, manifest.json, SBOM and provenance.

    SOURCE is a fledge.toml, a directory with one or with a Dockerfile, a Dockerfile, or an image; without it ./fledge.toml.
    The last line on stdout is the path of the manifest, or without -o the image's name in the store.
    """
    from volant.fledge.goal import Options, choose_job, read_pairs

    options = Options(
        config=config,
        manifest=manifest,
        dockerfile=dockerfile,
        context=context,
        target=target,
        build_args=read_pairs(build_args, "--build-arg"),
        secrets=read_pairs(secrets, "--secret"),
        platform=platform,
        name=name,
        version=plugin_version,
        filesystem=filesystem,
        is_initramfs=is_initramfs,
    )
    job = choose_job(source, output, options)

    import msgspec

    from volant.fledge.build import build as build_job

    built = session.run_in_workshop(lambda workshop: build_job(job, workshop), update_lock=update_lock)
    if is_twice:
        from volant.fledge.kept.again import build_again

        session.run_in_workshop(lambda workshop: build_again(job, built, workshop))
    made = str(output / "manifest.json") if output is not None else f"{built.record.name}:{built.record.version}"
    document = {"manifest": made if output is not None else None, "digest": built.digest, **msgspec.to_builtins(built.record)}
    session.print(document, made)


@fledge.command()
def version() -> None:
    """Print fledge's version."""
    click.echo(f"fledge {__version__}")


for command in (init, validate, schema, inspect, diff, images, index, push, pull, keygen, sign, verify, kernel):
    fledge.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """The console script: 0 done, 1 failed, 2 bad input, each failure as one line on stderr."""
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    from volant.core.errors import InvalidInput, VolantError

    try:
        outcome = fledge.main(arguments, prog_name="fledge", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return EXIT_BAD_INPUT
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        _complain(error.format_message(), f"see {context.command_path if context else 'fledge'} --help")
        return EXIT_BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted", None)
        return EXIT_INTERRUPTED
    except VolantError as error:
        _complain(error.message, error.hint)
        return EXIT_BAD_INPUT if isinstance(error, InvalidInput) else EXIT_FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        hint = "free some, or move the cache with --cache-dir" if error.errno == errno.ENOSPC else None
        _complain(f"{where}{error.strerror or error}", hint)
        return EXIT_FAILED
    # A command that ends by click's Exit gives its status, any other nothing.
    return outcome if isinstance(outcome, int) else 0


def _complain(message: str, hint: str | None) -> None:
    line = message if hint is None else f"{message} ({hint})"
    click.echo(f"fledge: {' '.join(line.split())}", err=True)
