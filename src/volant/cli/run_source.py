"""What ``volar run`` boots: a plugin that is there, one that is brought for the occasion, or an image that becomes one first."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from volant.cli.failure import print_error, print_volant_error
from volant.cli.fledge_build import build_image
from volant.cli.plugin_files import read_local_manifest
from volant.cli.plugin_transfer import fetch_plugin, is_remote, send_files
from volant.cli.run_options import WorkloadChanges
from volant.client.client import Client
from volant.core.errors import HostError, InvalidInput, NotFound, VolantError
from volant.core.manifest import convert_manifest
from volant.core.plugin import Plugin, name_by_content
from volant.core.plugin_versions import check_reference, name_version, split_reference

RUN_LABEL = "volant.run"
REMOVE_S = 60.0
_NAME_MAX = 63


class Runnable(msgspec.Struct, frozen=True, kw_only=True):
    """``is_brought`` when it is there for this run alone."""

    plugin: Plugin
    is_brought: bool


@contextlib.contextmanager
def open_runnable(
    client: Client, given: str, changes: WorkloadChanges, *, keep: bool = False, quiet: bool = False
) -> Iterator[Runnable]:
    """The plugin to boot for ``given``, its workload changed as asked. What was brought for it goes afterwards.

    Raises:
        InvalidInput: it is nothing that boots. Others: as installing, fetching and building do.
    """
    with contextlib.ExitStack() as brought:
        found = _find(client, given, brought, keep=keep, quiet=quiet)
        if changes != WorkloadChanges():
            document = changes.apply(client.plugins.manifest(found.plugin.name))
            found = _bring(client, _rename(document), brought, keep=keep)
        _check_ready(found.plugin)
        yield found


def make_name(stem: str) -> str:
    """A name that nobody has: ``run-STEM-`` and four digits of chance."""
    return f"run-{stem.removeprefix('run-')[: _NAME_MAX - 9].rstrip('-')}-{secrets.token_hex(2)}"


def _find(client: Client, given: str, brought: contextlib.ExitStack, *, keep: bool, quiet: bool) -> Runnable:
    if is_remote(given):
        if not given.startswith("oci://"):
            raise InvalidInput(
                f"{given[:160]!r} is not run from there", hint="volar plugins install URL --checksum sha256:… first"
            )
        # Beside what is there: a run changes nothing for others.
        plugin, created, _ = fetch_plugin(client, given, as_default=False, quiet=quiet)
        return _own(client, plugin, created, brought, keep=keep)
    path = Path(given)
    if (path / "manifest.json").is_file() or (path.suffix == ".json" and path.is_file()):
        return _install(client, path, brought, keep=keep, quiet=quiet)
    if not path.exists():
        with contextlib.suppress(NotFound, InvalidInput):
            return Runnable(plugin=client.plugins.get(_check_plugin(given)), is_brought=False)
    with build_image(given, quiet=quiet) as built:
        return _install(client, built, brought, keep=keep, quiet=quiet)


def _install(client: Client, path: Path, brought: contextlib.ExitStack, *, keep: bool, quiet: bool) -> Runnable:
    local = read_local_manifest(path)
    same = _find_same(client, local.document)
    if same is not None:
        return Runnable(plugin=same, is_brought=False)
    send_files(client, local, quiet=quiet)
    if local.signed is None:
        return _bring(client, _rename(local.document), brought, keep=keep)
    # What is signed keeps its name: with another it would be another manifest.
    plugin, created = client.plugins.install(local.document, local.signed, as_default=False, wait=True)
    return _own(client, plugin, created, brought, keep=keep)


def _find_same(client: Client, document: dict[str, Any]) -> Plugin | None:
    """The installed plugin that ``document`` describes, when its files are whole."""
    manifest = convert_manifest(document)
    try:
        plugin = client.plugins.get(name_version(manifest.name, manifest.version))
    except NotFound:
        return None
    return plugin if plugin.spec.manifest == name_by_content(manifest) and plugin.status.phase == "Ready" else None


def _rename(document: dict[str, Any]) -> dict[str, Any]:
    """A plugin of its own for one run: nothing is kept ready of it."""
    renamed = {**document, "name": make_name(str(document["name"])), "labels": {**document.get("labels", {}), RUN_LABEL: "yes"}}
    renamed.pop("start", None)
    return renamed


def _bring(client: Client, document: dict[str, Any], brought: contextlib.ExitStack, *, keep: bool) -> Runnable:
    """Install ``document``, whose name nobody else has: it goes again even when it is not known whether it came."""
    if not keep:
        brought.callback(_remove, client, document["name"])
    plugin, _ = client.plugins.install(document, wait=True)
    return Runnable(plugin=plugin, is_brought=True)


def _own(client: Client, plugin: Plugin, created: bool, brought: contextlib.ExitStack, *, keep: bool) -> Runnable:
    if created and not keep:
        brought.callback(_remove, client, name_version(split_reference(plugin.name)[0], plugin.spec.version))
    return Runnable(plugin=plugin, is_brought=created)


def _remove(client: Client, name: str) -> None:
    try:
        client.plugins.remove(name, wait=True, timeout_s=REMOVE_S)
    except NotFound:
        return
    except VolantError as error:
        print_volant_error(error)
        print_error(f"the plugin {name} is still there", f"volar plugins remove {name}")


def _check_ready(plugin: Plugin) -> None:
    if plugin.status.phase == "Failed":
        raise HostError(f"the plugin {plugin.name} failed: {plugin.status.message or plugin.status.reason}")


def _check_plugin(given: str) -> str:
    """``given`` when it can name a plugin, or a version of one. Raises InvalidInput."""
    check_reference(given)
    return given
