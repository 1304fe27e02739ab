"""The whole command, from a layout and a kernel package to the published files, without any network."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from volant.core.manifest import read_manifest
from volant.fledge.cli import main

from .kernel_files import VMLINUX, make_kernel_package
from .oci_layouts import LayoutWriter, make_entry, make_layer
from .test_fledge_cpio import read_archive

pytestmark = [
    pytest.mark.spawns,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away"),
    pytest.mark.skipif(not shutil.which("mkfs.erofs"), reason="needs erofs-utils"),
]

RECIPE = 'version = "1"\nstrategy = "oci_rootfs"\n[source]\nimage = "oci:web"\n[kernel]\ndeb = "kernel.deb"\n'
SCRIPT = '#!/bin/sh\nset -eu\ncp -R web/. "$1"\necho run >>"$SCRIPT_LOG"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a kernel package, an image, a recipe, and a program that stands for kestrel."""
    (tmp_path / "kestrel").write_bytes(b"\x7fELF kestrel")
    monkeypatch.setenv("VOLANT_KESTREL", str(tmp_path / "kestrel"))
    monkeypatch.setenv("FLEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    make_kernel_package(tmp_path / "package", tmp_path / "kernel.deb")
    layout = LayoutWriter(tmp_path / "web")
    settings = {"Entrypoint": ["/web"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}
    layout.tag(layout.make_image([make_layer([make_entry("web", b"program", mode=0o755)])], settings), "v7")
    (tmp_path / "fledge.toml").write_text(RECIPE)
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["build", *map(str, arguments)])
    printed = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, printed.out, printed.err


def read_files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_build_leaves_what_its_manifest_names(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "-c", project / "fledge.toml", "-o", project / "out")

    assert (code, out) == (0, f"{project}/out/manifest.json\n")
    assert all(line.startswith("fledge: ") for line in err.splitlines())
    files = read_files(project / "out")
    assert sorted(files) == [
        "boot.cpio", "build.json", "contents.jsonl.zst", "manifest.json", "provenance.json", "rootfs.erofs", "sbom.spdx.json",
        "vmlinux",
    ]  # fmt: skip
    assert files["vmlinux"] == VMLINUX
    manifest = read_manifest(files["manifest.json"])
    assert manifest.boot is not None
    assert manifest.rootfs is not None
    for medium in (manifest.boot.kernel, manifest.boot.initramfs, manifest.rootfs):
        assert medium.checksum == f"sha256:{hashlib.sha256(files[medium.url]).hexdigest()}"
    assert (manifest.name, manifest.version, manifest.workload.base_url) == ("web", "v7", "http://127.0.0.1:80")
    assert manifest.labels == {"volant.kernel": "linux-image-test 1.0-1"}
    record = json.loads(files["build.json"])
    assert record["kernel"]["sha256"] == hashlib.sha256((project / "kernel.deb").read_bytes()).hexdigest()
    assert (record["kernel"]["name"], record["kernel"]["version"]) == ("linux-image-test", "1.0-1")
    assert (record["kernel_label"], record["kernel_options_sha256"]) == ("linux-image-test 1.0-1", "")
    assert record["source"]["manifest_digest"] == manifest.image_digest
    assert {name: facts["size"] for name, facts in record["outputs"].items()} == {
        name: len(files[name]) for name in ("boot.cpio", "manifest.json", "rootfs.erofs", "vmlinux")
    }


def test_the_initramfs_starts_kestrel_and_lists_its_modules_in_order(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "-q", "-c", project / "fledge.toml", "-o", project / "out")

    entries = {name: (head["mode"], content) for name, head, content in read_archive((project / "out/boot.cpio").read_bytes())}

    assert entries["init"] == (0o100755, b"\x7fELF kestrel")
    paths = entries["etc/kestrel/modules"][1].decode().splitlines()
    assert [Path(path).name for path in paths] == ["virtio_ring.ko", "virtio.ko", "virtio-rng.ko", "libcrc32c.ko", "erofs.ko"]
    assert all(entries[path[1:]][1].startswith(b"\x7fELF") for path in paths)
    names = list(entries)
    assert all(names.index(str(Path(name).parent)) < names.index(name) for name in names if "/" in name)
    assert not [name for name in entries if "unused" in name]


def test_a_build_elsewhere_under_another_umask_is_the_same_to_the_byte(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call(capsys, "-q", "-c", project / "fledge.toml", "-o", project / "out")
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    for name in ("web", "kernel.deb", "fledge.toml"):
        (project / name).rename(elsewhere / name)
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("FLEDGE_CACHE", "other-cache")

    umask = os.umask(0o077)
    try:
        code, out, err = call(capsys, "-q", "-o", "out")
    finally:
        os.umask(umask)

    assert (code, out, err) == (0, "out/manifest.json\n", "")
    assert read_files(Path("out")) == read_files(project / "out")


def test_a_script_runs_once_and_again_when_its_inputs_change(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = project / "log"
    (project / "image.sh").write_text(SCRIPT.replace("$SCRIPT_LOG", str(log)))
    (project / "image.sh").chmod(0o755)
    (project / "input").write_text("1")
    (project / "fledge.toml").write_text(
        RECIPE.replace('image = "oci:web"', 'script = "image.sh"\nscript_inputs = ["input"]') + '[plugin]\nname = "scripted"\n'
    )
    arguments = ("-q", "-c", project / "fledge.toml", "-o", project / "out")

    def count_runs(*more: str) -> int:
        assert call(capsys, *arguments, *more)[0] == 0
        return log.read_text().count("run")

    assert [count_runs(), count_runs()] == [1, 1]
    assert count_runs("--no-cache") == 2
    (project / "input").write_text("2")
    assert count_runs() == 3


def test_a_script_that_fails_says_why(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "image.sh").write_text("#!/bin/sh\necho 'no luck today' >&2\nexit 3\n")
    (project / "image.sh").chmod(0o755)
    (project / "fledge.toml").write_text(RECIPE.replace('image = "oci:web"', 'script = "image.sh"'))

    code, out, err = call(capsys, "-q", "-c", project / "fledge.toml", "-o", project / "out")

    assert (code, out) == (1, "")
    assert "no luck today" in err
    assert err.count("\n") == 1
    assert not list((project / "cache/tmp").iterdir())


def test_json_is_one_document(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = call(capsys, "-q", "--json", "-c", project / "fledge.toml", "-o", project / "out")

    document: dict[str, Any] = json.load(io.StringIO(out))
    assert document["manifest"] == f"{project}/out/manifest.json"
    assert document["name"] == "web"


def test_a_kernel_that_is_none_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "kernel.deb").write_bytes(b"no package")

    code, _, err = call(capsys, "-q", "-c", project / "fledge.toml", "-o", project / "out")

    assert code == 2
    assert "is no Debian package" in err
    assert not (project / "out").exists()


def test_a_kernel_is_fetched_by_itself(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["kernel", "fetch", "-q", "--deb", str(project / "kernel.deb"), "-o", str(project / "kernel")])

    assert caught.value.code == 0
    assert capsys.readouterr().out.splitlines() == [
        str(project / "kernel/vmlinux"),
        "linux-image-test 1.0-1 (6.1.0-0-test)",
        f"sha256:{hashlib.sha256(VMLINUX).hexdigest()}",
    ]
    files = read_files(project / "kernel")
    assert sorted(files) == ["boot.cpio", "kernel.json", "vmlinux"]
    assert json.loads(files["kernel.json"])["modules"][-1] == "erofs"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_build_that_is_ended_leaves_nothing_to_trip_over(
    project: Path, capsys: pytest.CaptureFixture[str], how: signal.Signals
) -> None:
    fifo = project / "started"
    os.mkfifo(fifo)
    (project / "image.sh").write_text(f"#!/bin/sh\necho started >'{fifo}'\nexec sleep 20\n")
    (project / "image.sh").chmod(0o755)
    recipe = project / "slow.toml"
    recipe.write_text(RECIPE.replace('image = "oci:web"', 'script = "image.sh"'))
    code = f"from volant.fledge.cli import main; main(['build', '-q', '-c', {str(recipe)!r}, '-o', {str(project / 'out')!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        assert fifo.read_text() == "started\n"
        process.send_signal(how)
        _, complaint = process.communicate()

    if how == signal.SIGTERM:
        assert complaint == b"fledge: interrupted\n"
        assert not list((project / "cache/tmp").iterdir())
    assert not (project / "out").exists()
    assert call(capsys, "-q", "-c", project / "fledge.toml", "-o", project / "out")[0] == 0
