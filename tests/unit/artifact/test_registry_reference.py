"""References as Docker reads them, and the settings file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.artifact.registry.documents import Descriptor, Platform
from volant.artifact.registry.platform import choose_platform, fits, parse_platform
from volant.artifact.registry.reference import parse_image_reference, parse_plugin_reference
from volant.artifact.registry.settings import (
    MirrorEndpoint,
    RegistrySettings,
    is_loopback_host,
    list_endpoints,
    read_registry_settings,
    split_host,
)
from volant.core.errors import InvalidInput, NotFound
from volant.core.ids import Digest

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("docker://me/web", "docker.io/me/web:latest"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"nginx:1@{DIGEST}", f"docker.io/library/nginx:1@{DIGEST}"),
        ("localhost/web", "localhost/web:latest"),
        ("registry.example.org/web", "registry.example.org/web:latest"),
        ("registry.example.org:5000/a/b__c/d-e:v_1.2-x", "registry.example.org:5000/a/b__c/d-e:v_1.2-x"),
        ("[::1]:5000/web:1", "[::1]:5000/web:1"),
        ("host:5000/web", "host:5000/web:latest"),
        ("Registry.Example.ORG/web", "registry.example.org/web:latest"),
        ("a/b/c:5000", "docker.io/a/b/c:5000"),
    ],
)
def test_references_are_read_as_docker_reads_them(text: str, canonical: str) -> None:
    assert str(parse_image_reference(text)) == canonical
    assert str(parse_image_reference(canonical)) == canonical


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "repository's name"),
        ("Nginx", "repository's name"),
        ("nginx:", "tag"),
        ("nginx:-x", "tag"),
        ("nginx:" + "a" * 129, "tag"),
        ("a//b", "repository's name"),
        ("a/../b", "repository's name"),
        ("host:99999/web", "HOST:PORT"),
        ("host:/web", "HOST:PORT"),
        ("exa mple.org/web", "HOST:PORT"),
        ("user@example.org/web", "HOST:PORT"),
        ("nginx@sha512:" + "a" * 128, "sha256 digest"),
        ("nginx@sha256:abc", "sha256 digest"),
        ("a" * 64, "id on one machine"),
        ("https://example.org/web", "'https'"),
        ("example.org/" + "a" * 250, "255"),
        ("nginx\n", "repository's name"),
    ],
)
def test_what_is_no_reference_is_refused_with_its_part_named(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        parse_image_reference(text)


def test_plugins_name_their_registry() -> None:
    assert str(parse_plugin_reference("oci://registry.example.org/web:1.0")) == "registry.example.org/web:1.0"
    assert parse_plugin_reference(f"oci://localhost:5000/a/b@{DIGEST}").selector == DIGEST
    for text in (
        "registry.example.org/web",
        "oci://web",
        "oci://me/web",
        "oci://",
        "oci:///web",
        "docker://registry.example.org/web",
    ):
        with pytest.raises(InvalidInput, match="reference"):
            parse_plugin_reference(text)


@given(st.text(max_size=40) | st.from_regex(r"[a-z.:/@\[\]-]{0,30}", fullmatch=True))
def test_any_text_is_a_reference_or_invalid_and_what_is_one_reads_back(text: str) -> None:
    for parse in (parse_image_reference, parse_plugin_reference):
        try:
            reference = parse(text)
        except InvalidInput:
            continue
        assert parse_image_reference(str(reference)) == reference
        assert ".." not in reference.repository and not reference.repository.startswith("/")


def test_hosts_are_split_and_known_as_loopback() -> None:
    assert split_host("[::1]:5000") == ("::1", 5000)
    assert split_host("example.org") == ("example.org", None)
    assert all(
        is_loopback_host(host) for host in ("127.0.0.1:5000", "127.1.2.3", "localhost", "localhost:80", "[::1]", "[::1]:1")
    )
    assert not any(is_loopback_host(host) for host in ("127.example.org", "localhost.example.org", "10.0.0.1", "128.0.0.1"))


def test_mirrors_come_before_the_registry_and_only_for_reading(tmp_path: Path) -> None:
    file = tmp_path / "registries.toml"
    file.write_text(
        'version = "1"\ninsecure = ["cache.example.org:5000"]\n'
        '[mirrors]\n"index.docker.io" = ["mirror.example.org", "cache.example.org:5000/hub"]\n'
    )
    settings = read_registry_settings(file)
    assert settings.mirrors == {
        "docker.io": (MirrorEndpoint("mirror.example.org"), MirrorEndpoint("cache.example.org:5000", "hub"))
    }
    found = list_endpoints(parse_image_reference("nginx"), settings)
    assert [(str(endpoint), endpoint.may_be_plain) for endpoint in found] == [
        ("mirror.example.org/library/nginx", False),
        ("cache.example.org:5000/hub/library/nginx", True),
        ("registry-1.docker.io/library/nginx", False),
    ]
    assert [e.host for e in list_endpoints(parse_image_reference("nginx"), settings, mirrored=False)] == ["registry-1.docker.io"]
    assert list_endpoints(parse_image_reference("localhost:5000/a"), RegistrySettings())[0].may_be_plain


@pytest.mark.parametrize(
    "text",
    [
        "nonsense", 'version = "2"', 'mirror = []', 'insecure = ["https://example.org"]', '[mirrors]\n"docker.io" = ["a b"]',
        '[mirrors]\n"docker.io" = ["mirror.example.org/UPPER"]', '[mirrors]\nplain = ["mirror.example.org"]',
        'insecure = ["x.org/y"]', "\xff",
    ],
)  # fmt: skip
def test_a_settings_file_that_is_wrong_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "registries.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidInput, match=r"registries\.toml"):
        read_registry_settings(file)


def test_platforms_have_many_names() -> None:
    assert str(parse_platform("x86_64")) == "linux/amd64"
    assert str(parse_platform("linux/aarch64")) == "linux/arm64"
    assert str(parse_platform("arm/v7")) == "linux/arm/v7"
    assert str(parse_platform("windows/amd64")) == "windows/amd64"
    for text in ("", "a/b/c/d", "linux/", "linux/am d"):
        with pytest.raises(InvalidInput):
            parse_platform(text)


def describe(platform: str | None) -> Descriptor:
    return Descriptor(digest=Digest(DIGEST), size=1, platform=parse_platform(platform) if platform else None)


def test_the_best_variant_that_the_processor_runs_is_chosen() -> None:
    arms = [describe(name) for name in ("linux/arm/v5", "linux/arm/v7", "linux/arm64/v8", "linux/arm/v6", "linux/amd64")]
    assert choose_platform(arms, parse_platform("linux/arm"), "x") == arms[1]
    assert choose_platform(arms, parse_platform("linux/arm/v6"), "x") == arms[3]
    assert choose_platform(arms, parse_platform("linux/arm64"), "x") == arms[2]
    levels = [describe("linux/amd64/v3"), describe("linux/amd64")]
    assert choose_platform(levels, parse_platform("amd64"), "x") == levels[1]
    assert choose_platform([describe(None)], parse_platform("amd64"), "x").platform is None
    assert not fits(Platform("amd64", "windows"), parse_platform("amd64"))
    with pytest.raises(NotFound) as refused:
        choose_platform([*arms, describe("unknown/unknown")], parse_platform("riscv64"), "x")
    assert refused.value.hint == "it has: linux/amd64, linux/arm/v5, linux/arm/v6, linux/arm/v7, linux/arm64/v8"
