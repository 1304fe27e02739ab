"""By which ways registries are reached: mirrors, and who may be spoken to without TLS."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path

import msgspec

from volant.artifact.registry.allowance import Allowance
from volant.artifact.registry.reference import DEFAULT_REGISTRY, ImageReference, parse_image_reference
from volant.core.errors import InvalidInput

SETTINGS_VARIABLE = "FLEDGE_REGISTRIES"
SETTINGS_MAX_BYTES = 1024 * 1024

_DOCKER_API_HOST = "registry-1.docker.io"


class MirrorEndpoint(msgspec.Struct, frozen=True):
    """``host`` is HOST[:PORT]; ``prefix`` goes before the repository's name there, without slashes around it."""

    host: str
    prefix: str = ""


class RegistrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Mirrors are asked in their order and before the registry, for reading only. ``insecure`` hosts may speak plain http.

    Times are in seconds. ``stall_timeout_s`` bounds how long nothing comes, ``minimum_rate`` (bytes a second, over that time)
    how little; ``commit_timeout_s`` is how long a registry may take to answer an upload's end.
    """

    mirrors: Mapping[str, tuple[MirrorEndpoint, ...]] = {}
    insecure: frozenset[str] = frozenset()
    connect_timeout_s: float = 15.0
    stall_timeout_s: float = 30.0
    document_timeout_s: float = 60.0
    commit_timeout_s: float = 300.0
    minimum_rate: int = 256
    allowance: Allowance | None = None
    """From which networks anything may come; None leaves it to whoever named the host, but for redirects."""
    attempts: int = 6
    transfers: int = 4
    chunk_bytes: int = 32 * 1024 * 1024
    """Of an upload at a time: what is sent again when a connection breaks."""


class Endpoint(msgspec.Struct, frozen=True):
    """A repository at one host of the API. ``may_be_plain``: http is good enough when nobody speaks https there."""

    host: str
    repository: str
    may_be_plain: bool = False

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}"

    @property
    def account(self) -> ImageReference:
        """Under which name credentials for it are kept."""
        host = DEFAULT_REGISTRY if self.host == _DOCKER_API_HOST else self.host
        return ImageReference(registry=host, repository=self.repository)


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: str = "1"
    insecure: tuple[str, ...] = ()
    mirrors: dict[str, tuple[str, ...]] = {}


def read_registry_settings(path: Path) -> RegistrySettings:
    """Read the file that ``FLEDGE_REGISTRIES`` names::

        version = "1"
        insecure = ["registry.example.org:5000"]      # hosts that may speak http, mirrors among them

        [mirrors]                                     # asked in this order, then the registry itself
        "docker.io" = ["mirror.example.org", "cache.example.org:5000/hub"]

    A mirror is ``HOST[:PORT][/PREFIX]``: ``nginx`` is ``cache.example.org:5000/hub/library/nginx`` above.

    Raises:
        InvalidInput: it cannot be read or is not as it should be.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(SETTINGS_MAX_BYTES + 1)
        if len(content) > SETTINGS_MAX_BYTES:
            raise InvalidInput(f"{path} has more than {SETTINGS_MAX_BYTES} bytes", field=SETTINGS_VARIABLE)
        document = msgspec.toml.decode(content, type=_Document)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", field=SETTINGS_VARIABLE) from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidInput(
            f"{path}: {error}",
            field=SETTINGS_VARIABLE,
            hint='keys: version = "1", insecure = [HOST, …], [mirrors] "HOST" = [HOST/PREFIX, …]',
        ) from error
    if document.version != "1":
        raise InvalidInput(
            f"{path}: version {document.version!r} is not known", field=SETTINGS_VARIABLE, hint='write version = "1"'
        )
    for host in (*document.insecure, *document.mirrors):
        _check_host(host, path)
    return RegistrySettings(
        mirrors={
            _canonical_host(host): tuple(_read_mirror(text, path) for text in mirrors)
            for host, mirrors in document.mirrors.items()
        },
        insecure=frozenset(host.lower() for host in document.insecure),
    )


def limit_to(settings: RegistrySettings, allowance: Allowance) -> RegistrySettings:
    """``settings`` with what may be spoken to: ``allowance``, and the hosts that the settings themselves name."""
    mirrors = {mirror.host for mirrors in settings.mirrors.values() for mirror in mirrors}
    return msgspec.structs.replace(settings, allowance=allowance.with_hosts(frozenset(mirrors | settings.insecure)))


def list_endpoints(reference: ImageReference, settings: RegistrySettings, *, mirrored: bool = True) -> tuple[Endpoint, ...]:
    """Where ``reference`` may be, in the order of asking: its mirrors (when ``mirrored``), then the registry itself, last."""
    mirrors = settings.mirrors.get(reference.registry, ()) if mirrored else ()
    places = [(m.host, f"{m.prefix}/{reference.repository}" if m.prefix else reference.repository) for m in mirrors]
    own = _DOCKER_API_HOST if reference.registry == DEFAULT_REGISTRY else reference.registry
    places.append((own, reference.repository))
    return tuple(Endpoint(host, repository, host in settings.insecure or is_loopback_host(host)) for host, repository in places)


def split_host(host: str) -> tuple[str, int | None]:
    """``("::1", 5000)`` of ``[::1]:5000``; the port is None when it does not say."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        name, port = host, ""
    return name.strip("[]"), int(port) if port else None


def is_loopback_host(host: str) -> bool:
    name, _ = split_host(host)
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _canonical_host(host: str) -> str:
    return parse_image_reference(f"{host}/name").registry


def _check_host(host: str, path: Path) -> None:
    if "/" in host or (not any(mark in host for mark in ".:[") and host != "localhost"):
        raise InvalidInput(f"{path}: {host[:80]!r} is not HOST or HOST:PORT", field=SETTINGS_VARIABLE)
    try:
        _canonical_host(host)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {host[:80]!r} is not HOST or HOST:PORT", field=SETTINGS_VARIABLE) from error


def _read_mirror(text: str, path: Path) -> MirrorEndpoint:
    host, _, prefix = text.partition("/")
    _check_host(host, path)
    try:
        parse_image_reference(f"{host}/{prefix}/name" if prefix else f"{host}/name")
    except InvalidInput as error:
        raise InvalidInput(f"{path}: the mirror {text[:80]!r} is not HOST[:PORT][/PREFIX]", field=SETTINGS_VARIABLE) from error
    return MirrorEndpoint(host.lower(), prefix)
