from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import InvalidInput
from volant.core.manifest import Boot, HealthCheck, Manifest, Media, RootFilesystem, read_manifest
from volant.core.probe import Probe
from volant.fledge.describe import DEFAULT_PATH, KERNEL_LABEL, Content, describe_plugin, read_exposed, write_manifest
from volant.fledge.image_health import HEALTH_LABEL
from volant.fledge.recipe.read import parse_recipe
from volant.fledge.source.oci import ImageConfig

HEAD = 'version = "1"\nstrategy = "oci_rootfs"\n'
DIGEST = "sha256:" + "0" * 64


def describe(settings: dict[str, object] | None, toml: str = "", *, name: str = "web", tag: str = "") -> Manifest:
    source = '[source]\nimage = "oci:web"\n' if settings is not None else '[source]\npackages = ["web"]\n[plugin]\nname = "web"\n'
    config = None if settings is None else msgspec.convert({"config": settings}, ImageConfig)
    return describe_plugin(
        parse_recipe(HEAD + source + toml),
        Content(config=config, name=name, tag=tag, image="oci:web", image_digest=DIGEST),
        boot=Boot(kernel=Media(url="vmlinux", checksum=DIGEST), initramfs=Media(url="boot.cpio", checksum=DIGEST)),
        kernel_label="debian 6.1.192-2 cloud",
        rootfs=RootFilesystem(url="rootfs.erofs", checksum=DIGEST),
    )


def test_everything_that_the_image_says_arrives() -> None:
    manifest = describe(
        {
            "Entrypoint": ["/entry"], "Cmd": ["serve", ""], "Env": ["PATH=/bin", "EMPTY=", "URL=a=b", "=odd"], "User": "1000:50",
            "WorkingDir": "/srv", "StopSignal": "SIGQUIT", "ExposedPorts": {"8443/tcp": {}, "53/udp": {}}, "Labels": {"a": "b"},
        },
        tag="1.2",
    )  # fmt: skip

    assert manifest.workload.entrypoint == ("/entry", "serve", "")
    assert manifest.workload.env == {"PATH": "/bin", "EMPTY": "", "URL": "a=b"}
    assert (manifest.workload.user, manifest.workload.workdir, manifest.workload.stop_signal) == ("1000:50", "/srv", "SIGQUIT")
    assert (manifest.workload.type, manifest.workload.base_url) == ("http", "http://127.0.0.1:8443")
    assert [(expose.port, expose.protocol) for expose in manifest.network.expose] == [(8443, "tcp"), (53, "udp")]
    assert (manifest.name, manifest.version, manifest.labels, manifest.image_digest) == (
        "web",
        "1.2",
        {"a": "b", KERNEL_LABEL: "debian 6.1.192-2 cloud"},
        DIGEST,
    )


def test_an_image_that_says_little_gets_the_oci_defaults() -> None:
    manifest = describe({"Cmd": ["sh"], "WorkingDir": "", "User": "", "Entrypoint": None})

    assert manifest.workload.entrypoint == ("sh",)
    assert (manifest.workload.user, manifest.workload.workdir, manifest.workload.stop_signal) == ("0:0", "/", "SIGTERM")
    assert manifest.workload.env == {"PATH": DEFAULT_PATH}
    assert (manifest.workload.type, manifest.workload.base_url) == ("exec", "")
    assert manifest.version == "0.0.0"


def test_the_recipe_wins_and_env_is_merged() -> None:
    manifest = describe(
        {"Entrypoint": ["a"], "Cmd": ["b"], "Env": ["A=1", "B=2"], "ExposedPorts": {"80": {}}},
        '[plugin]\nname = "other"\nversion = "9"\n[workload]\nentrypoint = ["c"]\nenv = { B = "3" }\ntype = "exec"\n',
    )

    assert manifest.workload.entrypoint == ("c",)
    assert manifest.workload.env == {"PATH": DEFAULT_PATH, "A": "1", "B": "3"}
    assert (manifest.name, manifest.version, manifest.workload.type) == ("other", "9", "exec")


@pytest.mark.parametrize(
    ("ports", "base_url"),
    [
        ([], ""), (["5000/tcp"], "http://127.0.0.1:5000"), (["443/tcp", "80/tcp"], "http://127.0.0.1:80"),
        (["8080", "9000"], "http://127.0.0.1:8080"), (["5000", "6000"], ""), (["53/udp"], ""), (["53/udp", "81"], "http://127.0.0.1:81"),
    ],
)  # fmt: skip
def test_the_base_url_follows_the_exposed_ports(ports: list[str], base_url: str) -> None:
    manifest = describe({"Cmd": ["web"], "ExposedPorts": {port: {} for port in ports}})

    assert manifest.workload.base_url == base_url
    assert manifest.workload.type == ("http" if base_url else "exec")


@given(st.lists(st.text(max_size=12) | st.from_regex(r"[0-9]{1,6}(/[a-z]{3})?", fullmatch=True)))
def test_only_ports_are_exposed(texts: list[str]) -> None:
    assert all(1 <= expose.port <= 65535 for expose in read_exposed(dict.fromkeys(texts)))


def test_names_come_from_the_label_or_the_file_when_they_can() -> None:
    titled = {"Cmd": ["web"], "Labels": {"org.opencontainers.image.title": "titled", "org.opencontainers.image.version": "3"}}
    assert (describe(titled).name, describe(titled).version) == ("titled", "3")
    assert describe({"Cmd": ["web"], "Labels": {"org.opencontainers.image.title": "Not A Name"}}).name == "web"
    assert describe({"Cmd": ["web"]}, tag="latest").version == "0.0.0"
    with pytest.raises(InvalidInput, match="the plugin has no name"):
        describe({"Cmd": ["web"]}, name="No Name")


@pytest.mark.parametrize(
    ("settings", "toml", "field"),
    [
        ({}, "", "workload.entrypoint"),
        ({"Cmd": ["web"], "StopSignal": "SIGNOTHING"}, "", "workload.stop_signal"),
        ({"Cmd": ["web"]}, '[health_check]\nendpoint = "/"\n', "workload.base_url"),
        ({"Cmd": ["web"]}, '[workload]\ntype = "http"\n', "workload.base_url"),
        ({"Cmd": ["web"]}, '[plugin]\nname = "Not A Name"\n', "plugin.name"),
    ],
)
def test_what_volant_would_refuse_is_refused_here(settings: dict[str, object], toml: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        describe(settings, toml)

    assert caught.value.field == field


def test_packages_take_all_from_the_recipe() -> None:
    manifest = describe(None, '[workload]\nentrypoint = ["/usr/bin/web"]\nbase_url = "http://127.0.0.1:8080"\n')

    assert manifest.workload.entrypoint == ("/usr/bin/web",)
    assert manifest.workload.type == "http"


def test_the_written_document_is_read_back_and_spells_its_defaults_out() -> None:
    manifest = describe({"Cmd": ["web", ""], "Env": ["EMPTY="], "ExposedPorts": {"80/tcp": {}}})

    written = write_manifest(manifest)
    document = json.loads(written)

    assert read_manifest(written) == manifest
    assert document["enabled"] is True
    assert document["workload"]["type"] == "http"
    assert document["rootfs"] == {"url": "rootfs.erofs", "checksum": DIGEST, "format": "raw", "filesystem": "erofs"}
    assert document["resources"] == {"cpu_cores": 1, "memory_mb": 256, "disk_mb": 1024}
    assert "initramfs" not in document


def test_a_health_check_of_the_image_becomes_the_manifests_when_it_asks_for_a_page() -> None:
    image = {"Cmd": ["web"], "ExposedPorts": {"8080/tcp": {}}}
    asks = {"Test": ["CMD-SHELL", "curl -f http://localhost:8080/health || exit 1"], "Interval": 5 * 10**9, "Timeout": 10**9}
    assert describe({**image, "Healthcheck": asks}).health_check == HealthCheck(endpoint="/health", interval_ms=5000)

    runs = describe({**image, "Healthcheck": {"Test": ["CMD", "/check"]}})
    assert runs.health_check is None
    assert runs.probes.readiness == Probe(exec=("/check",), interval_ms=30_000, timeout_ms=30_000)
    assert HEALTH_LABEL not in runs.labels
    assert HEALTH_LABEL not in describe({**image, "Healthcheck": {"Test": ["NONE"]}}).labels
    ours = describe({**image, "Healthcheck": asks}, '[health_check]\nendpoint = "/"\n')
    assert ours.health_check == HealthCheck(endpoint="/")


def test_every_section_of_the_recipe_arrives() -> None:
    manifest = describe(
        {"Cmd": ["web"]},
        """
[plugin]
runtime = "web"
openapi = "https://example.org/openapi.json"
labels = { a = "b" }
[filesystem]
overlay_size = "2G"
[actions.reload]
method = "POST"
path = "/reload"
[cloud_init.user_data]
inline = true
content = "#cloud-config"
[devices]
pci_passthrough = ["0000:01:00.0"]
[start]
template = "ready"
[lifecycle]
auto_suspend = "5m"
[network]
mode = "vsock"
""",
    )

    assert (manifest.runtime, manifest.openapi, manifest.labels["a"]) == ("web", "https://example.org/openapi.json", "b")
    assert manifest.resources.disk_mb == 2048
    assert manifest.actions["reload"].path == "/reload"
    assert manifest.cloud_init is not None
    assert manifest.devices.pci_passthrough == ("0000:01:00.0",)
    assert (manifest.start.template, manifest.lifecycle.auto_suspend, manifest.network.mode) == ("ready", "5m", "vsock")
    assert read_manifest(write_manifest(manifest)) == manifest


def test_what_is_no_image_says_what_it_runs() -> None:
    made = describe_plugin(
        parse_recipe(HEAD + '[source]\nbinary = "server"\n'),
        Content(name="server", entrypoint=("/bin/server",)),
        boot=Boot(kernel=Media(url="vmlinux", checksum=DIGEST)),
        kernel_label="",
        initramfs=Media(url="initramfs.cpio", checksum=DIGEST),
    )
    assert made.workload.entrypoint == ("/bin/server",)
    assert made.rootfs is None
