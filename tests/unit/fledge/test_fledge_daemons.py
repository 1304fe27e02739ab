"""Programs of the same names stand in for Docker and podman: each writes down what it is asked, and answers from a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from volant.core.errors import DiskFull, HostError, InvalidInput
from volant.fledge.cache import Cache
from volant.fledge.source.daemons import LocalImage, export_local_image, find_local_image
from volant.fledge.source.oci import read_image

from .docker_archives import make_archive, make_image_members, make_small_layer

pytestmark = pytest.mark.spawns

IMAGE_ID = "1f" * 32

FAKE = """\
#!/bin/sh
here=$(dirname "$0")
for word in "$0" "$@"; do printf '%s ' "${word##*/}"; done >> "$here/asked"
echo "host=$DOCKER_HOST" >> "$here/asked"
case "$1" in
image) [ -e "$0.image" ] || { echo "Error: No such image" >&2; exit 1; }; cat "$0.image" ;;
save) [ -e "$0.refuses" ] && { cat "$0.refuses" >&2; exit 1; }; cp "$here/saved.tar" "$3" ;;
esac
"""


class Host:
    def __init__(self, programs: Path) -> None:
        self.programs = programs

    def install(self, name: str, answer: str | None = None) -> None:
        """A program that has one image, whose id and platform it prints, or none."""
        (self.programs / name).write_text(FAKE)
        (self.programs / name).chmod(0o755)
        if answer is not None:
            (self.programs / f"{name}.image").write_text(answer)

    @property
    def asked(self) -> list[str]:
        return (self.programs / "asked").read_text().splitlines()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr("volant.run.SYSTEM_PATH", "/usr/bin:/bin")
    monkeypatch.setenv("DOCKER_HOST", "unix:///elsewhere.sock")
    return Host(programs)


@pytest.fixture
async def cache(tmp_path: Path) -> Cache:
    cache = Cache(tmp_path / "cache")
    await cache.open()
    return cache


async def test_docker_is_asked_first_and_where_the_user_says(host: Host) -> None:
    host.install("docker", f"sha256:{IMAGE_ID} linux/amd64\n")
    host.install("podman", f"{'2' * 64} linux/amd64\n")

    assert await find_local_image("web:v1") == LocalImage("docker", "web:v1", f"sha256:{IMAGE_ID}")
    assert len(host.asked) == 1
    assert host.asked[0].startswith("docker image inspect --format ")
    assert host.asked[0].endswith(" v1 host=unix:///elsewhere.sock") or " web:v1 " in host.asked[0]


async def test_podman_is_asked_when_docker_has_no_such_image(host: Host) -> None:
    host.install("docker")
    host.install("podman", f"{IMAGE_ID} linux/amd64\n")

    assert await find_local_image("web:v1") == LocalImage("podman", "web:v1", f"sha256:{IMAGE_ID}")


@pytest.mark.parametrize("installed", [(), ("docker", "podman")])
async def test_nobody_has_it(host: Host, installed: tuple[str, ...]) -> None:
    for name in installed:
        host.install(name)

    assert await find_local_image("web:v1") is None


@pytest.mark.parametrize("answer", [f"sha256:{IMAGE_ID} linux/arm64\n", "", "nonsense\n"])
async def test_an_image_for_another_platform_or_a_strange_answer_is_passed_over(host: Host, answer: str) -> None:
    host.install("docker", answer)

    assert await find_local_image("web:v1", "linux/amd64") is None


@pytest.mark.parametrize("reference", ["", "-v", "a b", "a;b", "x" * 600])
async def test_what_is_no_name_is_never_asked_for(host: Host, reference: str) -> None:
    host.install("docker", f"sha256:{IMAGE_ID} linux/amd64\n")

    with pytest.raises(InvalidInput, match="no name of an image"):
        await find_local_image(reference)

    assert not (host.programs / "asked").exists()


async def test_an_image_is_taken_out_by_its_id(host: Host, cache: Cache, tmp_path: Path) -> None:
    host.install("docker", f"sha256:{IMAGE_ID} linux/amd64\n")
    members, said = make_image_members([make_small_layer()], None)
    (host.programs / "saved.tar").write_bytes(make_archive(members, [said]))
    layout = tmp_path / "layout"
    layout.mkdir()

    async with cache.workspace() as workspace:
        await export_local_image(LocalImage("docker", "web:v1", f"sha256:{IMAGE_ID}"), layout, workspace)
        assert list(workspace.path.iterdir()) == []

    assert read_image(layout, "", "linux/amd64").layers[0].path.read_bytes() == make_small_layer()
    assert host.asked == [f"docker save --output saved.tar sha256:{IMAGE_ID} host={os.environ['DOCKER_HOST']}"]


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [("write /x: no space left on device", DiskFull, "no room"), ("Error: storage is broken", HostError, "storage is broken")],
)
async def test_what_goes_wrong_is_said(
    host: Host, cache: Cache, tmp_path: Path, said: str, kind: type[Exception], words: str
) -> None:
    host.install("podman", f"{IMAGE_ID} linux/amd64\n")
    (host.programs / "podman.refuses").write_text(said)

    async with cache.workspace() as workspace:
        with pytest.raises(kind, match=words):
            await export_local_image(LocalImage("podman", "web:v1", f"sha256:{IMAGE_ID}"), tmp_path, workspace)
