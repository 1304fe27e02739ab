"""Deployments as the first Volant wrote them, ``{name, replicas, config}``, brought into today's words before they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from volant.core.errors import InvalidInput

MARKS = frozenset({"config", "desired_replicas", "ready_replicas"})
"""What no deployment of today has."""

PASSED_OVER = frozenset({"ready_replicas", "created_at", "updated_at", "api", "kind"})
_MODES = {"": None, "bridged": "bridged", "bridge": "bridged", "vsock": "vsock", "dhcp": "dhcp"}


def is_origin(document: Any) -> bool:
    return isinstance(document, dict) and not MARKS.isdisjoint(document)


def modernise_deployment(document: dict[str, Any]) -> dict[str, Any]:
    """The flat object of today. What the original had and a deployment cannot have is refused by name.

    Raises:
        InvalidInput: a field that is not known, not of its type, or of no use here; its path is named.
    """
    made: dict[str, Any] = {"name": document.get("name")}
    for field, value in document.items():
        if field in PASSED_OVER or field in ("name", "config"):
            continue
        if field in ("replicas", "desired_replicas"):
            if made.setdefault("replicas", value) != value:
                raise InvalidInput("replicas and desired_replicas differ", field=field, hint="leave one of them out")
        elif field == "labels":
            made["labels"] = value
        else:
            raise InvalidInput(f"the original's deployments have no field {str(field)[:80]!r}", field=str(field)[:80])
    config = document.get("config")
    if not isinstance(config, dict):
        raise InvalidInput("config is one object", field="config", hint='for example {"plugin": "nginx"}')
    made.update(_read_config(config))
    return made


def _read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    vm: dict[str, Any] = {}
    made: dict[str, Any] = {"vm": vm}
    for field, value in config.items():
        where = f"config.{field}"
        if field in _REFUSED:
            if value not in (None, "", {}, []):
                raise InvalidInput(f"{field} of the original is not taken", field=where, hint=_REFUSED[field])
        elif field not in _READERS:
            raise InvalidInput(f"the original's config has no field {str(field)[:80]!r}", field=where[:80])
        elif value is not None:
            _READERS[field](value, where, vm, made)
    if not vm.get("plugin"):
        raise InvalidInput("config names no plugin", field="config.plugin", hint="volar plugins list shows those installed")
    runtime = config.get("runtime")
    if runtime and runtime != vm["plugin"]:
        raise InvalidInput(
            f"runtime is {str(runtime)[:80]!r} and plugin {str(vm['plugin'])[:80]!r}: a VM is made from one plugin",
            field="config.runtime",
            hint="leave runtime out",
        )
    return made


Reader = Callable[[Any, str, dict[str, Any], dict[str, Any]], None]


def _read_plugin(value: Any, where: str, vm: dict[str, Any], made: dict[str, Any]) -> None:
    vm["plugin"] = value


def _read_runtime(value: Any, where: str, vm: dict[str, Any], made: dict[str, Any]) -> None:
    # It names the plugin where that is left out, as it did.
    vm.setdefault("plugin", value)


def _read_cmdline(value: Any, where: str, vm: dict[str, Any], made: dict[str, Any]) -> None:
    vm["kernel_cmdline"] = value


def _read_kernel(value: Any, where: str, vm: dict[str, Any], made: dict[str, Any]) -> None:
    if value == "":
        return
    if not isinstance(value, str) or not value.startswith("sha256:"):
        raise InvalidInput(
            "volantd opens no path that a client names", field=where, hint="store the kernel and give its digest, sha256:…"
        )
    vm["kernel"] = value


def _read_resources(value: Any, where: str, vm: dict[str, Any], made: dict[str, Any]) -> None:
    for field, size in _object(value, where).items():
        if field not in ("cpu_cores", "memory_mb"):
            raise InvalidInput(f"the original's resources have no {str(field)[:80]!r}", field=f"{where}.{field}"[:80])
        vm[field] = size


def _read_env(value: Any, where: str, vm: dict[str, Any], made: dict[str, Any]) -> None:
    vm["env"] = _object(value, where)


def _read_labels(value: Any, where: str, vm: dict[str, Any], made: dict[str, Any]) -> None:
    labels = made.setdefault("vm_labels", {})
    for key, text in _object(value, where).items():
        if not isinstance(text, str):
            raise InvalidInput("a label's value is text", field=f"{where}.{key}"[:80])
        labels[key] = text


def _read_expose(value: Any, where: str, vm: dict[str, Any], made: dict[str, Any]) -> None:
    if not isinstance(value, list):
        raise InvalidInput("a list of ports is expected", field=where)
    ports = []
    for index, one in enumerate(value):
        at = f"{where}[{index}]"
        for field in _object(one, at):
            if field not in ("name", "protocol", "port", "host_port", "mode"):
                raise InvalidInput(f"a port of the original has no field {str(field)[:80]!r}", field=f"{at}.{field}"[:80])
        if one.get("protocol") not in (None, "", "tcp"):
            raise InvalidInput(f"only tcp is offered, not {str(one['protocol'])[:20]!r}", field=f"{at}.protocol")
        if one.get("mode") not in (None, "", "bridged", "bridge"):
            raise InvalidInput(
                f"a port is led to a bridged network card, not by {str(one['mode'])[:20]!r}",
                field=f"{at}.mode",
                hint="leave it out",
            )
        if not one.get("port") or not one.get("host_port"):
            raise InvalidInput("a port needs port and host_port", field=at)
        ports.append({"port": one["port"], "host_port": one["host_port"]})
    made["ports"] = ports


def _read_network(value: Any, where: str, vm: dict[str, Any], made: dict[str, Any]) -> None:
    for field, word in _object(value, where).items():
        if field == "mode" and isinstance(word, str) and word in _MODES:
            if _MODES[word] is not None:
                vm["network_mode"] = _MODES[word]
        elif word not in (None, "", False, {}):
            raise InvalidInput(
                f"{str(field)[:80]} of the original's network is not taken",
                field=f"{where}.{field}"[:80],
                hint="make a network, and name it: volar networks create",
            )


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput("an object is expected", field=where)
    return value


_READERS: dict[str, Reader] = {
    "plugin": _read_plugin,
    "runtime": _read_runtime,
    "kernel_cmdline": _read_cmdline,
    "kernel_override": _read_kernel,
    "resources": _read_resources,
    "env": _read_env,
    "labels": _read_labels,
    "metadata": _read_labels,
    "expose": _read_expose,
    "network": _read_network,
}
_REFUSED = {
    "manifest": "install it as a plugin: volar plugins install FILE",
    "api": "the health check of the plugin's manifest says where its API is",
    "devices": "the plugin's manifest asks for devices",
    "cloud_init": "the plugin's manifest holds it",
    "initramfs": "store it and give its digest as vm.initramfs, or put it into the plugin",
    "rootfs": "the plugin brings it",
}
"""What cannot be said of a deployment, and what to do instead; empty ones are passed over."""
