from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import InvalidInput
from volant.core.manifest import MANIFEST_MAX_BYTES, Manifest, read_manifest, split_base_url
from volant.core.signals import signal_number

DIGEST = "sha256:" + "0" * 64

# As the original's examples write one: no boot files, and fields that Volant only keeps.
ORIGINAL: dict[str, Any] = {
    "$schema": "https://example.org/plugin-manifest-v1.json",
    "schema_version": "1.0",
    "name": "nginx",
    "version": "1.0.0",
    "runtime": "nginx",
    "enabled": True,
    "image": "docker.io/library/nginx:alpine",
    "labels": {"tier": "web"},
    "resources": {"cpu_cores": 2, "memory_mb": 2048},
    "rootfs": {"url": "/var/lib/volant/nginx.img", "checksum": DIGEST, "format": "raw"},
    "workload": {
        "type": "http",
        "base_url": "http://127.0.0.1:80",
        "entrypoint": ["/docker-entrypoint.sh", "nginx", "-g", "daemon off;"],
        "env": {"NGINX_PORT": "80"},
    },
    "health_check": {"endpoint": "/", "timeout_ms": 10000},
    "actions": {"reload": {"method": "POST", "path": "/reload", "timeout_ms": 1000}},
    "network": {"mode": "bridged"},
}


def test_a_manifest_of_the_original_format_is_read() -> None:
    manifest = read_manifest(json.dumps(ORIGINAL).encode())
    assert manifest.resources.memory_mb == 2048
    assert manifest.workload.entrypoint[0] == "/docker-entrypoint.sh"
    assert manifest.boot is None


def test_what_is_written_is_read_back() -> None:
    manifest = read_manifest(json.dumps(ORIGINAL).encode())
    assert read_manifest(msgspec.json.encode(manifest)) == manifest


def test_arguments_are_kept_as_they_are() -> None:
    workload = {**ORIGINAL["workload"], "entrypoint": ["sh", "-c", "  spaces stay  ", ""]}
    manifest = read_manifest(json.dumps({**ORIGINAL, "workload": workload}).encode())
    assert manifest.workload.entrypoint == ("sh", "-c", "  spaces stay  ", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"initramfs": {"url": "x"}}, "either a rootfs or an initramfs"),
        ({"rootfs": {"url": ""}}, "url is empty"),
        ({"network": {"mode": "other"}}, "Invalid enum value"),
        ({"resources": {"cpu_cores": 0}}, ">= 1"),
        ({"resources": {"memory_mb": 1}}, ">= 32"),
        ({"version": "a b"}, "is not a version"),
        ({"workload": {"type": "http", "base_url": "ftp://x", "entrypoint": ["x"]}}, "not an http URL"),
        ({"workload": {"type": "http", "base_url": "http://x:99999", "entrypoint": ["x"]}}, "not a URL"),
        ({"workload": {"type": "exec", "entrypoint": ["x"], "env": {"A=": "b"}}}, "environment variable"),
        ({"workload": {"type": "exec", "entrypoint": ["x"], "workdir": "tmp"}}, "absolute path"),
    ],
)
def test_a_rule_that_is_broken_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_manifest(json.dumps({**ORIGINAL, **change}).encode())


def test_a_manifest_has_a_bound() -> None:
    with pytest.raises(InvalidInput, match="larger than"):
        read_manifest(b" " * (MANIFEST_MAX_BYTES + 1))


@given(
    st.binary(max_size=400) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_anything_else_is_invalid_input(content: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_manifest(content)


@given(st.sampled_from(sorted(ORIGINAL)), st.none() | st.integers() | st.text() | st.lists(st.integers()) | st.just({}))
def test_any_field_of_another_shape_is_read_or_refused(field: str, value: object) -> None:
    try:
        assert isinstance(read_manifest(json.dumps({**ORIGINAL, field: value}).encode()), Manifest)
    except InvalidInput as error:
        assert str(error)


@pytest.mark.parametrize(
    ("name", "number"), [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), ("SIGRTMIN", 34), ("SIGQUIT", 3)]
)
def test_signals_are_read_as_images_write_them(name: str, number: int) -> None:
    assert signal_number(name) == number


@pytest.mark.parametrize("name", ["SIGWHAT", "0", "65", "SIGRTMIN+31", "", "SIG"])
def test_other_signals_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        signal_number(name)


def test_a_base_url_gives_host_and_port() -> None:
    assert split_base_url("http://127.0.0.1:8080/x") == ("127.0.0.1", 8080)
    assert split_base_url("http://localhost") == ("localhost", 80)


def test_a_guest_without_an_agent_is_an_initramfs_and_asks_for_nothing_that_needs_one() -> None:
    media = {"url": "initramfs.cpio", "checksum": DIGEST}
    alone = {**{key: value for key, value in ORIGINAL.items() if key != "rootfs"}, "initramfs": media, "agent": "none"}
    assert read_manifest(json.dumps(alone).encode()).agent == "none"
    assert read_manifest(json.dumps(ORIGINAL).encode()).agent == "kestrel"
    for changes, field in (
        ({"rootfs": media, "initramfs": None}, "agent"),
        ({"start": {"pool": 1}}, "start.pool"),
        ({"lifecycle": {"auto_suspend": "5m"}}, "lifecycle.auto_suspend"),
        ({"agent": "mine"}, "agent"),
    ):
        with pytest.raises(InvalidInput) as refused:
            read_manifest(json.dumps({**alone, **changes}).encode())
        assert refused.value.field == field
