"""The ``fledge`` command. Imports wait until a build needs them, so that help and mistakes come at once."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from volant import __version__

if TYPE_CHECKING:
    from volant.fledge.build import BuildRecord

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

_EXAMPLES = """\b
Examples:
  fledge build -o out                       build ./fledge.toml into ./out
  fledge build -c examples/nginx/fledge.toml -o out
  volar plugins install "$(fledge build -c web.toml -o out)"
"""


@click.group(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
def fledge() -> None:
    """Turn OCI images and Debian packages into files that boot as microVMs."""


@fledge.command(epilog=_EXAMPLES)
@click.option("-c", "--config", default="fledge.toml", type=click.Path(path_type=Path), show_default=True, help="What to build.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Directory for the files.")
@click.option("--cache-dir", type=click.Path(path_type=Path), help="Instead of $FLEDGE_CACHE or the user's cache directory.")
@click.option("--no-cache", is_flag=True, help="Make everything anew and replace what was kept.")
@click.option("--json", "as_json", is_flag=True, help="Print the build record instead of the manifest's path.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def build(config: Path, output: Path, cache_dir: Path | None, no_cache: bool, as_json: bool, quiet: bool) -> None:
    """Build a plugin: kernel, initramfs, root file system and manifest.json.

    The last line on stdout is the path of the manifest; progress goes to stderr.
    """
    record = _build(config, output, cache_dir, no_cache, quiet)
    manifest = output / "manifest.json"
    if as_json:
        import msgspec

        document = {"manifest": str(manifest), **msgspec.to_builtins(record)}
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
    else:
        click.echo(manifest)


@fledge.command()
def version() -> None:
    """Print fledge's version."""
    click.echo(f"fledge {__version__}")


def _build(config: Path, output: Path, cache_dir: Path | None, no_cache: bool, quiet: bool) -> BuildRecord:
    import asyncio
    import signal

    from volant.fledge.build import build as build_plugin
    from volant.fledge.cache import Cache, default_cache_directory
    from volant.fledge.progress import Progress

    async def run_build() -> BuildRecord:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        cache = Cache(cache_dir or default_cache_directory(), reuse=not no_cache)
        return await build_plugin(config, output, cache, Progress(sys.stderr, quiet=quiet))

    # Directories that an image only implies are made by tools that heed it.
    os.umask(0o022)
    try:
        return asyncio.run(run_build())
    except asyncio.CancelledError as error:
        raise click.Abort from error


def main(arguments: list[str] | None = None) -> None:
    """The console script: 0 done, 1 failed, 2 bad input, each failure as one line on stderr."""
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    from volant.core.errors import InvalidInput, VolantError

    try:
        fledge.main(arguments, prog_name="fledge", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return EXIT_BAD_INPUT
    except click.ClickException as error:
        _complain(error.format_message(), "see fledge build --help")
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
    return 0


def _complain(message: str, hint: str | None) -> None:
    line = message if hint is None else f"{message} ({hint})"
    click.echo(f"fledge: {' '.join(line.split())}", err=True)
