"""The configuration document (docs/guest-protocol.md, section 5): what a guest is told, as one canonical text."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from volant.core.errors import InvalidInput
from volant.core.ids import Digest
from volant.guest.breach import Breach
from volant.guest.message import decode_body

Text = Annotated[str, Meta(pattern=r"^[^\x00]*\Z")]
Word = Annotated[str, Meta(pattern=r"^[^\x00]+\Z")]
HostName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9.-]{1,64}\Z")]
Mac = Annotated[str, Meta(pattern=r"^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\Z")]
Milliseconds = Annotated[int, Meta(ge=1, le=3_600_000)]
Threshold = Annotated[int, Meta(ge=1, le=1000)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
RequestTarget = Annotated[str, Meta(pattern=r"^/[!-~]*\Z", max_length=1024)]
Method = Literal["GET", "POST", "PUT", "HEAD"]
ShortArgv = Annotated[tuple[Text, ...], Meta(min_length=1, max_length=256)]
_ADDRESS_WITH_PREFIX = re.compile(r"([0-9.]+)/([0-9]|[12][0-9]|3[0-2])")


class Interface(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``address`` is IPv4 with its prefix length, such as ``192.168.127.2/24``; ``mtu`` by default the device's own.

    ``device_mac`` is by what the guest finds the device that does not have ``mac`` yet, as in a clone.
    """

    mac: Mac
    device_mac: Mac | msgspec.UnsetType = msgspec.UNSET
    name: Annotated[str, Meta(pattern=r"^(?!(lo|\.\.?)\Z)[^/\s\x00:]{1,15}\Z")]
    address: str = ""
    gateway: str = ""
    mtu: Annotated[int, Meta(ge=68, le=65_535)] | msgspec.UnsetType = msgspec.UNSET
    dhcp: bool = False
    """The guest asks the network for address and gateway."""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """``hosts`` maps an address to names, for the guest's ``/etc/hosts``."""

    interfaces: Annotated[tuple[Interface, ...], Meta(max_length=8)] = ()
    nameservers: Annotated[tuple[str, ...], Meta(max_length=8)] = ()
    hosts: dict[str, tuple[str, ...]] = {}


class Root(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What holds the writable layer; ``disk`` is the serial of the block device for ``writable`` = ``disk``."""

    writable: Literal["disk", "memory", "none"]
    disk: str = ""


class Mount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A further disk, by its serial, and where in the root it is mounted; without ``filesystem`` the guest finds out which."""

    disk: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,20}\Z")]
    path: Annotated[str, Meta(pattern=r"^/[^\x00]*\Z", max_length=255)]
    readonly: bool = False
    filesystem: Annotated[str, Meta(pattern=r"^[A-Za-z0-9]{0,15}\Z")] = ""


class Restart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``max_restarts`` in a row end the run as failed; 0 is no limit."""

    policy: Literal["always", "on-failure", "never"] = "always"
    initial_backoff_ms: Milliseconds = 500
    max_backoff_ms: Milliseconds = 30_000
    reset_after_ms: Milliseconds = 60_000
    max_restarts: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class HttpHealth(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="http"):
    """``host`` is an IPv4 address inside the guest."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65_535)]
    path: Annotated[str, Meta(pattern=r"^/[!-~]*\Z")] = "/"
    interval_ms: Milliseconds = 2_000
    timeout_ms: Milliseconds = 1_000
    start_interval_ms: Milliseconds = 50
    unhealthy_threshold: Annotated[int, Meta(ge=1)] = 3


class _Probe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """``start_interval_ms``: how often readiness is asked until it succeeds for the first time; by default as ever."""

    initial_delay_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 0
    interval_ms: Milliseconds = 5_000
    timeout_ms: Milliseconds = 1_000
    start_interval_ms: Milliseconds | msgspec.UnsetType = msgspec.UNSET
    success_threshold: Threshold = 1
    failure_threshold: Threshold = 3


class HttpProbe(_Probe, frozen=True, kw_only=True, tag="http"):
    """``host`` is an IPv4 address inside the guest, here and below."""

    host: str = "127.0.0.1"
    port: Port
    path: RequestTarget = "/"
    method: Method = "GET"


class TcpProbe(_Probe, frozen=True, kw_only=True, tag="tcp"):
    host: str = "127.0.0.1"
    port: Port


class ExecProbe(_Probe, frozen=True, kw_only=True, tag="exec"):
    argv: ShortArgv


Probe = HttpProbe | TcpProbe | ExecProbe


class Probes(msgspec.Struct, frozen=True, kw_only=True):
    startup: Probe | msgspec.UnsetType = msgspec.UNSET
    readiness: Probe | msgspec.UnsetType = msgspec.UNSET
    liveness: Probe | msgspec.UnsetType = msgspec.UNSET


class HttpHook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="http"):
    host: str = "127.0.0.1"
    port: Port
    path: RequestTarget = "/"
    method: Method = "GET"
    timeout_ms: Milliseconds = 10_000


class ExecHook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="exec"):
    argv: ShortArgv
    timeout_ms: Milliseconds = 10_000


Hook = HttpHook | ExecHook


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    post_start: Hook | msgspec.UnsetType = msgspec.UNSET
    pre_stop: Hook | msgspec.UnsetType = msgspec.UNSET


class Ulimit(msgspec.Struct, frozen=True, kw_only=True):
    """-1 is none."""

    soft: Annotated[int, Meta(ge=-1, le=2**63 - 1)]
    hard: Annotated[int, Meta(ge=-1, le=2**63 - 1)]


class Ulimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """By the names of setrlimit(2)."""

    as_: Ulimit | msgspec.UnsetType = msgspec.field(name="as", default=msgspec.UNSET)
    core: Ulimit | msgspec.UnsetType = msgspec.UNSET
    cpu: Ulimit | msgspec.UnsetType = msgspec.UNSET
    data: Ulimit | msgspec.UnsetType = msgspec.UNSET
    fsize: Ulimit | msgspec.UnsetType = msgspec.UNSET
    locks: Ulimit | msgspec.UnsetType = msgspec.UNSET
    memlock: Ulimit | msgspec.UnsetType = msgspec.UNSET
    msgqueue: Ulimit | msgspec.UnsetType = msgspec.UNSET
    nice: Ulimit | msgspec.UnsetType = msgspec.UNSET
    nofile: Ulimit | msgspec.UnsetType = msgspec.UNSET
    nproc: Ulimit | msgspec.UnsetType = msgspec.UNSET
    rss: Ulimit | msgspec.UnsetType = msgspec.UNSET
    rtprio: Ulimit | msgspec.UnsetType = msgspec.UNSET
    rttime: Ulimit | msgspec.UnsetType = msgspec.UNSET
    sigpending: Ulimit | msgspec.UnsetType = msgspec.UNSET
    stack: Ulimit | msgspec.UnsetType = msgspec.UNSET


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """``user`` is ``name``, ``uid``, ``name:group`` or ``uid:gid``. Without ``health`` and ``probes`` it counts as healthy while
    it runs. ``health`` is a readiness probe as agents without the capability ``probes`` know it; others look at ``probes`` first.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")] = "main"
    argv: Annotated[tuple[Text, ...], Meta(min_length=1)]
    env: dict[str, Text] = {}
    user: Word = "0:0"
    workdir: Annotated[str, Meta(pattern=r"^/[^\x00]*\Z")] = "/"
    stop_signal: Annotated[int, Meta(ge=1, le=64)] = 15
    stop_grace_ms: Milliseconds | msgspec.UnsetType = msgspec.UNSET
    """What it gets between stop signal and end when it fails a probe."""
    restart: Restart = Restart()
    health: HttpHealth | msgspec.UnsetType = msgspec.UNSET
    tty: bool | msgspec.UnsetType = msgspec.UNSET
    stdin: bool | msgspec.UnsetType = msgspec.UNSET
    ulimits: Ulimits | msgspec.UnsetType = msgspec.UNSET
    probes: Probes | msgspec.UnsetType = msgspec.UNSET
    hooks: Hooks | msgspec.UnsetType = msgspec.UNSET


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """``channel_secret`` has 64 hexadecimal digits, ``entropy`` 128, ``machine_id`` 32."""

    version: Literal[1] = 1
    channel_secret: Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{64}\Z")]
    entropy: Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{128}\Z")]
    unix_ns: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    hostname: HostName
    machine_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    network: Network = Network()
    root: Root
    mounts: Annotated[tuple[Mount, ...], Meta(max_length=16)] | msgspec.UnsetType = msgspec.UNSET
    workloads: Annotated[tuple[Workload, ...], Meta(min_length=1, max_length=1)]


def encode_document(document: Document) -> bytes:
    """The canonical text: names sorted, nothing between tokens; equal documents have equal bytes.

    Raises:
        InvalidInput: a member is outside what the specification allows; ``field`` names it.
    """
    content = msgspec.json.encode(document, order="sorted")
    decode_document(content)
    return content


def digest_document(content: bytes) -> Digest:
    """What the guest reports as ``config_digest`` for the document with these bytes."""
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")


def decode_document(content: bytes) -> Document:
    """The document that ``content`` is, judged as the guest judges it.

    Raises:
        InvalidInput: ``field`` names the member at fault, such as ``workloads[0].argv``; empty when it is no document.
    """
    try:
        raw = decode_body(content)
        if "version" not in raw:
            raise InvalidInput("version is missing from the configuration document", field="version")
        document = msgspec.convert(raw, Document)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `")
        field = where.rstrip("`").removeprefix("$").removeprefix(".").removesuffix("[...]")
        missing = re.match(r"Object missing required field `(\w+)`", what)
        if missing:
            field = f"{field}.{missing.group(1)}".removeprefix(".")
        field = re.sub(r"(\.argv)\[\d+\]$", r"\1", field)
        raise InvalidInput(f"{field or 'the configuration document'}: {what}", field=field) from error
    except Breach as error:
        raise InvalidInput("the configuration document is no JSON object", field="") from error
    _check_network(document.network)
    _check_root(document.root)
    for number, mount in enumerate(() if document.mounts is msgspec.UNSET else document.mounts):
        is_place = mount.path != "/" and ".." not in mount.path.split("/")
        _check(is_place, f"mounts[{number}].path", "an absolute path without .. and not the root")
    _check_workload(document.workloads[0])
    return document


def _check_network(network: Network) -> None:
    for number, interface in enumerate(network.interfaces):
        at = f"network.interfaces[{number}]"
        if interface.address:
            match = _ADDRESS_WITH_PREFIX.fullmatch(interface.address)
            _check(match is not None and _is_ipv4(match.group(1)), f"{at}.address", "an IPv4 address and prefix length")
        _check(not interface.gateway or _is_ipv4(interface.gateway), f"{at}.gateway", "an IPv4 address")
        _check(not (interface.dhcp and (interface.address or interface.gateway)), f"{at}.dhcp", "alone: it has an address too")
    for number, server in enumerate(network.nameservers):
        _check(_is_address(server), f"network.nameservers[{number}]", "an address")
    for address, names in network.hosts.items():
        _check(_is_address(address), "network.hosts", "a map from addresses")
        _check(all(re.fullmatch(r"[A-Za-z0-9._-]{1,253}", name) for name in names), "network.hosts", "a map to host names")


def _check_root(root: Root) -> None:
    is_serial = re.fullmatch(r"[A-Za-z0-9._-]{1,20}", root.disk) is not None
    _check(root.writable != "disk" or is_serial, "root.disk", "a serial of 1 to 20 letters and digits")


def _check_workload(workload: Workload) -> None:
    _check(workload.argv[0] != "", "workloads[0].argv", "a program and its arguments")
    _check(all(re.fullmatch(r"[^=\x00]+", name) for name in workload.env), "workloads[0].env", "a map from names without =")
    if isinstance(workload.health, HttpHealth):
        _check(_is_ipv4(workload.health.host), "workloads[0].health.host", "an IPv4 address")
    for part, asked in (("probes", workload.probes), ("hooks", workload.hooks)):
        for name in () if asked is msgspec.UNSET else asked.__struct_fields__:
            _check_question(f"workloads[0].{part}.{name}", getattr(asked, name))
    for each in () if workload.ulimits is msgspec.UNSET else msgspec.structs.fields(Ulimits):
        limit = getattr(workload.ulimits, each.name)
        is_above = limit is not msgspec.UNSET and limit.hard >= 0 and not 0 <= limit.soft <= limit.hard
        _check(not is_above, f"workloads[0].ulimits.{each.encode_name}.soft", "at most the hard limit")


def _check_question(field: str, question: Probe | Hook | msgspec.UnsetType) -> None:
    if isinstance(question, HttpProbe | TcpProbe | HttpHook):
        _check(_is_ipv4(question.host), f"{field}.host", "an IPv4 address")
    elif isinstance(question, ExecProbe | ExecHook):
        _check(question.argv[0] != "", f"{field}.argv", "a program and its arguments")


def _check(holds: bool, field: str, wanted: str) -> None:
    if not holds:
        raise InvalidInput(f"{field} is not {wanted}", field=field)


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text
