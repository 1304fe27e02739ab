"""The routes of plugins, artifacts and the whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from volant.client.client import Client
from volant.client.connection import Connection
from volant.core.errors import AlreadyExists, ChecksumMismatch, InUse, InvalidInput, NotFound
from volant.core.ids import Digest
from volant.core.trust import SignedManifest

from .served import Served

CONTENT = b"kernel" * 100_000
DIGEST = Digest("sha256:" + hashlib.sha256(CONTENT).hexdigest())
MANIFEST = {
    "schema_version": "v1",
    "name": "job",
    "version": "1.0",
    "workload": {"type": "exec", "entrypoint": ["/bin/job"]},
    "boot": {"kernel": {"url": f"artifact:{DIGEST}", "checksum": DIGEST}},
    "initramfs": {"url": f"artifact:{DIGEST}", "checksum": DIGEST},
}


@pytest.fixture
def client(served: Served) -> Client:
    return Client(served.address)


def test_an_artifact_is_stored_once(client: Client, api: Connection, served: Served, tmp_path: Path) -> None:
    file = tmp_path / "kernel"
    file.write_bytes(CONTENT)
    assert client.artifacts.size(DIGEST) is None

    told: list[int] = []
    client.artifacts.upload(DIGEST, file, told.append)

    assert told[-1] == len(CONTENT)
    assert client.artifacts.size(DIGEST) == len(CONTENT)
    assert served.plane.door.artifacts == {DIGEST: CONTENT}
    again = api.upload(f"/api/v1/artifacts/{DIGEST}", [CONTENT], len(CONTENT))
    assert (again.status, again.json()) == (200, {"digest": DIGEST, "size_bytes": len(CONTENT)})


def test_content_that_is_not_its_digest_is_refused(api: Connection, served: Served) -> None:
    with pytest.raises(ChecksumMismatch):
        api.upload(f"/api/v1/artifacts/{DIGEST}", [b"x"], 1)
    with pytest.raises(InvalidInput):
        api.upload("/api/v1/artifacts/sha256:beef", [b"x"], 1)
    assert served.plane.door.artifacts == {}


def test_install_again_is_the_same_and_another_is_refused(client: Client, served: Served) -> None:
    with pytest.raises(InvalidInput, match="not uploaded"):
        client.plugins.install(MANIFEST)
    served.plane.door.artifacts[DIGEST] = CONTENT

    plugin, created = client.plugins.install(MANIFEST, wait=True)
    assert (plugin.status.phase, created) == ("Ready", True)
    assert client.plugins.install(MANIFEST)[1] is False
    with pytest.raises(AlreadyExists):
        client.plugins.install({**MANIFEST, "version": "2.0"})
    assert client.plugins.manifest("job")["workload"]["entrypoint"] == ["/bin/job"]
    assert [one.name for one in client.plugins.list()] == ["job", "nginx"]


def test_remove_waits_for_the_last_user(client: Client) -> None:
    client.vms.create({"name": "web", "plugin": "nginx"})
    with pytest.raises(InUse):
        client.plugins.remove("nginx")
    with pytest.raises(NotFound):
        client.plugins.remove("absent")


def test_remove_says_when_it_is_gone(client: Client) -> None:
    assert client.plugins.remove("nginx", wait=True) is None
    assert client.plugins.list() == []


def test_the_whole_is_described(client: Client, api: Connection) -> None:
    client.vms.create({"name": "web", "plugin": "nginx"})
    assert client.system.health() == {"status": "ok", "version": "0.0.test"}
    assert client.system.summary()["vms"] == 1
    assert [check["name"] for check in client.system.checks()["items"]] == ["memory", "kvm"]
    assert client.system.drain() == 1
    assert client.system.drain() == 0
    assert api.get_json("/openapi") == api.get_json("/openapi.json")


def test_a_signature_comes_with_the_bytes_that_were_signed(client: Client, api: Connection, served: Served) -> None:
    served.plane.door.artifacts[DIGEST] = CONTENT
    signed = SignedManifest(manifest='{ "name": "job" }\n', signature="untrusted comment: x")
    plugin, created = client.plugins.install(MANIFEST, signed)
    assert created and plugin.spec.signed == signed
    assert client.plugins.get("job").spec.signed == signed
    assert client.plugins.manifest("job") == MANIFEST


@pytest.mark.parametrize(
    "document",
    [
        {"manifest": MANIFEST},
        {"manifest": MANIFEST, "signature": "x"},
        {"manifest": MANIFEST, "signature": "x", "signed_manifest": 1},
        {"manifest": "text", "signature": "x", "signed_manifest": "y"},
        {"manifest": MANIFEST, "signature": "x", "signed_manifest": "y", "surprise": 1},
    ],
)
def test_half_a_signature_is_refused(api: Connection, served: Served, document: dict[str, object]) -> None:
    served.plane.door.artifacts[DIGEST] = CONTENT
    with pytest.raises(InvalidInput):
        api.request("POST", "/api/v1/plugins", document=document)
    assert "job" not in served.plane.plugins.table.rows
