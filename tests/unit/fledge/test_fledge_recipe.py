from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import InvalidInput
from volant.fledge.recipe import parse_recipe, read_recipe

HEAD = 'version = "1"\nstrategy = "oci_rootfs"\n'
IMAGE = HEAD + '[source]\nimage = "oci:web"\n'


def test_every_section_is_read() -> None:
    recipe = parse_recipe(
        (
            IMAGE
            + """
[plugin]
name = "web"
version = "2"
[filesystem]
type = "erofs"
compression = "lz4hc"
[mappings]
"site" = "/srv/site"
[workload]
entrypoint = ["/bin/web", "-v"]
base_url = "http://127.0.0.1:8080"
env = { A = "b" }
user = "www-data"
workdir = "/srv"
stop_signal = "SIGQUIT"
[health_check]
endpoint = "/healthz"
[resources]
memory_mb = 64
[network]
mode = "bridged"
[[network.expose]]
port = 8080
[kernel]
package = "linux-image-cloud-amd64"
"""
        ).encode()
    )

    assert recipe.plugin.name == "web"
    assert recipe.workload.entrypoint == ("/bin/web", "-v")
    assert recipe.mappings == {"site": "/srv/site"}
    assert recipe.resources.memory_mb == 64
    assert recipe.network is not None
    assert recipe.network.expose[0].port == 8080
    assert recipe.health_check is not None
    assert recipe.filesystem.compression == "lz4hc"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("version = ", "not TOML", None),
        ('version = "2"\nstrategy = "oci_rootfs"', "version is '2'", 'version = "1"'),
        ('version = "1"\nstrategy = "initramfs"', "not built here", "oci_rootfs"),
        ('version = "1"\nstrategy = "iso"', "not known", "oci_rootfs"),
        (HEAD, r"\[source\] is missing", "image, packages or script"),
        (HEAD + "[source]", "exactly one of", None),
        (HEAD + '[source]\nimage = "a"\nscript = "b"', "has image and script", None),
        (HEAD + '[source]\nimage = "a"\nsuite = "b"', "source.suite goes with source.packages", None),
        (HEAD + '[source]\nimgae = "a"', r"\[source\] has no key 'imgae'", "did you mean image"),
        (HEAD + '[sourc]\nimage = "a"', "no key 'sourc'", "did you mean source"),
        (HEAD + '[source]\nxyzzy = "a"', "no key 'xyzzy'", "image, packages"),
        (HEAD + '[source]\ndockerfile = "Dockerfile"', "source.dockerfile is not a key", "buildah"),
        (IMAGE + '[agent]\nsource_strategy = "release"', "agent is not a key", "VOLANT_KESTREL"),
        (IMAGE + '[[network.expose]]\nprt = 80\n', r"\[network.expose\] has no key 'prt'", "did you mean port"),
        (IMAGE + '[filesystem]\ntype = "squashfs"', "squashfs.*is not built: erofs holds the same", "erofs"),
        (IMAGE + '[filesystem]\ntype = "ext4"', "no two builds are the same", "erofs"),
        (IMAGE + '[filesystem]\ntype = "ntfs"', "not a file system that guests boot from", "erofs"),
        (IMAGE + '[filesystem]\noverlay_size = "1G"', "overlay_size is not a key", "resources.disk_mb"),
        (IMAGE + "[resources]\nmemory_mb = 1", "resources.memory_mb", None),
        (IMAGE + '[resources]\nmemory_mb = "1"', "resources.memory_mb", None),
        (IMAGE + '[kernel]\npackage = "a"\ndeb = "b"', "either package or deb", None),
        (IMAGE + '[kernel]\nsource = "own"', "kernel.source", None),
        (IMAGE + '[kernel]\nsource = "minimal"\npackage = "a"', "kernel.package goes with kernel.source", "remove it"),
        (HEAD + '[source]\npackages = ["a"]\n[plugin]\nname = "a"', "do not say what to run", "entrypoint"),
        (HEAD + '[source]\npackages = ["a"]\n[workload]\nentrypoint = ["a"]', "do not name the plugin", "name"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_the_mend(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        parse_recipe(text.encode())

    assert hint is None or (caught.value.hint is not None and hint in caught.value.hint)


def test_the_kernel_is_debians_unless_the_recipe_says_minimal() -> None:
    assert parse_recipe(IMAGE.encode()).kernel.source == "debian"
    minimal = parse_recipe((IMAGE + '[kernel]\nsource = "minimal"\ndeb = "linux-source.deb"\n').encode())
    assert (minimal.kernel.source, minimal.kernel.deb) == ("minimal", "linux-source.deb")


@given(st.binary(max_size=80))
def test_any_bytes_are_a_recipe_or_bad_input(tail: bytes) -> None:
    try:
        recipe = parse_recipe(IMAGE.encode() + tail)
    except InvalidInput:
        return
    assert recipe.source.image == "oci:web"


def test_a_mistake_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "fledge.toml"
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        read_recipe(path)
    path.write_text("version = 1")
    with pytest.raises(InvalidInput, match=r"fledge\.toml: version is 1"):
        read_recipe(path)
