"""The configuration: defaults, then ``volant.toml``, then ``VOLANT_*``, then flags, as one frozen record."""

from __future__ import annotations

import ipaddress
import os
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from volant.core.errors import InvalidInput
from volant.core.ids import check_name
from volant.core.kernel_words import DEFAULT_ALLOW
from volant.core.trust import Policy

DEFAULT_FILE = Path("/etc/volant/volant.toml")
HOST_NAMESPACE = "host"
"""The value of ``network_namespace`` that means: make the networks where volantd itself runs."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting. The environment's name for ``data_dir`` is ``VOLANT_DATA_DIR``, the flag's ``--data-dir``, and so on."""

    data_dir: str = "/var/lib/volant"
    """What lasts: the registry, artifacts, disks, logs."""
    runtime_dir: str = "/run/volant"
    """Sockets; may be lost with a reboot."""
    listen: str = ""
    """Where the API answers: ``unix:PATH``. Empty means ``volantd.sock`` in the runtime directory."""
    listen_tcp: str = ""
    """A loopback address and a port where the API answers as well, to who has the token: ``127.0.0.1:7777``. Empty is nowhere."""
    network_namespace: str = HOST_NAMESPACE
    """The network namespace that holds the bridge and the taps: a name that ``ip netns`` knows, or ``host``."""
    node: str = ""
    """This host's name in the registry; empty means its host name."""
    hypervisor: Literal["auto", "qemu", "cloud-hypervisor", "simulated"] = "auto"
    """What VMs run under that do not ask for one. ``auto``: Cloud Hypervisor where it is installed and KVM works, else QEMU."""
    cloud_hypervisor_binary: str = ""
    """Where Cloud Hypervisor lies; empty looks for it in the PATH."""
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    """``auto`` proves KVM by a boot and falls back to emulation."""
    subnet: str = "192.168.127.0/24"
    bridge: str = "vbr0"
    template_disk_mb: Annotated[int, msgspec.Meta(ge=0)] = 10_240
    """MiB that templates may take on the disk; those not used for longest go first, those in use never."""
    trust_policy: Policy = "off"
    """Whether plugins must be signed: ``warn`` says which are not by a trusted key, ``enforce`` starts nothing from them."""
    trust_keys: str = "/etc/volant/trust.d"
    """The directory of the trusted keys: ``PUBLISHER.pub``, or ``PUBLISHER/*.pub``. Read at every decision."""
    registries: str = ""
    """A file that says by which ways registries are reached, as fledge's: mirrors, and hosts without TLS. Empty is no file."""
    plugin_download_allow: str = ""
    """From where plugins may be fetched beside the internet: ``private``, ``loopback``, hosts, networks; apart by spaces. Hosts
    that the file of registries names are allowed. Link-local addresses never are."""
    cgroup: str = ""
    """Where VMs' control groups are made, as a path in each hierarchy. Empty is what the service manager delegated to volantd,
    else the top; ``none`` makes no groups, and nothing limits what VMs take of the host."""
    kernel_cmdline_allow: str = " ".join(DEFAULT_ALLOW)
    """Words that a VM may add to its kernel's command line; one that ends in ``=`` or ``.`` allows whatever begins so."""
    stop_vms_on_exit: bool = False
    """End all VMs in an orderly way when volantd ends; otherwise they go on without it."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "console", "json"] = "auto"
    """``auto`` is ``console`` on a terminal and ``json`` elsewhere."""

    @property
    def socket_path(self) -> Path:
        """The API's UNIX socket. Raises InvalidInput when ``listen`` is something else."""
        return listen_path(self.listen) if self.listen else Path(self.runtime_dir) / "volantd.sock"

    @property
    def tcp_address(self) -> tuple[str, int] | None:
        """Host and port of ``listen_tcp``. Raises InvalidInput when that is no loopback address."""
        return read_loopback(self.listen_tcp) if self.listen_tcp else None

    @property
    def node_name(self) -> str:
        return self.node or _node_name_of(socket.gethostname())

    @property
    def namespace(self) -> str | None:
        return None if self.network_namespace == HOST_NAMESPACE else self.network_namespace


def listen_path(listen: str) -> Path:
    """The path in ``unix:PATH`` or ``unix:///PATH``. Raises InvalidInput."""
    scheme, _, rest = listen.partition(":")
    path = rest.removeprefix("//")
    if scheme != "unix" or not path:
        raise InvalidInput(f"cannot listen on {listen!r}", field="listen", hint="write unix:/run/volant/volantd.sock")
    return Path(path).absolute()


def read_loopback(text: str) -> tuple[str, int]:
    """``(host, port)`` of ``127.0.0.1:7777`` or ``[::1]:7777``. Raises InvalidInput for anything that others can reach."""
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        is_loopback = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(
            f"cannot listen on {text[:80]!r}: without TLS only this host may connect",
            field="listen_tcp",
            hint="write 127.0.0.1:7777; from elsewhere use an SSH tunnel",
        )
    return "127.0.0.1" if host == "localhost" else host, int(port)


def load_config(flags: Mapping[str, Any], environment: Mapping[str, str], file: Path | None = None) -> Config:
    """Gather the settings. ``flags`` holds only what was given; ``file`` must exist when it is named.

    Raises:
        InvalidInput: a setting is unknown or cannot be right; the message names where it came from.
    """
    values: dict[str, Any] = {}
    values.update(_read_file(file))
    fields = {field.name: field for field in msgspec.structs.fields(Config)}
    for name, field in fields.items():
        text = environment.get("VOLANT_" + name.upper())
        if text is not None:
            values[name] = _parse_text(text, field.type, "VOLANT_" + name.upper())
    values.update(flags)
    try:
        config = msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"configuration: {error}") from error
    return _check(config)


def _check(config: Config) -> Config:
    """``config`` with every path absolute, as seen from where volantd was started."""
    if config.node:
        check_name(config.node, "node")
    _ = config.socket_path, config.tcp_address
    if config.cgroup and ".." in config.cgroup.split("/"):
        raise InvalidInput(f"{config.cgroup!r} is no control group", field="cgroup", hint="write a path, or none")
    named = ("data_dir", "runtime_dir", "trust_keys", *(("registries",) if config.registries else ()))
    places = {name: str(Path(getattr(config, name)).absolute()) for name in named}
    return msgspec.structs.replace(config, **places)


def _read_file(file: Path | None) -> dict[str, Any]:
    path = DEFAULT_FILE if file is None else file
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError as error:
        if file is None:
            return {}
        raise InvalidInput(f"there is no {file}") from error
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path}: {error}") from error


def _parse_text(text: str, type_: object, name: str) -> object:
    if type_ is bool:
        return _parse_flag(text, name)
    if type_ is not str and text.isdecimal():
        return int(text)
    return text


def _parse_flag(text: str, name: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise InvalidInput(f"{name} is {text!r}", hint="write true or false")


def _node_name_of(host_name: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c == "-") else "-" for c in host_name.split(".")[0].lower()).strip("-")
    return kept[:63].strip("-") or "node"


def environment() -> Mapping[str, str]:
    """The process's environment, read in one place."""
    return os.environ
