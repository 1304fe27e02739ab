"""``manifest.toml``, the original's description of a plugin beside its ``fledge.toml``: read into the recipe's own sections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from volant.core.errors import InvalidInput
from volant.core.manifest import Action, CloudInit, CloudInitFile, Devices, Expose, HealthCheck, Network, Positive, Resources
from volant.fledge.recipe.record import PluginSection, Recipe, WorkloadSection
from volant.fledge.recipe.toml_file import check_keys, convert, parse_toml, read_toml

FILE = "manifest.toml"
DOCUMENT_MAX_BYTES = 64 * 1024


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class ResourcesSection(_Section, frozen=True, kw_only=True):
    cpu_cores: Positive = 1
    memory_mb: Annotated[int, msgspec.Meta(ge=128)] = 256


class CommandSection(_Section, frozen=True, kw_only=True):
    """``entrypoint`` is one program, ``args`` what it is given; a list is the whole argument vector."""

    entrypoint: str | tuple[str, ...] = ""
    args: tuple[str, ...] = ()
    type: Literal["http", "exec"] | None = None
    base_url: str = ""
    workdir: str = ""
    env: dict[str, str] = {}


class ExposeSection(_Section, frozen=True, kw_only=True):
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    protocol: Literal["tcp", "udp"] = "tcp"
    host_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None


class NetworkSection(_Section, frozen=True, kw_only=True):
    mode: Literal["bridged", "dhcp", "vsock"] = "bridged"
    expose: tuple[ExposeSection, ...] = ()


class UserDataSection(_Section, frozen=True, kw_only=True):
    inline: bool = True
    content: str = ""
    path: str = ""


class CloudInitSection(_Section, frozen=True, kw_only=True):
    datasource: str = "NoCloud"
    user_data: UserDataSection | None = None
    meta_data: dict[str, Any] = {}


class ManifestToml(_Section, frozen=True, kw_only=True):
    """The whole file."""

    schema_version: Literal["v1"] = "v1"
    name: str
    version: str
    runtime: str = ""
    labels: dict[str, str] = {}
    resources: ResourcesSection | None = None
    workload: CommandSection | None = None
    env: dict[str, str] = {}
    health_check: HealthCheck | None = None
    network: NetworkSection | None = None
    actions: dict[str, Action] = {}
    cloud_init: CloudInitSection | None = None
    devices: Devices | None = None


def read_manifest_toml(path: Path) -> ManifestToml:
    """Raises InvalidInput: the file cannot be read, or breaks a rule; the message names the file and the line."""
    return read_toml(path, parse_manifest_toml, hint="name another with -m")


def parse_manifest_toml(text: str) -> ManifestToml:
    """``read_manifest_toml`` for what is already in memory. Raises InvalidInput."""
    data = parse_toml(text)
    check_keys(data, ManifestToml, file=FILE)
    return convert(data, ManifestToml)


def add_manifest(recipe: Recipe, manifest: ManifestToml, base: Path) -> Recipe:
    """``recipe`` with what ``manifest`` says. Files that it names are relative to ``base``.

    Raises:
        InvalidInput: both say something about the same, or a file cannot be read.
    """
    given = {
        "plugin": recipe.plugin != PluginSection(),
        "workload": recipe.workload != WorkloadSection(),
        **{
            name: bool(getattr(recipe, name))
            for name in ("health_check", "resources", "network", "actions", "cloud_init", "devices")
        },
    }
    wanted = {
        "plugin": True,
        "workload": manifest.workload is not None or bool(manifest.env),
        **{name: bool(getattr(manifest, name)) for name in given if name not in ("plugin", "workload")},
    }
    for name, is_wanted in wanted.items():
        if is_wanted and given[name]:
            raise InvalidInput(
                f"both fledge.toml and {FILE} have [{name}]", field=name, hint=f"keep one of them: {FILE} can be left out"
            )
    return msgspec.structs.replace(
        recipe,
        plugin=PluginSection(name=manifest.name, version=manifest.version, runtime=manifest.runtime, labels=manifest.labels),
        workload=_read_workload(manifest) if wanted["workload"] else recipe.workload,
        health_check=manifest.health_check or recipe.health_check,
        resources=_read_resources(manifest.resources) or recipe.resources,
        network=_read_network(manifest.network) or recipe.network,
        actions=manifest.actions or recipe.actions,
        cloud_init=_read_cloud_init(manifest.cloud_init, base) or recipe.cloud_init,
        devices=manifest.devices or recipe.devices,
    )


def _read_workload(manifest: ManifestToml) -> WorkloadSection:
    command = manifest.workload or CommandSection()
    program = (command.entrypoint,) if isinstance(command.entrypoint, str) else command.entrypoint
    if command.args and not any(program):
        raise InvalidInput("workload.args has no workload.entrypoint to go with", field="workload.args")
    return WorkloadSection(
        type=command.type,
        base_url=command.base_url,
        entrypoint=(*(word for word in program if word), *command.args),
        env={**manifest.env, **command.env},
        workdir=command.workdir,
    )


def _read_resources(section: ResourcesSection | None) -> Resources | None:
    return None if section is None else Resources(cpu_cores=section.cpu_cores, memory_mb=section.memory_mb)


def _read_network(section: NetworkSection | None) -> Network | None:
    if section is None:
        return None
    expose = tuple(Expose(port=one.port, protocol=one.protocol, host_port=one.host_port) for one in section.expose)
    return Network(mode=section.mode, expose=expose)


def _read_cloud_init(section: CloudInitSection | None, base: Path) -> CloudInit | None:
    """Documents given by path are taken in: a manifest has to be whole by itself."""
    if section is None:
        return None
    user_data = meta_data = None
    if section.user_data is not None:
        content = section.user_data.content
        if section.user_data.path:
            content = _read_document(base / section.user_data.path)
        user_data = CloudInitFile(inline=True, content=content)
    if section.meta_data:
        # JSON is YAML too, which is what cloud-init reads.
        meta_data = CloudInitFile(inline=True, content=msgspec.json.encode(section.meta_data, order="sorted").decode())
    return CloudInit(datasource=section.datasource, user_data=user_data, meta_data=meta_data)


def _read_document(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(DOCUMENT_MAX_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", field="cloud_init.user_data.path") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not text", field="cloud_init.user_data.path") from error
    if len(content) > DOCUMENT_MAX_BYTES:
        raise InvalidInput(f"{path} is larger than {DOCUMENT_MAX_BYTES} bytes", field="cloud_init.user_data.path")
    return text
