from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import HostError, InvalidInput
from volant.fledge.kernel.kconfig import MINIMAL_CONFIG, check_configuration, digest_options, read_options, write_options

MINIMAL = read_options(MINIMAL_CONFIG.read_text())

# What a guest of Volant's cannot do without, by what needs it.
REQUIRED = {
    "the machine": "64BIT SMP ACPI PVH PARAVIRT KVM_GUEST X86_X2APIC PCI RTC_DRV_CMOS",
    "its devices": "VIRTIO_MMIO VIRTIO_PCI VIRTIO_BLK VIRTIO_NET VIRTIO_CONSOLE VIRTIO_BALLOON HW_RANDOM_VIRTIO VIRTIO_VSOCKETS",
    "the console": "TTY SERIAL_8250 SERIAL_8250_CONSOLE UNIX98_PTYS PRINTK",
    "the boot": "BLK_DEV_INITRD DEVTMPFS TMPFS PROC_FS SYSFS EROFS_FS EROFS_FS_ZIP EROFS_FS_XATTR EROFS_FS_SECURITY",
    "its own disk": "EXT4_FS EXT4_FS_POSIX_ACL EXT4_FS_SECURITY OVERLAY_FS TMPFS_XATTR",
    "disks from elsewhere": "SQUASHFS SQUASHFS_ZLIB SQUASHFS_ZSTD SQUASHFS_XATTR ISO9660_FS VFAT_FS FUSE_FS",
    "the network": "NET INET IPV6 UNIX PACKET NETLINK_DIAG NF_TABLES NF_TABLES_INET NF_CONNTRACK NFT_NAT NFT_CT",
    "programs": "FUTEX EPOLL EVENTFD TIMERFD SIGNALFD AIO IO_URING INOTIFY_USER FANOTIFY POSIX_MQUEUE SYSVIPC",
    "interpreters": "BINFMT_ELF BINFMT_SCRIPT BINFMT_MISC BPF_SYSCALL",
    "containers": "CGROUPS MEMCG CPUSETS CGROUP_PIDS CGROUP_DEVICE USER_NS PID_NS NET_NS SECCOMP SECCOMP_FILTER KEYS PSI",
    "idle guests": "NO_HZ_IDLE HIGH_RES_TIMERS HZ_100 TRANSPARENT_HUGEPAGE_MADVISE",
}


def test_each_kind_of_line_is_read() -> None:
    text = (
        '# A comment\n\nCONFIG_SMP=y\nCONFIG_NR_CPUS=64\nCONFIG_START=0x100\nCONFIG_NAME="-volant"\n# CONFIG_MODULES is not set\n'
    )

    assert read_options(text) == {"SMP": "y", "NR_CPUS": "64", "START": "0x100", "NAME": '"-volant"', "MODULES": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CONFIG_SMP=m", "line 1 is no option"),
        ("CONFIG_SMP=n", "line 1 is no option"),
        ("\n CONFIG_SMP=y", "line 2 is no option"),
        ("CONFIG_SMP = y", "line 1 is no option"),
        ("SMP=y", "line 1 is no option"),
        ("#CONFIG_SMP is not set", "line 1 is no option"),
        ("# CONFIG_SMP is not", "line 1 is no option"),
        ("CONFIG_SMP=y\n# CONFIG_SMP is not set", "line 2 gives CONFIG_SMP again"),
    ],
)
def test_a_line_that_make_would_pass_over_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_options(text)


def test_order_and_comments_do_not_make_another_kernel() -> None:
    one = read_options("# one\nCONFIG_A=y\n# CONFIG_B is not set\n")
    other = read_options("# CONFIG_B is not set\n\nCONFIG_A=y\n")

    assert digest_options(one) == digest_options(other)
    assert digest_options(one) != digest_options({**one, "B": "y"})
    assert digest_options(one) != digest_options({"A": "y"})


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True), st.sampled_from(["y", "7", "0x1f", '"a b"', None])))
def test_what_is_written_is_read_again(options: dict[str, str | None]) -> None:
    assert read_options(write_options(options)) == options


def test_a_configuration_that_has_all_that_was_asked_for_is_right() -> None:
    check_configuration({"A": "y", "B": None, "C": '"x=y"'}, 'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="x=y"\nCONFIG_D=y\n')


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ("# CONFIG_A is not set\n", r"A \(asked y, got n\)"),
        ("CONFIG_AB=y\n", r"A \(asked y, got n\)"),
        ("CONFIG_A=m\n", r"A \(asked y, got m\)"),
        ("CONFIG_A=y\nCONFIG_B=y\n", r"B \(asked n, got y\)"),
    ],
)
def test_what_make_left_out_is_named(configuration: str, message: str) -> None:
    with pytest.raises(HostError, match=message):
        check_configuration({"A": "y", "B": None}, configuration)


def test_many_that_are_left_out_are_counted() -> None:
    with pytest.raises(HostError, match=r"O0 .* and 2 more"):
        check_configuration({f"O{number}": "y" for number in range(10)}, "")


@pytest.mark.parametrize("needed_by", REQUIRED)
def test_the_minimal_kernel_has_what_guests_need(needed_by: str) -> None:
    assert [name for name in REQUIRED[needed_by].split() if MINIMAL.get(name) != "y"] == []


def test_the_minimal_kernel_leaves_out_what_it_must() -> None:
    assert {name for name, value in MINIMAL.items() if value is None} >= {"MODULES", "RANDOMIZE_BASE", "MAGIC_SYSRQ", "DEBUG_FS"}
    assert MINIMAL["DEBUG_INFO_NONE"] == "y"
