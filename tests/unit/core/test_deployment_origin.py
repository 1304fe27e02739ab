"""The original's deployments: each field maps, or is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from volant.core.deployment import Deployment
from volant.core.deployment_origin import is_origin, modernise_deployment
from volant.core.errors import InvalidInput
from volant.core.resource import from_wire

WHOLE = {
    "name": "web",
    "desired_replicas": 3,
    "ready_replicas": 1,
    "created_at": "2025-01-01T00:00:00Z",
    "updated_at": "2025-01-01T00:00:00Z",
    "config": {
        "plugin": "nginx",
        "runtime": "nginx",
        "kernel_cmdline": "quiet",
        "kernel_override": "sha256:" + "ab" * 32,
        "resources": {"cpu_cores": 2, "memory_mb": 512},
        "env": {"MODE": "fast"},
        "labels": {"tier": "web"},
        "metadata": {"team": "shop"},
        "expose": [{"name": "http", "protocol": "tcp", "port": 80, "host_port": 8080, "mode": "bridged"}],
        "network": {"mode": "dhcp", "subnet": ""},
        "api": {},
        "manifest": None,
        "devices": {},
        "cloud_init": None,
        "initramfs": {},
        "rootfs": {},
    },
}


def test_every_field_has_its_place() -> None:
    assert is_origin(WHOLE)
    wanted = from_wire(Deployment, modernise_deployment(WHOLE))
    spec, vm = wanted.spec, wanted.spec.vm
    assert (wanted.name, spec.replicas, spec.vm_labels) == ("web", 3, {"tier": "web", "team": "shop"})
    assert (vm.plugin, vm.cpu_cores, vm.memory_mb, vm.kernel_cmdline) == ("nginx", 2, 512, "quiet")
    assert (vm.env, vm.network_mode, vm.kernel) == ({"MODE": "fast"}, "dhcp", "sha256:" + "ab" * 32)
    assert [(port.host_port, port.port) for port in spec.ports] == [(8080, 80)]


def test_the_runtime_is_the_plugin_where_that_is_left_out() -> None:
    assert modernise_deployment({"name": "a", "config": {"runtime": "nginx"}})["vm"]["plugin"] == "nginx"


def test_what_is_of_today_is_not_the_originals() -> None:
    assert not is_origin({"name": "web", "vm": {"plugin": "nginx"}}) and not is_origin([])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"config": None}, "config"),
        ({"config": {}}, "config.plugin"),
        ({"nothing": 1}, "nothing"),
        ({"replicas": 2}, "replicas"),
        *(
            ({"config": {"plugin": "nginx", name: value}}, f"config.{field}")
            for name, value, field in [
                ("manifest", {"name": "x"}, "manifest"),
                ("api", {"host": "x"}, "api"),
                ("devices", {"pci": ["x"]}, "devices"),
                ("cloud_init", {"user_data": {}}, "cloud_init"),
                ("initramfs", {"url": "x"}, "initramfs"),
                ("rootfs", {"url": "x"}, "rootfs"),
                ("runtime", "other", "runtime"),
                ("kernel_override", "/boot/vmlinuz", "kernel_override"),
                ("resources", {"disk": 1}, "resources.disk"),
                ("resources", [], "resources"),
                ("metadata", {"a": 1}, "metadata.a"),
                ("expose", {}, "expose"),
                ("expose", [{"port": 80}], "expose[0]"),
                ("expose", [{"port": 80, "host_port": 1, "protocol": "udp"}], "expose[0].protocol"),
                ("expose", [{"port": 80, "host_port": 1, "mode": "vsock"}], "expose[0].mode"),
                ("expose", [{"port": 80, "host_port": 1, "x": 1}], "expose[0].x"),
                ("network", {"subnet": "10.0.0.0/24"}, "network.subnet"),
                ("unknown", 1, "unknown"),
            ]
        ),
    ],
)
def test_what_is_not_taken_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        modernise_deployment({**WHOLE, **change})
    assert refused.value.field == field
