"""The ``fledge`` command. Imports wait until a build needs them, so that help and mistakes come at once."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import click

from volant import __version__
from volant.fledge.kernel_cli import kernel
from volant.fledge.session import Session, session_options

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

_EXAMPLES = """\b
Examples:
  fledge build -o out                       build ./fledge.toml into ./out
  fledge build -c examples/nginx/fledge.toml -o out
  volar plugins install "$(fledge build -c web.toml -o out)"
  fledge kernel build                       compile the minimal kernel, for [kernel] source = "minimal"
"""


@click.group(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
def fledge() -> None:
    """Turn OCI images and Debian packages into files that boot as microVMs."""


@fledge.command(epilog=_EXAMPLES)
@click.option("-c", "--config", default="fledge.toml", type=click.Path(path_type=Path), show_default=True, help="What to build.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Directory for the files.")
@session_options
def build(session: Session, config: Path, output: Path) -> None:
    """Build a plugin: kernel, initramfs, root file system and manifest.json.

    The last line on stdout is the path of the manifest, with --json the build record; progress goes to stderr.
    """
    from volant.fledge.build import build as build_plugin

    record = session.run(lambda cache, progress: build_plugin(config, output, cache, progress))
    manifest = output / "manifest.json"
    if session.as_json:
        import msgspec

        document = {"manifest": str(manifest), **msgspec.to_builtins(record)}
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
    else:
        click.echo(manifest)


fledge.add_command(kernel)


@fledge.command()
def version() -> None:
    """Print fledge's version."""
    click.echo(f"fledge {__version__}")


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
    return 0


def _complain(message: str, hint: str | None) -> None:
    line = message if hint is None else f"{message} ({hint})"
    click.echo(f"fledge: {' '.join(line.split())}", err=True)
