"""Versions of a plugin, its files and the indexes, through the API and ``volar``, on the real intents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from volant.cli.plugin_files import read_local_manifest
from volant.cli.plugin_install import find_source
from volant.cli.volar import run
from volant.client.client import Client
from volant.core.errors import AlreadyExists, InUse, InvalidInput, NotFound, WrongState
from volant.core.ids import Digest

from .real_plane import DIGESTS, INITRAMFS, KERNEL, MANIFEST, RealPlane

Volar = Callable[..., tuple[int, str, str]]
NEWER = {**MANIFEST, "version": "2.0"}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[RealPlane]:
    with RealPlane(tmp_path) as running:
        yield running


@pytest.fixture
def client(plane: RealPlane) -> Client:
    return Client(plane.address)


@pytest.fixture
def volar(plane: RealPlane, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Volar:
    monkeypatch.setenv("VOLANT_API", plane.address)

    def run_volar(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run_volar


def test_versions_stand_side_by_side(client: Client) -> None:
    old = client.vms.create({"name": "old", "plugin": "job"})
    client.plugins.install(NEWER)
    assert [(one.name, one.spec.version) for one in client.plugins.versions("job")] == [("job", "2.0"), ("job@1.0", "1.0")]
    assert [one.name for one in client.plugins.list()] == ["job"]
    assert client.plugins.get("job@2.0").name == "job"
    assert client.plugins.manifest("job@1.0")["version"] == "1.0"
    new = client.vms.create({"name": "new", "plugin": "job"})
    assert (old.status.plugin_version, new.status.plugin_version) == ("1.0", "2.0")
    assert client.plugins.roll_back("job").spec.version == "1.0"
    assert client.plugins.set_default("job", "2.0").spec.version == "2.0"
    with pytest.raises(NotFound):
        client.plugins.set_default("job", "3.0")
    users = client.plugins.users("job")
    assert users == {"vms": ["new", "old"], "snapshots": [], "deployments": [], "jobs": [], "cron_jobs": []}
    assert client.plugins.users("job@1.0")["vms"] == ["old"]
    with pytest.raises(InUse):
        client.plugins.remove("job@1.0")
    client.plugins.remove("job@1.0", force=True)
    assert client.vms.get("old").meta.deleting_at is not None


def test_the_same_version_with_another_content(client: Client) -> None:
    other = {**MANIFEST, "resources": {"memory_mb": 256}}
    with pytest.raises(AlreadyExists):
        client.plugins.install(other)
    client.plugins.install(other, replace=True)
    assert client.plugins.get("job").manifest.resources.memory_mb == 256
    beside, _ = client.plugins.install(NEWER, as_default=False)
    assert beside.name == "job@2.0"


def test_disabled_is_at_once(client: Client) -> None:
    client.plugins.set_enabled("job", False)
    with pytest.raises(WrongState, match="disabled"):
        client.vms.create({"name": "web", "plugin": "job"})
    client.plugins.set_enabled("job@1.0", True)
    client.vms.create({"name": "web", "plugin": "job"})


def test_files_say_which_versions_have_them(client: Client) -> None:
    client.plugins.install(NEWER)
    files = client.plugins.artifacts("job")
    assert {one["role"]: one["versions"] for one in files} == {"kernel": ["2.0", "1.0"], "initramfs": ["2.0", "1.0"]}
    kernel = Digest(DIGESTS[KERNEL])
    assert {one["digest"]: one["needed_by"] for one in client.artifacts.list()}[kernel] == ["job@1.0", "job@2.0"]
    with pytest.raises(InUse, match=r"job@1\.0, job@2\.0"):
        client.artifacts.remove(kernel)
    with pytest.raises(InvalidInput):
        client.artifacts.remove(Digest("sha256:x"))
    assert client.artifacts.prune(dry_run=True) == []


def write_index(directory: Path, **changes: Any) -> Path:
    (directory / "job").mkdir(exist_ok=True)
    files = {"kernel": KERNEL, "initramfs": INITRAMFS}
    for name, content in files.items():
        (directory / "job" / name).write_bytes(content)
    manifest = json.dumps(NEWER).encode()
    (directory / "job/manifest.json").write_bytes(manifest)
    version = {"version": "2.0", "digest": f"sha256:{hashlib.sha256(manifest).hexdigest()}", "source": "job/manifest.json"}
    plugin = {"name": "job", "description": "Does a job", "labels": {"kind": "batch"}, "versions": [{**version, **changes}]}
    path = directory / "index.json"
    path.write_text(json.dumps({"schema_version": "v1", "plugins": [plugin]}))
    return path


def test_a_plugin_is_found_in_an_index_by_its_name(client: Client, volar: Volar, tmp_path: Path) -> None:
    assert volar("plugins", "search", "job")[1] == ""
    path = write_index(tmp_path)
    assert volar("plugins", "index", "add", "local", str(path)) == (0, "index local knows 1 plugin\n", "")
    code, out, _ = volar("plugins", "search", "BATCH")
    assert code == 0 and out.splitlines()[1].split() == ["job", "2.0", "local", "Does", "a", "job"]
    assert volar("plugins", "search", "nothing")[1] == ""
    wish = find_source(client, "job", "")
    assert (wish.name, wish.version, wish.source) == ("job", "2.0", str(tmp_path / "job/manifest.json"))
    assert read_local_manifest(Path(wish.source), wish.checksum).document["version"] == "2.0"
    (tmp_path / "job/manifest.json").write_text(json.dumps(MANIFEST))
    with pytest.raises(InvalidInput, match="not sha256:"):
        read_local_manifest(Path(wish.source), wish.checksum)
    assert volar("plugins", "install", "job@9.9")[0] == 3
    assert volar("plugins", "index", "update")[1] == "index local knows 1 plugin\n"
    assert volar("plugins", "index", "remove", "local") == (0, "index local is removed\n", "")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": "http://x/manifest.json"}, "is not fetched"),
        ({"source": "ftp://x/y"}, "is not fetched"),
        ({"digest": "md5:1"}, "not a sha256 digest"),
        ({"version": "a b"}, "is not a version"),
        ({"surprise": 1}, "unknown field"),
    ],
)
def test_an_index_that_cannot_be_right_is_refused(volar: Volar, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    code, _, err = volar("plugins", "index", "add", "local", str(write_index(tmp_path, **changes)))
    assert (code, said in err) == (2, True)
    assert volar("plugins", "index", "list", "-o", "name")[1] == ""


def test_what_is_disabled_default_and_removed_on_the_command_line(client: Client, volar: Volar) -> None:
    client.vms.create({"name": "old", "plugin": "job"})
    client.plugins.install(NEWER)
    code, out, _ = volar("plugins", "versions", "job")
    assert (code, [line.split()[:3] for line in out.splitlines()[1:]]) == (0, [["2.0", "yes", "yes"], ["1.0", "-", "yes"]])
    assert volar("plugins", "rollback", "job") == (0, "job means version 1.0\n", "")
    assert volar("plugins", "rollback", "job")[0] == 4
    assert volar("plugins", "default", "job", "2.0") == (0, "job means version 2.0 (before: 1.0)\n", "")
    assert volar("plugins", "disable", "job")[1] == "plugin job (2.0, 1.0) is disabled\n"
    assert volar("vms", "create", "web", "--plugin", "job")[0] == 4
    assert volar("plugins", "enable", "job@2.0")[1] == "plugin job (2.0) is enabled\n"
    assert volar("plugins", "upgrade", "job", "--to", "1.0")[0] == 0
    assert client.plugins.get("job").spec.version == "1.0"
    code, _, err = volar("plugins", "remove", "job@1.0")
    assert code == 4 and "there are other versions" in err
    code, _, err = volar("plugins", "remove", "job", "--force")
    assert code == 2 and "go the VMs old" in err and "--yes" in err
    assert client.vms.get("old").meta.deleting_at is None
