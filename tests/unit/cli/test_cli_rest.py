"""``volar`` beside ``vms``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from volant.cli import doctor
from volant.core.errors import HostError

from ..api.served import Served  # noqa: TID252  # importlib mode knows no top-level name for it

Volar = Callable[..., Any]


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """What ``fledge build`` leaves."""
    directory = tmp_path / "out"
    directory.mkdir()
    (directory / "kernel").write_bytes(b"kernel")
    (directory / "init ramfs").write_bytes(b"initramfs" * 1000)
    manifest = {
        "schema_version": "v1",
        "name": "job",
        "version": "1.0",
        "workload": {"type": "exec", "entrypoint": ["/bin/job"]},
        "boot": {"kernel": {"url": "kernel", "checksum": _digest(b"kernel")}},
        "initramfs": {"url": "file://./init%20ramfs"},
    }
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def test_install_uploads_what_is_missing(built: Path, served: Served, volar: Volar) -> None:
    ran = volar("plugins", "install", str(built / "manifest.json"))
    assert (ran.code, ran.out) == (0, "plugin job 1.0 is installed (2 files, 2 uploaded)\n")
    assert ran.err == "uploading boot.kernel (6 B)\nuploading initramfs (8.8 KiB)\n"
    assert set(served.plane.door.artifacts) == {_digest(b"kernel"), _digest(b"initramfs" * 1000)}
    manifest = volar("plugins", "show", "job", "--manifest").json
    assert manifest["boot"]["kernel"]["url"] == f"artifact:{_digest(b'kernel')}"
    assert manifest["initramfs"]["checksum"] == _digest(b"initramfs" * 1000)

    again = volar("plugins", "install", str(built))
    assert again.out == "plugin job 1.0 was installed already (2 files, 0 uploaded)\n"


def test_install_refuses_a_file_that_is_not_what_the_manifest_says(built: Path, served: Served, volar: Volar) -> None:
    (built / "kernel").write_bytes(b"another")
    ran = volar("plugins", "install", str(built))
    assert ran.code == 2
    assert "is not what the manifest says" in ran.err
    assert served.plane.door.artifacts == {}


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [("absent", 2, "No such file"), ("ftp://host/kernel", 2, "not a place"), ("https://host/kernel", 2, "not uploaded")],
)
def test_install_names_what_it_cannot_read(built: Path, volar: Volar, url: str, code: int, said: str) -> None:
    manifest = json.loads((built / "manifest.json").read_text())
    manifest["boot"]["kernel"]["url"] = url
    (built / "manifest.json").write_text(json.dumps(manifest))
    ran = volar("plugins", "install", str(built))
    assert (ran.code, said in ran.err) == (code, True)


def test_install_of_nothing_is_not_found(tmp_path: Path, volar: Volar) -> None:
    assert volar("plugins", "install", str(tmp_path / "absent.json")).code == 3
    (tmp_path / "manifest.json").write_text("{")
    assert volar("plugins", "install", str(tmp_path)).code == 2


def test_plugins_are_listed_shown_and_removed(built: Path, volar: Volar) -> None:
    volar("plugins", "install", str(built))
    lines = volar("plugins", "list").out.splitlines()
    assert lines[0].split() == ["NAME", "VERSION", "PHASE", "SIZE", "VMS", "AGE"]
    assert lines[1].split()[:4] == ["job", "1.0", "Ready", "8.8"]
    assert "Workload:    /bin/job" in volar("plugins", "show", "job").out
    assert volar("plugins", "show", "job", "--json").json["name"] == "job"
    assert volar("plugins", "remove", "job").out == "plugin job is removed\n"
    assert volar("plugins", "remove", "job").code == 3
    volar("vms", "create", "web", "--plugin", "nginx", "--no-wait")
    assert volar("plugins", "remove", "nginx").code == 4


def test_events_are_printed_oldest_first(served: Served, volar: Volar) -> None:
    served.run(served.plane.events.record("web", "Created", "made from nginx"))
    served.run(served.plane.events.record("db", "Created", "made from nginx"))
    assert "vm/web" in volar("events").out.splitlines()[0]
    assert len(volar("events", "--for", "db").out.splitlines()) == 1
    assert [event["reason"] for event in volar("events", "--json").json["items"]] == ["Created", "Created"]


def test_the_whole_is_shown(volar: Volar) -> None:
    assert "vms:" in volar("system", "summary").out
    assert volar("system", "summary", "--json").json["vms"] == 0
    assert volar("system", "drain").out == "no VM was running\ndeployments stay down until: volar nodes uncordon NODE\n"
    assert volar("version").out == "volar    0.1.0\nvolantd  0.0.test\n"


def test_doctor_asks_volantd(volar: Volar) -> None:
    ran = volar("doctor")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "ok    memory  2000 MiB",
        "warn  kvm     unproven",
        "              -> load the kvm module",
        "2 checks: 0 failed, 1 with warnings",
    ]
    assert [item["name"] for item in volar("doctor", "--json").json["items"]] == ["memory", "kvm"]


def test_doctor_checks_by_itself_when_nobody_answers(volar: Volar, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> Any:
        return {"items": [{"name": "qemu", "state": "failed", "message": "not installed", "fix": "apt install qemu-system-x86"}]}

    monkeypatch.setattr(doctor, "check_without_daemon", check)
    served.stop()
    ran = volar("doctor")
    assert (ran.code, ran.out.splitlines()[0]) == (1, "FAIL  qemu  not installed")
    assert "checking without it" in ran.err


@pytest.mark.spawns
async def test_doctor_runs_volantd_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "volantd"
    program.write_text('#!/bin/sh\necho "{\\"items\\": [], \\"asked\\": \\"$* $VOLANT_DATA_DIR\\"}"\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setattr(doctor, "_find_volantd", lambda: str(program))
    monkeypatch.setenv("VOLANT_DATA_DIR", "/data")
    assert (await doctor.check_without_daemon())["asked"] == "--check --json /data"

    program.write_text("#!/bin/sh\necho 'it broke' >&2\n")
    with pytest.raises(HostError, match="it broke"):
        await doctor.check_without_daemon()
    program.unlink()
    with pytest.raises(HostError, match="not installed"):
        await doctor.check_without_daemon()


def test_without_volantd_it_says_so(volar: Volar, served: Served) -> None:
    served.stop()
    ran = volar("vms", "list")
    assert (ran.code, ran.out) == (1, "")
    assert "is volantd running?" in ran.err
    assert volar("--api", "http://x", "vms", "list").code == 2
    assert "does not answer" in volar("version").out
