"""``volar plugins install`` and ``upgrade``."""

from __future__ import annotations

from pathlib import Path

import click

from volant.cli.output import format_option
from volant.cli.plugin_bring import Brought, Wish, bring_plugin, tell_brought
from volant.cli.plugin_transfer import is_remote
from volant.cli.session import Session, complete_plugins, pass_session
from volant.client.client import Client
from volant.core.errors import InvalidInput, NotFound
from volant.core.plugin_versions import check_reference


@click.command(
    epilog="""
    \b
    Examples:
      volar plugins install out/nginx/manifest.json
      volar plugins install out/nginx
      volar plugins install oci://registry.example.org/plugins/nginx:1.0
      volar plugins install https://www.example.org/nginx/manifest.json --checksum sha256:…
      volar plugins install nginx@1.2.0
      volar plugins install out/nginx-2 --no-default
    """
)
@click.argument("source", required=False)
@click.option("--manifest", "manifest", default="", metavar="FILE|URL", help="The same as SOURCE.")
@click.option("--url", default="", metavar="URL", help="The same as SOURCE.")
@click.option("--checksum", default="", metavar="sha256:…", help="Of the manifest: needed when it lies on the web.")
@click.option("--no-default", is_flag=True, help="Beside the version that the name means, which stays.")
@click.option("--replace", is_flag=True, help="In the place of another content of this version that nothing was made from.")
@format_option("table", "json", "name")
@pass_session
def install(
    session: Session, source: str | None, manifest: str, url: str, checksum: str, no_default: bool, replace: bool, output: str
) -> None:
    """Install the plugin at SOURCE: a manifest.json, the directory that holds it, a place that volantd fetches it from, or a
    name that a plugin index knows.

    Another version comes beside those that are there, and the plugin's name means it from then on; VMs stay on the version that
    they were made from.

    Files beside a manifest are checked against their checksums and uploaded unless volantd has them. A signature
    (manifest.json.minisig, as fledge sign writes it) is sent along.

    From a registry (oci://HOST/NAME[:TAG][@DIGEST], as fledge push leaves it) or the web (https://, with --checksum) volantd
    fetches itself what it does not have, and the signature with it. Ctrl-C ends that, and nothing is installed.
    """
    given = [one for one in (source, manifest, url) if one]
    if len(given) != 1:
        raise InvalidInput("say where the plugin is, once", field="SOURCE", hint="volar plugins install out/nginx")
    quiet = output != "table"
    wish = find_source(session.client, given[0], checksum)
    brought = bring_plugin(session.client, _with(wish, as_default=not no_default, replace=replace), quiet=quiet)
    tell_brought(brought, output)


@click.command(
    epilog="""
    \b
    Examples:
      volar plugins upgrade nginx
      volar plugins upgrade nginx out/nginx-2
      volar plugins upgrade nginx oci://registry.example.org/plugins/nginx:2.0
      volar plugins upgrade nginx --to 2.0
    """
)
@click.argument("name", shell_complete=complete_plugins)
@click.argument("source", required=False)
@click.option("--to", "version", default="", metavar="VERSION", help="Which version; installed, or of an index.")
@click.option("--checksum", default="", metavar="sha256:…", help="Of the manifest: needed when it lies on the web.")
@format_option("table", "json", "name")
@pass_session
def upgrade(session: Session, name: str, source: str | None, version: str, checksum: str, output: str) -> None:
    """Have the plugin NAME mean another version: the one at SOURCE, the one named with --to, or the newest that an index knows.

    VMs that are there stay on the version that they were made from.
    """
    client = session.client
    if check_reference(name, "NAME")[1]:
        raise InvalidInput("a plugin is upgraded, not a version of it", field="NAME", hint=f"volar plugins upgrade {name} --to …")
    versions = client.plugins.versions(name)
    if source is None and version and any(one.spec.version == version for one in versions):
        plugin = client.plugins.set_default(name, version)
        tell_brought(Brought(plugin=plugin, created=False, files=len(plugin.status.artifacts), moved=0, how="uploaded"), output)
        return
    wish = find_source(client, source or (f"{name}@{version}" if version else name), checksum)
    brought = bring_plugin(client, _with(wish, name=name, version=version or wish.version), quiet=output != "table")
    # What was installed already does not become the default by being installed again.
    plugin = client.plugins.set_default(name, brought.plugin.spec.version)
    tell_brought(
        Brought(plugin=plugin, created=brought.created, files=brought.files, moved=brought.moved, how=brought.how), output
    )


def find_source(client: Client, given: str, checksum: str) -> Wish:
    """Where ``given`` is: a place, or what an index says of a name. Raises NotFound for a name that none knows."""
    if is_remote(given) or Path(given).exists() or "/" in given or given.endswith(".json"):
        return Wish(source=given, checksum=checksum)
    try:
        name, version = check_reference(given, "SOURCE")
    except InvalidInput:
        return Wish(source=given, checksum=checksum)
    found = client.plugin_indexes.resolve(name, version)
    if found is None:
        raise NotFound(
            f"there is no {given}, and no index knows a plugin of that name",
            hint="volar plugins search shows what indexes know; volar plugins index add NAME URL adds one",
        )
    source = found["source"]
    return Wish(
        source=source.removeprefix("file://"),
        checksum="" if source.startswith("oci://") else found["digest"],
        name=name,
        version=found["version"],
    )


def _with(wish: Wish, **changes: object) -> Wish:
    import msgspec

    return msgspec.structs.replace(wish, **changes)
