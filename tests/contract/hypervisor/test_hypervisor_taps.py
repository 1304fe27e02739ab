"""What passes through a tap is read from wherever it hangs."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from volant.hypervisor.taps import parse_devices, read_tap_counters

CLONE_NEWNET = 0x40000000
TUNSETIFF, SIOCGIFFLAGS, SIOCSIFFLAGS = 0x400454CA, 0x8913, 0x8914
IFF_TAP, IFF_NO_PI, IFF_UP = 0x0002, 0x1000, 0x1

FRAME = bytes.fromhex("ffffffffffff52540000000188b5") + bytes(86)


@pytest.fixture
def tap() -> Iterator[tuple[str, int]]:
    """A tap that is up, in a network namespace that only its descriptor keeps."""
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        pytest.skip("needs root and /dev/net/tun")
    name = "vt-counted"
    opened: list[int] = []

    def make() -> None:
        assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        opened.append(descriptor)
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), IFF_UP))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    yield name, opened[0]
    os.close(opened[0])


def test_a_tap_is_counted_as_its_guest_sees_it(tap: tuple[str, int]) -> None:
    name, descriptor = tap
    before = read_tap_counters(os.getpid(), [name])[name]
    for _ in range(3):
        os.write(descriptor, FRAME)
    found = read_tap_counters(os.getpid(), [name, "vt-other"])
    assert set(found) == {name}
    assert found[name].sent_packets - before.sent_packets == 3
    assert found[name].sent_bytes - before.sent_bytes == 3 * len(FRAME)


def test_what_is_not_there_is_left_out(tap: tuple[str, int]) -> None:
    assert read_tap_counters(os.getpid(), ["vt-other"]) == {}
    assert read_tap_counters(os.getpid(), []) == {}
    assert read_tap_counters(2**22 - 1, [tap[0]]) == {}


def test_the_kernels_table_is_read_with_suspicion() -> None:
    text = "Inter-|   Receive\n face |bytes\n  vt0: 10 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0\nvt1: 1\nlo: 5 5 0 0 0 0 0 0 5 5 0\n"
    found = parse_devices(text, ["vt0", "vt1"])
    assert {name: (one.sent_bytes, one.received_bytes) for name, one in found.items()} == {"vt0": (10, 20)}
