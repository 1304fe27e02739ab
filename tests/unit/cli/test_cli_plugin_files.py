"""Manifests on their way: what lies beside them, and what the first Volant's tools wrote."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from volant.cli.plugin_files import read_local_manifest
from volant.core.errors import InvalidInput


def write(directory: Path, **changes: Any) -> Path:
    digest = hashlib.sha256(b"init").hexdigest()
    (directory / "kernel").write_bytes(b"kernel")
    (directory / "init").write_bytes(b"init")
    manifest = {
        "schema_version": "1.0",
        "name": "job",
        "version": "1.0",
        "workload": {"type": "EXEC", "entrypoint": "/bin/job", "args": ["-x"]},
        "boot": {"kernel": {"url": "kernel"}},
        "initramfs": {"url": "file://init", "format": "cpio.gz", "checksum": digest},
        **changes,
    }
    path = directory / "manifest.json"
    path.write_text(json.dumps(manifest))
    return path


def test_the_first_volants_words_are_read(tmp_path: Path) -> None:
    local = read_local_manifest(write(tmp_path))
    assert local.document["workload"]["entrypoint"] == ["/bin/job", "-x"]
    assert local.document["boot"]["kernel"]["url"] == f"artifact:sha256:{hashlib.sha256(b'kernel').hexdigest()}"
    assert [file.role for file in local.files] == ["boot.kernel", "initramfs"]


def test_cloud_inits_files_go_along(tmp_path: Path) -> None:
    (tmp_path / "user").write_text("#cloud-config\n")
    cloud_init = {"user_data": {"path": "user"}, "meta_data": {"inline": True, "content": "a: b"}}
    local = read_local_manifest(write(tmp_path, cloud_init=cloud_init))
    assert local.document["cloud_init"]["user_data"] == {"inline": True, "content": "#cloud-config\n"}
    assert local.document["cloud_init"]["meta_data"] == {"inline": True, "content": "a: b"}


@pytest.mark.parametrize("path", ["absent", "https://www.example.org/user", "binary"])
def test_cloud_inits_files_have_to_be_there(tmp_path: Path, path: str) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput) as raised:
        read_local_manifest(write(tmp_path, cloud_init={"user_data": {"path": path}}))
    assert raised.value.field == "cloud_init.user_data.path"
