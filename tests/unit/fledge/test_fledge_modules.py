from __future__ import annotations

import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import HostError
from volant.fledge.kernel.modules import (
    builtin_modules,
    index_modules,
    normalise_name,
    order_modules,
    read_depends,
    read_module,
    wanted_modules,
)

from .kernel_files import make_module

VIRTIO = {
    "virtio_ring": [], "virtio": ["virtio_ring"], "virtio_mmio": ["virtio", "virtio_ring"],
    "virtio_pci_modern_dev": [], "virtio_pci": ["virtio_ring", "virtio_pci_modern_dev", "virtio"], "virtio_console": ["virtio"],
    "failover": [], "net_failover": ["failover"], "virtio_net": ["net_failover", "virtio"], "virtio_blk": ["virtio"],
    "virtio_rng": ["virtio"], "overlay": [], "libcrc32c": [], "erofs": ["libcrc32c"],
}  # fmt: skip


def test_the_order_of_debians_cloud_kernel() -> None:
    order = order_modules(
        wanted_modules("erofs"), available=VIRTIO, builtin={"ext4", "af_packet", "crc32c_generic"}, depends=VIRTIO.__getitem__
    )

    assert order[:3] == ("virtio_ring", "virtio", "virtio_mmio")
    assert order.index("net_failover") < order.index("virtio_net")
    assert order.index("libcrc32c") < order.index("erofs")
    assert "ext4" not in order


def test_the_root_file_system_is_asked_for_once() -> None:
    assert wanted_modules("erofs")[-1] == "erofs"
    assert wanted_modules("ext4").count("ext4") == 1


@given(st.integers(1, 12).flatmap(lambda n: st.lists(st.sets(st.integers(0, n - 1)), min_size=n, max_size=n)))
def test_every_module_comes_after_what_it_needs(needs: list[set[int]]) -> None:
    graph = {f"m{i}": [f"m{j}" for j in sorted(others) if j < i] for i, others in enumerate(needs)}

    order = order_modules(list(reversed(graph)), available=graph, builtin=(), depends=graph.__getitem__)

    assert sorted(order) == sorted(graph)
    assert all(order.index(other) < order.index(name) for name in graph for other in graph[name])


def test_a_missing_module_is_named_with_what_needs_it() -> None:
    with pytest.raises(HostError, match="no module lost, which erofs needs"):
        order_modules(["erofs"], available=["erofs"], builtin=(), depends=lambda name: ["lost"])


def test_a_module_that_some_kernels_do_without_may_be_missing() -> None:
    assert order_modules(["virtio_rng", "erofs"], available=["erofs"], builtin=(), depends=lambda name: []) == ("erofs",)


def test_a_circle_is_refused() -> None:
    with pytest.raises(HostError, match="a -> b -> a"):
        order_modules(["a"], available="ab", builtin=(), depends=lambda name: "b" if name == "a" else "a")


def test_depends_are_read_as_module_names() -> None:
    assert read_depends(make_module(b"license=GPL\0depends=virtio-ring,virtio\0name=x\0")) == ("virtio_ring", "virtio")
    assert read_depends(make_module(b"license=GPL\0depends=\0")) == ()


@given(st.binary(max_size=200), st.integers(0, 400))
def test_a_damaged_module_gives_an_error_or_names(modinfo: bytes, cut: int) -> None:
    module = make_module(modinfo)
    try:
        depends = read_depends(module[: max(len(module) - cut, 0)])
    except HostError:
        return
    assert all(isinstance(name, str) for name in depends)


def test_compressed_modules_are_decompressed_by_their_name() -> None:
    assert read_module(lzma.compress(b"module"), "kernel/fs/erofs/erofs.ko.xz") == b"module"
    assert read_module(b"module", "kernel/fs/erofs/erofs.ko") == b"module"
    with pytest.raises(HostError, match=r"erofs\.ko\.xz"):
        read_module(b"module", "kernel/fs/erofs/erofs.ko.xz")


def test_names_come_from_files() -> None:
    assert normalise_name("kernel/drivers/char/hw_random/virtio-rng.ko.xz") == "virtio_rng"
    assert builtin_modules("kernel/fs/ext4/ext4.ko\nkernel/lib/crc32-c.ko\n") == {"ext4", "crc32_c"}
    assert index_modules({"kernel/b/x.ko": b"", "kernel/a/x.ko": b""}) == {"x": "kernel/a/x.ko"}
