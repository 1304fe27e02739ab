from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from volant.core.errors import InvalidInput
from volant.fledge.debian.apt import Package
from volant.fledge.debian.lock import LockedPackage
from volant.fledge.papers.provenance import (
    BUILD_TYPE,
    BUILDER_ID,
    Build,
    Dependency,
    depend_on_debs,
    depend_on_file,
    depend_on_image,
    depend_on_kernel,
    write_provenance,
)
from volant.fledge.recipe.record import Recipe, SourceSection

A, B, C = "a" * 64, "b" * 64, "c" * 64
KERNEL = Package(name="linux-image-cloud-amd64", version="6.1.76-1+b1", file="linux-image_6.1.76-1+b1_amd64.deb", sha256=C)
RECIPE = Recipe(
    version="1",
    strategy="oci_rootfs",
    source=SourceSection(dockerfile="Dockerfile", build_args={"V": "1"}, secrets={"token": "/run/secrets/token"}),
)


def make_build(**more: Any) -> Build:
    given = {"outputs": {"rootfs.erofs": A, "manifest.json": B}, "recipe": RECIPE, "fledge_version": "0.1.0", **more}
    return Build(**given)


def is_uri(value: object) -> bool:
    return isinstance(value, str) and bool(urlsplit(value).scheme)


def check_descriptor(descriptor: dict[str, Any]) -> None:
    """in-toto attestation v1, ResourceDescriptor and DigestSet."""
    assert set(descriptor) <= {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}
    assert descriptor.get("uri") or descriptor.get("digest") or descriptor.get("content")
    assert "uri" not in descriptor or is_uri(descriptor["uri"])
    for algorithm, value in descriptor.get("digest", {}).items():
        assert algorithm == "sha256"
        assert re.fullmatch("[0-9a-f]{64}", value)


def read(content: bytes) -> dict[str, Any]:
    """The statement, after a look at all that in-toto Statement v1 and SLSA provenance v1 call required or fix the shape of."""
    statement: dict[str, Any] = json.loads(content)
    assert set(statement) == {"_type", "subject", "predicateType", "predicate"}
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"]
    for subject in statement["subject"]:
        check_descriptor(subject)
        assert subject["digest"]
    names = [subject["name"] for subject in statement["subject"]]
    assert len(set(names)) == len(names)

    predicate = statement["predicate"]
    assert set(predicate) == {"buildDefinition", "runDetails"}
    definition, details = predicate["buildDefinition"], predicate["runDetails"]
    assert set(definition) <= {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"}
    assert is_uri(definition["buildType"])
    assert isinstance(definition["externalParameters"], dict)
    assert isinstance(definition["internalParameters"], dict)
    # "The same field name SHOULD NOT be used for both."
    assert not set(definition["externalParameters"]) & set(definition["internalParameters"])
    assert set(details) <= {"builder", "metadata", "byproducts"}
    assert set(details["builder"]) <= {"id", "version", "builderDependencies"}
    assert is_uri(details["builder"]["id"])
    assert all(isinstance(value, str) for value in details["builder"]["version"].values())
    for descriptor in (*definition["resolvedDependencies"], *details["byproducts"]):
        check_descriptor(descriptor)
    return statement


def test_the_shape_that_the_specifications_ask_for() -> None:
    statement = read(
        write_provenance(
            make_build(
                dependencies=(
                    depend_on_kernel(KERNEL),
                    *depend_on_image("registry.example.org/web:1", f"sha256:{A}", [f"sha256:{B}"]),
                ),
                options={"platform": "linux/amd64", "sourceDateEpoch": 1704067200},
                tools={"mkfs": "mkfs.erofs 1.5"},
                byproducts={"sbom.spdx.json": C},
            )
        )
    )
    assert statement["subject"] == [
        {"name": "manifest.json", "digest": {"sha256": B}},
        {"name": "rootfs.erofs", "digest": {"sha256": A}},
    ]
    definition, details = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
    assert (definition["buildType"], details["builder"]["id"]) == (BUILD_TYPE, BUILDER_ID)
    assert definition["externalParameters"]["options"] == {"platform": "linux/amd64", "sourceDateEpoch": 1704067200}
    assert definition["internalParameters"] == {"tools": {"mkfs": "mkfs.erofs 1.5"}}
    assert details["builder"]["version"] == {"fledge": "0.1.0"}
    assert details["byproducts"] == [{"name": "sbom.spdx.json", "digest": {"sha256": C}}]
    assert "metadata" not in details  # it would say when, and no two builds were the same


def test_of_secrets_only_the_ids_are_told() -> None:
    content = write_provenance(make_build(secret_ids=("pip", "token")))
    recipe = read(content)["predicate"]["buildDefinition"]["externalParameters"]["recipe"]
    assert recipe["source"]["secrets"] == ["pip", "token"]
    assert recipe["source"]["build_args"] == {"V": "1"}
    assert "workload" not in recipe  # nothing is said of it
    assert b"/run/secrets" not in content


def test_passwords_in_urls_are_left_out() -> None:
    recipe = msgspec.structs.replace(
        RECIPE, source=SourceSection(packages=("nginx",), mirror="http://me:secret@deb.example.org/debian")
    )
    content = write_provenance(
        make_build(
            recipe=recipe,
            options={"proxy": ["https://me:secret@proxy.example.org"], "nested": {"a": "x http://me:secret@b.example.org/@c"}},
            dependencies=depend_on_image("https://me:secret@registry.example.org/web", f"sha256:{A}"),
        )
    )
    assert b"secret@" not in content
    assert (
        read(content)["predicate"]["buildDefinition"]["externalParameters"]["recipe"]["source"]["mirror"]
        == "http://deb.example.org/debian"
    )
    assert b"x http://b.example.org/@c" in content


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("registry.example.org:5000/team/web:1.2", "web"),
        ("docker://registry.example.org/web@sha256:" + A, "web"),
        ("oci:web:1", "web"),
        ("../images/web/", "web"),
        ("web", "web"),
        ("", "image"),
    ],
)
def test_images_are_named_after_their_repository(reference: str, name: str) -> None:
    (image,) = depend_on_image(reference, f"sha256:{A}")
    assert image.uri == f"pkg:oci/{name}@sha256:{A}"


def test_where_the_parts_came_from() -> None:
    deb = LockedPackage(name="libstdc++6", version="1:12.2.0-14~x", architecture="amd64", sha256=B, size=1, file="pool/l.deb")
    dependencies = (
        *depend_on_image("web.tar", f"sha256:{A}", [f"sha256:{B}"]),
        *depend_on_debs([deb]),
        depend_on_kernel(KERNEL),
        depend_on_file("mapping:/etc/web.conf", C),
    )
    resolved = read(write_provenance(make_build(dependencies=dependencies)))["predicate"]["buildDefinition"][
        "resolvedDependencies"
    ]
    assert {item["name"]: (item.get("uri"), item["digest"]["sha256"]) for item in resolved} == {
        "web.tar": (f"pkg:oci/web.tar@sha256:{A}", A),
        "layer": (None, B),
        "libstdc++6:amd64": ("pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14~x?arch=amd64", B),
        "linux-image_6.1.76-1+b1_amd64.deb": ("pkg:deb/debian/linux-image-cloud-amd64@6.1.76-1%2Bb1", C),
        "mapping:/etc/web.conf": (None, C),
    }


def test_the_same_build_gives_the_same_bytes_in_any_order() -> None:
    dependencies = (depend_on_kernel(KERNEL), depend_on_file("x", A), depend_on_file("x", A))
    one = write_provenance(make_build(dependencies=dependencies))
    two = write_provenance(make_build(dependencies=dependencies[::-1], outputs={"manifest.json": B, "rootfs.erofs": A}))
    assert one == two
    assert write_provenance(make_build(dependencies=dependencies[:1])) != one


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"outputs": {}}, "something that was built"),
        ({"outputs": {"x": "A" * 64}}, "no SHA-256"),
        ({"byproducts": {"x": "sha256:" + A}}, "no SHA-256"),
        ({"dependencies": (Dependency(name="x", sha256="12"),)}, "no SHA-256"),
        ({"dependencies": (Dependency(name="x"),)}, "neither a URI nor a digest"),
    ],
)
def test_what_would_prove_nothing_is_refused(more: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        write_provenance(make_build(**more))


@pytest.mark.parametrize("digest", ["sha512:" + A * 2, A, "sha256:" + A[1:], ""])
def test_digests_of_images_are_checked(digest: str) -> None:
    with pytest.raises(InvalidInput, match="no SHA-256"):
        depend_on_image("web", digest)
