from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from volant.core.errors import InvalidInput
from volant.fledge.source.image_reference import ImageReference, parse_image


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "layout").mkdir()
    (tmp_path / "with:colon").mkdir()
    for name, members in {
        "oci.tar": ["oci-layout", "index.json"], "docker.tar": ["manifest.json"], "both.tar": ["manifest.json", "./index.json"],
    }.items():  # fmt: skip
        with tarfile.open(tmp_path / name, "w") as tar:
            for member in members:
                tar.addfile(tarfile.TarInfo(member), io.BytesIO())
    return tmp_path


@pytest.mark.parametrize(
    ("text", "place", "path", "tag", "name"),
    [
        ("oci:layout", "layout", "layout", "", ""),
        ("oci:layout:1.2", "layout", "layout", "1.2", ""),
        ("layout:1.2", "layout", "layout", "1.2", ""),
        ("./layout", "layout", "layout", "", ""),
        ("with:colon", "layout", "with:colon", "", ""),
        ("oci-archive:oci.tar:a", "archive", "oci.tar", "a", ""),
        ("oci.tar", "archive", "oci.tar", "", ""),
        ("docker.tar", "docker-archive", "docker.tar", "", ""),
        ("docker-archive:docker.tar", "docker-archive", "docker.tar", "", ""),
        ("both.tar", "archive", "both.tar", "", ""),
        ("docker-archive:both.tar", "docker-archive", "both.tar", "", ""),
        ("nginx:1.27", "anywhere", "", "", "nginx:1.27"),
        ("docker://nginx", "registry", "", "", "nginx"),
        ("oci://registry.example.org/web:1", "registry", "", "", "registry.example.org/web:1"),
        ("docker-daemon:web:1", "local-storage", "", "", "web:1"),
        ("containers-storage:web", "local-storage", "", "", "web"),
    ],
)
def test_what_it_names(base: Path, text: str, place: str, path: str, tag: str, name: str) -> None:
    found = parse_image(text, base)
    assert found == ImageReference(place, path=base / path if path else Path(), tag=tag, name=name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("oci:gone", "there is nothing at", "relative to the directory"),
        ("./gone", "there is nothing at", None),
        ("/gone:1", "there is nothing at", None),
        ("https://example.org/a", "no transport 'https'", "docker://"),
        ("dir:layout", "no transport 'dir'", None),
        ("oci:oci.tar", "is an OCI archive", "oci-archive:oci.tar"),
        ("oci-archive:layout", "is a directory", "oci:layout"),
        ("oci-archive:docker.tar", "archive of docker save", "docker-archive:docker.tar"),
    ],
)
def test_what_cannot_be_is_said_with_the_mend(base: Path, text: str, message: str, hint: str | None) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        parse_image(text, base)
    assert hint is None or hint in (caught.value.hint or "")
