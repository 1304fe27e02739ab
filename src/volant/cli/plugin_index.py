"""``volar plugins search`` and ``volar plugins index``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from volant.cli.output import format_option, print_document, print_table
from volant.cli.plugin_files import SIGNATURE_MAX_BYTES, SIGNATURE_SUFFIX
from volant.cli.session import Session, pass_session
from volant.client.client import Client
from volant.core.errors import InvalidInput, NotFound
from volant.core.plugin_index import INDEX_MAX_BYTES


@click.command(epilog="\b\nExamples:\n  volar plugins search\n  volar plugins search web server --json")
@click.argument("words", nargs=-1)
@format_option("table", "json", "name")
@pass_session
def search(session: Session, words: tuple[str, ...], output: str) -> None:
    """Search the plugin indexes for WORDS in names, descriptions and labels. Install what is found by its name."""
    found = session.client.plugin_indexes.search(" ".join(words))
    if output == "json":
        print_document({"items": list(found)})
    elif output == "name":
        for one in found:
            click.echo(one["name"])
    elif not found:
        click.echo("no index knows such a plugin; volar plugins index list shows which indexes there are", err=True)
    else:
        print_table(
            ("NAME", "VERSION", "INDEX", "DESCRIPTION"),
            ((one["name"], one["version"], one["index"], one["description"] or "-") for one in found),
        )


@click.group(
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar plugins index add acme https://plugins.example.org/index.json --key acme.pub
      volar plugins index add local ./plugins/index.json
      volar plugins index update
      volar plugins index list
    """,
)
def index() -> None:
    """Know indexes of plugins, so that those are found and installed by name."""


@index.command(epilog="\b\nExamples:\n  volar plugins index add acme https://plugins.example.org/index.json --key acme.pub")
@click.argument("name")
@click.argument("source", metavar="URL|FILE")
@click.option("--key", metavar="FILE|KEY", default="", help="The minisign public key that has to have signed it.")
@format_option("table", "json", "name")
@pass_session
def add(session: Session, name: str, source: str, key: str, output: str) -> None:
    """Know the index at URL, or in FILE, as NAME. With --key its signature (INDEX.minisig beside it) is checked, always."""
    _tell(_send(session.client, name, source, _read_key(key)), output)


@index.command(name="list", epilog="\b\nExamples:\n  volar plugins index list")
@format_option("table", "json", "name")
@pass_session
def list_(session: Session, output: str) -> None:
    """List plugin indexes."""
    found = session.client.plugin_indexes.list()
    if output == "json":
        print_document({"items": list(found)})
    elif output == "name":
        for one in found:
            click.echo(one["name"])
    elif not found:
        click.echo("there are no indexes; add one: volar plugins index add NAME URL", err=True)
    else:
        print_table(
            ("NAME", "PLUGINS", "SIGNED", "UPDATED", "SOURCE"),
            (
                (one["name"], str(one["plugins"]), "yes" if one["key"] else "no", one["updated_at"], one["source"])
                for one in found
            ),
        )


@index.command(epilog="\b\nExamples:\n  volar plugins index update\n  volar plugins index update acme")
@click.argument("names", nargs=-1)
@format_option("table", "json", "name")
@pass_session
def update(session: Session, names: tuple[str, ...], output: str) -> None:
    """Read indexes anew, all unless NAMES are given."""
    client = session.client
    known = {one["name"]: one for one in client.plugin_indexes.list()}
    for name in names or tuple(known):
        if name not in known:
            raise NotFound(f"there is no index named {name!r}", hint="volar plugins index list")
        source, key = known[name]["source"], known[name]["key"]
        if source.startswith("file://"):
            _tell(_send(client, name, source.removeprefix("file://"), key), output)
        else:
            _tell(client.plugin_indexes.update(name), output)


@index.command(epilog="\b\nExamples:\n  volar plugins index remove acme")
@click.argument("name")
@pass_session
def remove(session: Session, name: str) -> None:
    """Forget the index NAME. What was installed from it stays."""
    session.client.plugin_indexes.remove(name)
    click.echo(f"index {name} is removed")


def _send(client: Client, name: str, source: str, key: str) -> dict[str, Any]:
    if source.startswith(("https://", "http://")):
        return client.plugin_indexes.add(name, source, key=key)
    path = Path(source).absolute()
    content = _read(path, INDEX_MAX_BYTES)
    signature = ""
    if key:
        signature = _read(path.with_name(path.name + SIGNATURE_SUFFIX), SIGNATURE_MAX_BYTES)
    return client.plugin_indexes.add(name, f"file://{path}", key=key, content=content, signature=signature)


def _read_key(given: str) -> str:
    """The key in a file, its comment left out, or itself."""
    text = _read(Path(given), 4096) if given and Path(given).is_file() else given
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("untrusted comment:")]
    return lines[-1] if lines else ""


def _read(path: Path, max_bytes: int) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise InvalidInput(f"{path} has more than {max_bytes} bytes")
        return content.decode()
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path}") from error
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is no text") from error


def _tell(added: dict[str, Any], output: str) -> None:
    if output == "json":
        print_document(added)
    elif output == "name":
        click.echo(added["name"])
    else:
        click.echo(f"index {added['name']} knows {added['plugins']} {'plugin' if added['plugins'] == 1 else 'plugins'}")
