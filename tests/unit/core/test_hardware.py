from __future__ import annotations

from pathlib import Path

import pytest

from volant.core.hardware import Gpu, Hardware, find_lack, read_architecture, read_cpu_features
from volant.core.node import NodeStatus

HERE = NodeStatus(architecture="x86_64", cpu_features=("avx2", "sse2"))


def test_nothing_asked_for_is_had_everywhere() -> None:
    assert find_lack(Hardware(), HERE) is None
    assert find_lack(Hardware(), NodeStatus()) is None


def test_what_the_host_has_is_given() -> None:
    assert find_lack(Hardware(architecture="x86_64", cpu_features=("AVX2",)), HERE) is None


@pytest.mark.parametrize(
    ("wanted", "field", "said"),
    [
        (Hardware(architecture="aarch64"), "hardware.architecture", "this host is x86_64"),
        (Hardware(cpu_features=("avx2", "amx_tile")), "hardware.cpu_features", "no amx_tile"),
        (Hardware(hugepages="2M"), "hardware.hugepages", "hugepages"),
        (Hardware(nested=True), "hardware.nested", "nested"),
        (Hardware(confidential="tdx"), "hardware.confidential", "confidential"),
        (Hardware(tpm=True), "hardware.tpm", "tpm"),
        (Hardware(gpus=(Gpu(),)), "hardware.gpus", "gpus"),
    ],
)
def test_what_it_lacks_is_named(wanted: Hardware, field: str, said: str) -> None:
    lack = find_lack(wanted, HERE)
    assert lack is not None
    assert lack.field == field
    assert said in lack.reason


def test_the_processor_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu AVX2 sse2\n\nprocessor\t: 1\nflags\t\t: other\n")
    assert read_cpu_features(cpuinfo) == ("avx2", "fpu", "sse2")
    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert read_cpu_features(cpuinfo) == ("asimd", "fp")
    assert read_cpu_features(tmp_path / "none") == ()
    assert read_architecture("arm64") == "aarch64"
