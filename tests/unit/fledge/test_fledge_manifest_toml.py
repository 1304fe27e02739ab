from __future__ import annotations

from pathlib import Path

import pytest

from volant.core.errors import InvalidInput
from volant.core.manifest import Action, Expose
from volant.fledge.recipe.manifest_toml import add_manifest, parse_manifest_toml, read_manifest_toml
from volant.fledge.recipe.read import parse_recipe
from volant.fledge.recipe.record import Recipe

HEAD = 'name = "web"\nversion = "1.2"\n'


def recipe(more: str = "") -> Recipe:
    return parse_recipe(f'version = "1"\nstrategy = "oci_rootfs"\n[source]\nimage = "oci:web"\n{more}')


def test_everything_of_the_original_arrives(tmp_path: Path) -> None:
    (tmp_path / "user-data").write_text("#cloud-config\n")
    manifest = parse_manifest_toml(
        """
schema_version = "v1"
name = "caddy"
version = "2.8.0"
runtime = "caddy"
[resources]
cpu_cores = 2
memory_mb = 512
[workload]
entrypoint = "/usr/bin/caddy"
args = ["run", "--config", "/etc/caddy/Caddyfile"]
[env]
HOME = "/root"
[network]
mode = "bridged"
[[network.expose]]
port = 80
host_port = 8080
[actions.reload]
path = "/load"
method = "POST"
[cloud_init]
datasource = "NoCloud"
[cloud_init.user_data]
path = "user-data"
inline = false
[cloud_init.meta_data]
instance-id = "one"
[devices]
pci_passthrough = ["0000:01:00.0"]
"""
    )
    made = add_manifest(recipe(), manifest, tmp_path)
    assert (made.plugin.name, made.plugin.version, made.plugin.runtime) == ("caddy", "2.8.0", "caddy")
    assert made.workload.entrypoint == ("/usr/bin/caddy", "run", "--config", "/etc/caddy/Caddyfile")
    assert made.workload.env == {"HOME": "/root"}
    assert made.resources is not None
    assert (made.resources.cpu_cores, made.resources.memory_mb) == (2, 512)
    assert made.network is not None
    assert made.network.expose == (Expose(port=80, host_port=8080),)
    assert made.actions == {"reload": Action(method="POST", path="/load")}
    assert made.devices is not None
    assert made.devices.pci_passthrough == ("0000:01:00.0",)
    assert made.cloud_init is not None
    assert made.cloud_init.user_data is not None
    assert made.cloud_init.meta_data is not None
    assert (made.cloud_init.user_data.inline, made.cloud_init.user_data.content) == (True, "#cloud-config\n")
    assert made.cloud_init.meta_data.content == '{"instance-id":"one"}'


def test_a_list_is_the_whole_argument_vector_and_what_is_not_said_stays_the_recipes() -> None:
    made = add_manifest(
        recipe("[resources]\nmemory_mb = 64\n"), parse_manifest_toml(HEAD + '[workload]\nentrypoint = ["/a", "b"]'), Path()
    )
    assert made.workload.entrypoint == ("/a", "b")
    assert made.resources is not None
    assert made.resources.memory_mb == 64


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ('[plugin]\nname = "a"', "", r"\[plugin\]"),
        ('[workload]\nuser = "a"', "[env]\na = 'b'", r"\[workload\]"),
        ("[resources]", "[resources]", r"\[resources\]"),
        ('[network]\nmode = "bridged"', "[network]", r"\[network\]"),
        ('[actions.a]\nmethod = "GET"\npath = "/"', '[actions.b]\nmethod = "GET"\npath = "/"', r"\[actions\]"),
    ],
)
def test_what_both_files_say_is_refused(ours: str, theirs: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"both fledge.toml and manifest.toml have {message}"):
        add_manifest(recipe(ours), parse_manifest_toml(HEAD + theirs), Path())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('version = "1"', "name"),
        (HEAD + 'schema_version = "v2"', "schema_version"),
        (HEAD + "[resources]\nmemory_mb = 64", "resources.memory_mb"),
        (HEAD + "[[network.expose]]\nport = 0", "network.expose"),
        (HEAD + "[workload]\nargs = 1", "workload.args"),
        (HEAD + '[workload]\nentrypont = "a"', "did you mean|no key 'entrypont'"),
    ],
)
def test_what_is_wrong_names_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "manifest.toml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=message) as caught:
        read_manifest_toml(path)
    assert caught.value.message.startswith(f"{path}")


def test_arguments_need_a_program() -> None:
    with pytest.raises(InvalidInput, match=r"no workload\.entrypoint to go with"):
        add_manifest(recipe(), parse_manifest_toml(HEAD + '[workload]\nargs = ["a"]'), Path())


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No such file"), (b"\xff", "is not text"), (b"a" * 70000, "larger than")]
)
def test_a_document_that_cannot_be_taken_in_is_said(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "data").write_bytes(content)
    manifest = parse_manifest_toml(HEAD + '[cloud_init.user_data]\npath = "data"')
    with pytest.raises(InvalidInput, match=message):
        add_manifest(recipe(), manifest, tmp_path)
