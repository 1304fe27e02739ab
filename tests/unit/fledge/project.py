"""A project that fledge can build without any network: a kernel package, an image, a recipe, and a program for kestrel."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from volant.fledge.cli import main

from .kernel_files import make_kernel_package
from .oci_layouts import LayoutWriter, make_entry, make_layer

RECIPE = 'version = "1"\nstrategy = "oci_rootfs"\n[source]\nimage = "oci:web"\n[kernel]\ndeb = "kernel.deb"\n'

NEEDS = [
    pytest.mark.spawns,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away"),
    pytest.mark.skipif(not shutil.which("mkfs.erofs"), reason="needs erofs-utils"),
]


def make_project(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "kestrel").write_bytes(b"\x7fELF kestrel")
    monkeypatch.setenv("VOLANT_KESTREL", str(directory / "kestrel"))
    monkeypatch.setenv("FLEDGE_CACHE", str(directory / "cache"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    make_kernel_package(directory / "package", directory / "kernel.deb")
    make_web_image(directory / "web", b"program", "v7")
    (directory / "fledge.toml").write_text(RECIPE)


def make_web_image(path: Path, program: bytes, tag: str) -> None:
    layout = LayoutWriter(path)
    settings = {"Entrypoint": ["/web"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}
    status = b"Package: web\nVersion: 1.0-1\nArchitecture: amd64\nStatus: install ok installed\nMaintainer: N <n@example.org>\n\n"
    status = status.replace(b"1.0", tag[1:].encode())
    entries = [make_entry("web", program, mode=0o755), make_entry("var/lib/dpkg/status", status)]
    layout.tag(layout.make_image([make_layer(entries)], settings), tag)


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of ``fledge`` with ``arguments``."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, printed.out, printed.err


def read_files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}
