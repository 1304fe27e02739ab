"""Plugins with a signature beside their manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from volant.core.trust import Verdict

from ..api.served import Served  # noqa: TID252  # importlib mode knows no top-level name for it

Volar = Callable[..., Any]
SIGNATURE = "untrusted comment: …\nRUQ…\n"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """What ``fledge build`` and ``fledge sign`` leave; the signature is only passed on here."""
    directory = tmp_path / "out"
    directory.mkdir()
    (directory / "kernel").write_bytes(b"kernel")
    medium = {"url": "kernel", "checksum": "sha256:" + hashlib.sha256(b"kernel").hexdigest()}
    manifest = {
        "schema_version": "v1",
        "name": "job",
        "version": "1.0",
        "workload": {"type": "exec", "entrypoint": ["/bin/job", "ä"]},
        "boot": {"kernel": medium},
        "initramfs": medium,
    }
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=3, ensure_ascii=False) + "\n\n")
    (directory / "manifest.json.minisig").write_text(SIGNATURE)
    return directory


def test_the_signed_bytes_go_along_unchanged(built: Path, served: Served, volar: Volar) -> None:
    ran = volar("plugins", "install", str(built))
    assert (ran.code, ran.out) == (0, "plugin job 1.0 is installed (2 files, 1 uploaded)\n")
    spec = served.plane.plugins.table.rows["job"].spec
    assert spec.signed.manifest.encode() == (built / "manifest.json").read_bytes()
    assert spec.signed.signature == SIGNATURE
    assert spec.manifest["initramfs"]["url"].startswith("artifact:sha256:")


def test_without_a_signature_the_manifest_goes_alone(built: Path, served: Served, volar: Volar) -> None:
    (built / "manifest.json.minisig").unlink()
    assert volar("plugins", "install", str(built / "manifest.json")).code == 0
    assert served.plane.plugins.table.rows["job"].spec.signed is None
    assert "Signed:      no\n" in volar("plugins", "show", "job").out


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"x" * 20_000, "larger than a minisign signature can be"), (b"\xff\xfe", "no minisign signature")],
)
def test_what_cannot_be_a_signature_is_not_sent(built: Path, volar: Volar, content: bytes, said: str) -> None:
    (built / "manifest.json.minisig").write_bytes(content)
    ran = volar("plugins", "install", str(built))
    assert ran.code == 2 and said in ran.err


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (None, "yes, and not looked at yet"),
        ({"reason": "Trusted", "publisher": "acme", "key_id": "EC24"}, "by acme (key EC24), trusted"),
        (
            {"reason": "UnknownKey", "key_id": "EC24", "message": "key EC24 is none of the 2 keys"},
            "by somebody unknown (key EC24), not trusted: key EC24 is none of the 2 keys",
        ),
        ({"reason": "Unreadable", "message": "no signature"}, "unreadably, not trusted: no signature"),
    ],
)
def test_show_says_by_whom_it_is_signed(
    built: Path, served: Served, volar: Volar, verdict: dict[str, Any] | None, said: str
) -> None:
    volar("plugins", "install", str(built))
    table = served.plane.plugins.table
    if verdict is not None:
        plugin = table.rows["job"]
        trust = Verdict(**{"policy": "enforce", "message": "", **verdict})
        served.run(table.put(replace(plugin, status=replace(plugin.status, trust=trust))))
    assert f"Signed:      {said}\n" in volar("plugins", "show", "job").out
