from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import InvalidInput
from volant.core.manifest import Resources
from volant.fledge.recipe.read import parse_recipe, read_recipe
from volant.fledge.recipe.rules import read_resources, read_size_mb
from volant.fledge.recipe.toml_file import FILE_MAX_BYTES

HEAD = 'version = "1"\nstrategy = "oci_rootfs"\n'
DISKLESS = 'version = "1"\nstrategy = "initramfs"\n'
IMAGE = HEAD + '[source]\nimage = "oci:web"\n'


def test_every_section_is_read() -> None:
    recipe = parse_recipe(
        IMAGE
        + """
[plugin]
name = "web"
version = "2"
[filesystem]
type = "squashfs"
compression_level = 7
overlay_size = "2G"
size_buffer_mb = 64
preallocate = true
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
    )

    assert recipe.plugin.name == "web"
    assert recipe.workload.entrypoint == ("/bin/web", "-v")
    assert recipe.mappings == {"site": "/srv/site"}
    assert recipe.resources.memory_mb == 64
    assert recipe.network is not None
    assert recipe.network.expose[0].port == 8080
    assert recipe.health_check is not None
    assert recipe.filesystem is not None
    assert (recipe.filesystem.type, recipe.filesystem.compression_level) == ("squashfs", 7)
    assert read_resources(recipe) == Resources(memory_mb=64, disk_mb=2048)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("version = ", "not TOML", None),
        ('version = "2"\nstrategy = "oci_rootfs"', "version is '2'", 'version = "1"'),
        ('version = "1"\nstrategy = "iso"', "not known", "oci_rootfs"),
        (HEAD, r"\[source\] says nothing to build from", "image, dockerfile, packages"),
        (HEAD + '[source]\nimage = "a"\nscript = "b"', "names image and script", "keep one"),
        (HEAD + '[source]\nimage = "a"\nsuite = "b"', "source.suite goes with source.packages", None),
        (HEAD + '[source]\nbinary = "a"\nplatform = "b"', "source.platform goes with source.image or source.dockerfile", None),
        (HEAD + '[source]\nimage = "a"\nbusybox_url = "b"', 'goes with strategy = "initramfs"', "remove"),
        (HEAD + '[source]\nimgae = "a"', r"\[source\] has no key 'imgae'", "did you mean image"),
        (HEAD + '[sourc]\nimage = "a"', "no key 'sourc'", "did you mean source"),
        (HEAD + '[source]\nxyzzy = "a"', "no key 'xyzzy'", "image, platform"),
        (IMAGE + '[[network.expose]]\nprt = 80\n', r"\[network.expose\] has no key 'prt'", "did you mean port"),
        (IMAGE + '[actions.reload]\nmethod = "POST"\npaht = "/"', r"\[actions.reload\] has no key 'paht'", "did you mean path"),
        (IMAGE + '[filesystem]\ntype = "ntfs"', "filesystem.type", None),
        (IMAGE + '[filesystem]\ncompression_level = 23', "filesystem.compression_level", None),
        (IMAGE + '[filesystem]\noverlay_size = "big"', "no size of 64 MiB or more", "1G"),
        (IMAGE + '[filesystem]\noverlay_size = "1G"\n[resources]\ndisk_mb = 70', "say the same thing", "disk_mb"),
        (IMAGE + '[init]\nnone = true', 'goes with strategy = "initramfs"', "kestrel"),
        (IMAGE + "[initramfs]", 'goes with strategy = "initramfs"', "remove"),
        (IMAGE + '[agent]\nsource_strategy = "local"', "needs agent.path", None),
        (IMAGE + '[agent]\nsource_strategy = "http"\nurl = "a"\nversion = "1"', "agent.version does not go with", None),
        (IMAGE + '[agent]\nsource_strategy = "http"\nurl = "a"\nchecksum = "1"', "not a sha256 digest", None),
        (DISKLESS + "[filesystem]", 'goes with strategy = "oci_rootfs"', "compression"),
        (DISKLESS + "[init]", "either path or none", "kestrel"),
        (DISKLESS + '[init]\npath = "a"\nnone = true', "either path or none", None),
        (DISKLESS + '[init]\npath = "a"\n[agent]', "exclude each other", "remove"),
        (DISKLESS + f'[source]\nbusybox_sha256 = "{"0" * 64}"', "goes with source.busybox_url", None),
        (DISKLESS + '[source]\nbusybox_url = "http://a/b"', "needs source.busybox_sha256", "busybox-static"),
        (DISKLESS + '[source]\nbusybox_url = "a"\nbusybox_sha256 = "1"', "not a sha256 digest", None),
        (IMAGE + "[resources]\nmemory_mb = 1", "resources.memory_mb", None),
        (IMAGE + '[resources]\nmemory_mb = "1"', "resources.memory_mb", None),
        (IMAGE + '[kernel]\npackage = "a"\ndeb = "b"', "either package or deb", None),
        (IMAGE + '[kernel]\nsource = "own"', "kernel.source", None),
        (IMAGE + '[kernel]\nsource = "minimal"\npackage = "a"', "kernel.package goes with kernel.source", "remove it"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_the_mend(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        parse_recipe(text)

    assert hint is None or (caught.value.hint is not None and hint in caught.value.hint)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (IMAGE + "[resources]\ncpu_cores = 1\nmemory_mb = 1\n", 7, "resources.memory_mb"),
        (IMAGE + '[filesystem]\n# what\ntype = "ntfs"', 7, "filesystem.type"),
        (IMAGE + 'suite = "b"', 5, "source.suite goes with"),
        (IMAGE + "[plugin\n", 5, "not TOML"),
        (HEAD + 'source.imgae = "a"', 3, "no key"),
        (IMAGE + "[[network.expose]]\nport = 1\n[[network.expose]]\nport = 0\n", 6, "network.expose"),
        ('strategy = "oci_rootfs"', None, "version is None"),
    ],
)
def test_a_mistake_names_the_file_and_the_line(tmp_path: Path, text: str, line: int | None, message: str) -> None:
    path = tmp_path / "fledge.toml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        read_recipe(path)
    place = f"{path}:{line}: " if line else f"{path}: "
    assert caught.value.message.startswith(place)
    assert message in caught.value.message


@pytest.mark.parametrize(("text", "size_mb"), [("64M", 64), ("1G", 1024), ("1GiB", 1024), ("2t", 2097152), ("65536K", 64)])
def test_sizes(text: str, size_mb: int) -> None:
    assert read_size_mb(text, "a") == size_mb


def test_the_kernel_is_debians_unless_the_recipe_says_minimal() -> None:
    assert parse_recipe(IMAGE).kernel.source == "debian"
    minimal = parse_recipe(IMAGE + '[kernel]\nsource = "minimal"\ndeb = "linux-source.deb"\n')
    assert (minimal.kernel.source, minimal.kernel.deb) == ("minimal", "linux-source.deb")


@given(st.text(max_size=80))
def test_any_text_is_a_recipe_or_bad_input(tail: str) -> None:
    try:
        recipe = parse_recipe(IMAGE + tail)
    except InvalidInput:
        return
    assert recipe.source.image == "oci:web"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "fledge.toml"
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        read_recipe(path)
    path.write_bytes(b'version = "1"\n# caf\xe9')
    with pytest.raises(InvalidInput, match=r"fledge\.toml:2: it is not TOML: not UTF-8"):
        read_recipe(path)
    path.write_bytes(b"#" * (FILE_MAX_BYTES + 1))
    with pytest.raises(InvalidInput, match="is larger than"):
        read_recipe(path)
