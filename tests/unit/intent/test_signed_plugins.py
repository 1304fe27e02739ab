"""Installing what a publisher signed, and what the trust policy says to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import minisign
import msgspec
import pytest

from volant.artifact.trust import Trust
from volant.core.errors import AlreadyExists, InvalidInput, Untrusted
from volant.core.plugin import Plugin, PluginSpec, PluginStatus
from volant.core.resource import Meta, from_stored, to_stored
from volant.core.trust import SignedManifest
from volant.intent import Intents
from volant.store.contract import Store
from volant.store.records import find_resource

from .conftest import DIGEST, make_manifest

ACME = minisign.KeyPair.generate()


def sign(manifest: dict[str, Any], **dumping: Any) -> SignedManifest:
    content = json.dumps(manifest, **dumping)
    return SignedManifest(manifest=content, signature=bytes(ACME.secret_key.sign(content.encode())).decode())


def build_manifest(**changes: Any) -> dict[str, Any]:
    """As fledge writes it: files are named by where they lie beside it."""
    medium = {"url": "rootfs.erofs", "checksum": DIGEST}
    return make_manifest(boot={"kernel": medium, "initramfs": medium}, rootfs=medium, **changes)


@pytest.fixture
def trust(keys: Path) -> Trust:
    (keys / "acme.pub").write_bytes(bytes(ACME.public_key))
    return Trust("enforce", keys)


async def test_the_signed_bytes_are_kept_and_the_manifest_is_read_from_them(intents: Intents, store: Store) -> None:
    signed = sign(build_manifest(labels={"tier": "web"}), indent=3)
    plugin, created = await intents.plugins.install(make_manifest(labels={"tier": "web"}), signed)
    assert created
    stored = await find_resource(store, Plugin, "default", "nginx")
    assert stored is not None and stored.spec.signed == signed
    assert plugin.spec.manifest["rootfs"]["url"] == f"artifact:{DIGEST}"


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "2.0"},
        {"workload": {"type": "exec", "entrypoint": ["/bin/sh"]}},
        {"rootfs": {"url": "x", "checksum": "sha256:" + "cd" * 32}},
        {"rootfs": {"url": "x"}},
        {"labels": {"volant.publisher": "acme"}},
    ],
)
async def test_a_manifest_beside_another_signed_one_is_refused(intents: Intents, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="another one than the manifest beside it") as raised:
        await intents.plugins.install(make_manifest(), sign(build_manifest() | changes))
    assert raised.value.field == "signed_manifest"
    assert (await intents.plugins.list())[0] == []


async def test_what_the_policy_refuses_is_not_written_down(intents: Intents, keys: Path) -> None:
    with pytest.raises(Untrusted, match="it is not signed") as raised:
        await intents.plugins.install(make_manifest())
    assert raised.value.hint == f"sign it with a key that {keys} holds: fledge sign"
    (keys / "acme.pub").unlink()
    with pytest.raises(Untrusted, match="is none of the 0 keys") as raised:
        await intents.plugins.install(make_manifest(), sign(build_manifest()))
    assert raised.value.hint is not None and str(keys / "PUBLISHER.pub") in raised.value.hint
    assert (await intents.plugins.list())[0] == []


async def test_a_later_signature_is_kept_and_never_lost(intents: Intents, keys: Path) -> None:
    old, new = sign(build_manifest()), sign(build_manifest(), indent=2)
    first, _ = await intents.plugins.install(make_manifest(), old)
    again, created = await intents.plugins.install(make_manifest(), old)
    assert (again.revision, created) == (first.revision, False)
    resigned, created = await intents.plugins.install(make_manifest(), new)
    assert (resigned.uid, resigned.spec.signed, resigned.meta.generation, created) == (first.uid, new, 2, False)
    with pytest.raises(AlreadyExists):
        other = {"cpu_cores": 2, "memory_mb": 128}
        await intents.plugins.install(make_manifest(resources=other), sign(build_manifest(resources=other)))
    assert (await intents.plugins.get("nginx")).spec.signed == new


class TestOff:
    @pytest.fixture
    def trust(self, keys: Path) -> Trust:
        return Trust("off", keys)

    async def test_anything_is_let_in_and_its_signature_kept(self, intents: Intents) -> None:
        signed = sign(build_manifest())
        unsigned, _ = await intents.plugins.install(make_manifest())
        assert unsigned.spec.signed is None
        plugin, _ = await intents.plugins.install(make_manifest(), signed)
        assert plugin.spec.signed == signed
        plugin, _ = await intents.plugins.install(make_manifest())
        assert plugin.spec.signed == signed

    async def test_what_is_no_signature_is_refused(self, intents: Intents) -> None:
        broken = msgspec.structs.replace(sign(build_manifest()), signature="nonsense")
        with pytest.raises(InvalidInput, match="no minisign signature") as raised:
            await intents.plugins.install(make_manifest(), broken)
        assert raised.value.field == "signature"


def test_a_plugin_that_was_stored_before_there_were_signatures_is_read() -> None:
    plugin = Plugin(meta=Meta(name="nginx", uid="1"), spec=PluginSpec(version="1", manifest={}), status=PluginStatus())  # type: ignore[arg-type]
    stored = to_stored(plugin)
    del stored["spec"]["signed"], stored["status"]["trust"]
    assert from_stored(Plugin, stored, 0) == plugin
