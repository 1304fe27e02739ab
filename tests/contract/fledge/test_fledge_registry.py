"""fledge and a real registry: images come from it, artifacts go there and come back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.registry_server import HAS_REGISTRY, find_port, serve_registry
from tests.unit.fledge.project import call, make_project, make_web_image, read_files

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away"),
    pytest.mark.skipif(not HAS_REGISTRY, reason="needs Debian's docker-registry"),
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path, monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def push(host: str, name: str) -> str:
    """The digest of the project's image, which is now called ``name`` there."""
    subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", "oci:web:v7", f"docker://{host}/{name}"], check=True)
    shown = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{host}/{name}"], check=True, capture_output=True
    )
    digest: str = json.loads(shown.stdout)["Digest"]
    return digest


def write_recipe(source: str) -> None:
    Path("fledge.toml").write_text(f'version = "1"\nstrategy = "oci_rootfs"\n[source]\n{source}\n[kernel]\ndeb = "kernel.deb"\n')


def test_an_image_is_fetched_once_and_a_digest_needs_no_registry_any_more(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = find_port()
    with serve_registry(project / "registry", port) as server:
        digest = push(server.host, "team/web:1.2")
        write_recipe(f'image = "docker://{server.host}/team/web:1.2"')
        code, _, err = call(capsys, "build", "-o", "out")
        assert code == 0, err
        assert "fledge: Fetching team/web: " in err
        manifest = json.loads(Path("out/manifest.json").read_text())
        assert (manifest["name"], manifest["version"], manifest["image_digest"]) == ("web", "1.2", digest)
        assert manifest["workload"]["entrypoint"] == ["/web"]

        write_recipe(f'image = "docker://{server.host}/team/web@{digest}"')
        assert call(capsys, "build", "-q", "-o", "pinned")[0] == 0
    assert Path("pinned/rootfs.erofs").read_bytes() == Path("out/rootfs.erofs").read_bytes()

    assert call(capsys, "build", "-q", "--plugin-version", "2", "-o", "pinned")[0] == 0, "the registry is gone"
    shutil.rmtree("cache/roots")
    assert call(capsys, "build", "-q", "--plugin-version", "3", "-o", "pinned")[0] == 0, "and the layers are there"
    write_recipe(f'image = "docker://{server.host}/team/web:1.2"')
    code, _, err = call(capsys, "build", "-q", "-o", "out")
    assert code == 1
    assert server.host in err


def test_what_a_registry_does_not_have_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve_registry(project / "registry") as server:
        write_recipe(f'image = "docker://{server.host}/team/web:1.2"')
        code, _, err = call(capsys, "build", "-q", "-o", "out")
    assert code == 1
    assert "team/web" in err
    assert err.count("\n") == 1


def test_a_dockerfile_builds_on_an_image_of_a_registry_and_notices_a_newer_one(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("buildah") is None:
        pytest.skip("needs buildah")
    with serve_registry(project / "registry") as server:
        push(server.host, "base:1")
        Path("context").mkdir()
        Path("context/Dockerfile").write_text(f'FROM {server.host}/base:1\nCOPY page /page\nENTRYPOINT ["/web", "-v"]\n')
        Path("context/page").write_text("hello")
        write_recipe('dockerfile = "context/Dockerfile"')
        code, _, err = call(capsys, "build", "-o", "out")
        assert code == 0, err
        assert json.loads(Path("out/manifest.json").read_text())["workload"]["entrypoint"] == ["/web", "-v"]
        assert "STEP" in err
        assert "STEP" not in call(capsys, "build", "-o", "out")[2], "nothing changed"

        shutil.rmtree("web")
        make_web_image(project / "web", b"another program", "v7")
        push(server.host, "base:1")
        assert "STEP" in call(capsys, "build", "-o", "newer")[2]
    assert call(capsys, "diff", "-q", "out", "newer")[0] == 1


def test_an_artifact_goes_to_a_registry_and_comes_back_whole(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "build", "-q", "-o", "out")
    call(capsys, "keygen", "-W", "-s", "key", "-p", "key.pub")
    assert call(capsys, "sign", "out", "-s", "key")[0] == 0
    with serve_registry(project / "registry") as server:
        code, out, err = call(capsys, "push", "out", f"oci://{server.host}/plugins/web:7")
        assert code == 0, err
        named = out.strip()
        assert named.startswith(f"oci://{server.host}/plugins/web:7@sha256:")
        assert call(capsys, "push", "-q", "out", f"oci://{server.host}/plugins/web:7")[1].strip() == named

        assert call(capsys, "pull", "-q", f"oci://{server.host}/plugins/web:7", "-o", "back")[:2] == (0, "back/manifest.json\n")
        assert call(capsys, "pull", "-q", named.replace(":7@", "@"), "-o", "pinned")[0] == 0
        code, _, err = call(capsys, "pull", "-q", f"oci://{server.host}/plugins/lost:1", "-o", "lost")
        assert code == 1
        assert not Path("lost/manifest.json").exists()
    assert read_files(Path("back")) == read_files(Path("out")) == read_files(Path("pinned"))
    assert call(capsys, "verify", "back", "-p", "key.pub")[0] == 0


def test_an_image_of_the_store_is_pushed_by_its_name(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "build", "-q")
    with serve_registry(project / "registry") as server:
        assert call(capsys, "push", "-q", "web:v7", f"oci://{server.host}/web:7")[0] == 0
        assert call(capsys, "pull", "-q", f"oci://{server.host}/web:7", "-o", "back")[0] == 0
    call(capsys, "images", "export", "-q", "web", "-o", "out")
    assert read_files(Path("back")) == read_files(Path("out"))
