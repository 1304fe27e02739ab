"""The plugin manifest of a build: what the image says about itself, and what the recipe says instead."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from volant.core.errors import InvalidInput
from volant.core.hardware import Hardware
from volant.core.ids import check_name
from volant.core.manifest import (
    WRITTEN_SCHEMA_VERSION,
    Boot,
    Devices,
    Expose,
    HealthCheck,
    Lifecycle,
    Manifest,
    Media,
    Network,
    Restart,
    RootFilesystem,
    Start,
    Workload,
    check_manifest,
    split_base_url,
)
from volant.core.probe import Probes
from volant.fledge.image_health import HEALTH_LABEL, is_disabled, read_exec_probe, read_healthcheck
from volant.fledge.recipe.record import Recipe
from volant.fledge.recipe.rules import read_resources
from volant.fledge.source.oci import ImageConfig, ImageSettings

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_VERSION = "0.0.0"
DEFAULT_GRACE_S = 10
TITLE_LABEL = "org.opencontainers.image.title"
KERNEL_LABEL = "volant.kernel"
"""Which kernel the guest boots, for people: ``debian 6.1.192-2 cloud``."""
VERSION_LABEL = "org.opencontainers.image.version"

_WEB_PORTS = (80, 8080)
_EXPOSED = re.compile(r"(?P<port>\d{1,5})(?:/(?P<protocol>tcp|udp))?")


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What the source is called and says of itself: ``config`` is an image's, ``entrypoint`` that of what is no image."""

    config: ImageConfig | None = None
    name: str = ""
    tag: str = ""
    image: str = ""
    image_digest: str = ""
    entrypoint: tuple[str, ...] = ()


def describe_plugin(
    recipe: Recipe,
    content: Content,
    *,
    boot: Boot,
    kernel_label: str,
    rootfs: RootFilesystem | None = None,
    initramfs: Media | None = None,
) -> Manifest:
    """The manifest, checked. The recipe wins over the image; ``env`` and labels are the image's with the recipe's on top.

    Raises:
        InvalidInput: neither says something that a manifest must have; the message says what to write.
    """
    settings = (content.config.config if content.config is not None else None) or ImageSettings()
    exposed = read_exposed(settings.exposed_ports or {})
    base_url = recipe.workload.base_url or derive_base_url(exposed)
    labels = {**(settings.labels or {}), **recipe.plugin.labels, KERNEL_LABEL: kernel_label}
    probes, health_check = _describe_health(recipe, settings, base_url)
    is_asked = health_check is not None or probes.readiness is not None
    if not is_asked and settings.healthcheck is not None and not is_disabled(settings.healthcheck):
        labels[HEALTH_LABEL] = msgspec.json.encode(settings.healthcheck.test).decode()
    network = recipe.network or Network()
    return check_manifest(
        Manifest(
            schema_version=WRITTEN_SCHEMA_VERSION,
            name=_choose_name(recipe, labels, content.name),
            version=_choose_version(recipe, labels, content.tag),
            runtime=recipe.plugin.runtime,
            agent=read_agent(recipe),
            openapi=recipe.plugin.openapi,
            image=content.image,
            image_digest=content.image_digest,
            labels=labels,
            resources=read_resources(recipe),
            workload=_describe_workload(recipe, settings, content, base_url),
            health_check=health_check,
            probes=probes,
            actions=recipe.actions,
            boot=boot,
            rootfs=rootfs,
            initramfs=initramfs,
            cloud_init=recipe.cloud_init,
            network=network if network.expose else msgspec.structs.replace(network, expose=exposed),
            devices=recipe.devices or Devices(),
            start=recipe.start or Start(),
            lifecycle=recipe.lifecycle or Lifecycle(),
            hardware=recipe.hardware or Hardware(),
        )
    )


def read_agent(recipe: Recipe) -> Literal["kestrel", "none"]:
    """Whether anybody in the guest will answer."""
    return "kestrel" if recipe.init is None else recipe.init.agent


def _describe_health(recipe: Recipe, settings: ImageSettings, base_url: str) -> tuple[Probes, HealthCheck | None]:
    """Probes, and the health check when readiness is said that way. What the recipe says of readiness counts alone."""
    probes = recipe.probes or Probes()
    if recipe.health_check is not None or probes.readiness is not None:
        return probes, recipe.health_check
    page = read_healthcheck(settings.healthcheck, split_base_url(base_url)[1] if base_url else None)
    if page is not None or read_agent(recipe) == "none":
        return probes, page
    return msgspec.structs.replace(probes, readiness=read_exec_probe(settings.healthcheck)), None


def _describe_workload(recipe: Recipe, settings: ImageSettings, content: Content, base_url: str) -> Workload:
    wanted = recipe.workload
    entrypoint = wanted.entrypoint or (*(settings.entrypoint or ()), *(settings.cmd or ())) or content.entrypoint
    if not entrypoint and read_agent(recipe) == "none":
        entrypoint = ("/init",)  # which is all that anybody will ever know of it
    if not entrypoint:
        what = "the image has no entrypoint and no cmd" if content.config is not None else "nothing says what to run"
        raise InvalidInput(what, field="workload.entrypoint", hint='give [workload] an entrypoint = ["/usr/sbin/nginx", "-g", …]')
    workdir = wanted.workdir or settings.working_dir or "/"
    return Workload(
        type=wanted.type or ("http" if base_url else "exec"),
        base_url=base_url,
        entrypoint=entrypoint,
        env={"PATH": DEFAULT_PATH, **_read_env(settings.env or ()), **wanted.env},
        workdir=workdir if workdir.startswith("/") else f"/{workdir}",
        user=wanted.user or settings.user or "0:0",
        stop_signal=wanted.stop_signal or settings.stop_signal or "SIGTERM",
        stop_grace_s=DEFAULT_GRACE_S if wanted.stop_grace_s is None else wanted.stop_grace_s,
        tty=bool(wanted.tty),
        stdin=bool(wanted.stdin),
        ulimits=wanted.ulimits,
        restart=wanted.restart or Restart(),
    )


def write_manifest(manifest: Manifest) -> bytes:
    """The document, with its defaults spelt out: other readers of the format have other defaults (``enabled`` absent is false
    in some). What is empty is left out, and so is a part that holds nothing but zeros and no."""
    return msgspec.json.format(msgspec.json.encode(_spell_out(manifest)), indent=2) + b"\n"


def _spell_out(part: msgspec.Struct) -> dict[str, object]:
    written: dict[str, object] = {}
    for field in msgspec.structs.fields(part):
        value = getattr(part, field.name)
        if isinstance(value, msgspec.Struct):
            value = _spell_out(value)
            if not any(value.values()):
                continue
        elif isinstance(value, tuple):
            value = [_spell_out(item) if isinstance(item, msgspec.Struct) else item for item in value]
        if isinstance(value, dict):
            value = {key: _spell_out(item) if isinstance(item, msgspec.Struct) else item for key, item in value.items()}
        if value not in (None, "", [], {}):
            written[field.encode_name] = value
    return written


def read_exposed(ports: dict[str, object]) -> tuple[Expose, ...]:
    """``{"80/tcp": {}}`` as the image configuration has it, by protocol and port; what is no port is passed over."""
    found = set()
    for text in ports:
        match = _EXPOSED.fullmatch(text)
        if match and 1 <= int(match["port"]) <= 65535:
            found.add((match["protocol"] or "tcp", int(match["port"])))
    return tuple(Expose(port=port, protocol="udp" if protocol == "udp" else "tcp") for protocol, port in sorted(found))


def derive_base_url(exposed: tuple[Expose, ...]) -> str:
    """Where the workload listens: the image's one TCP port, or 80 or 8080 among several; else ``""``."""
    ports = [expose.port for expose in exposed if expose.protocol == "tcp"]
    if len(ports) == 1:
        return f"http://127.0.0.1:{ports[0]}"
    return next((f"http://127.0.0.1:{port}" for port in _WEB_PORTS if port in ports), "")


def _read_env(env: tuple[str, ...]) -> dict[str, str]:
    pairs = (word.partition("=") for word in env)
    return {name: value for name, _, value in pairs if name}


def _choose_name(recipe: Recipe, labels: dict[str, str], source_name: str) -> str:
    if recipe.plugin.name:
        return check_name(recipe.plugin.name, "plugin.name")
    for candidate in (labels.get(TITLE_LABEL, ""), source_name):
        try:
            return check_name(candidate)
        except InvalidInput:
            continue
    raise InvalidInput("the plugin has no name", field="plugin.name", hint='write [plugin] name = "…"')


def _choose_version(recipe: Recipe, labels: dict[str, str], source_tag: str) -> str:
    tag = "" if source_tag == "latest" else source_tag
    return recipe.plugin.version or labels.get(VERSION_LABEL) or tag or DEFAULT_VERSION
