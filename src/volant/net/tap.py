"""Taps: what a VM's network card is on the host (Linux, Documentation/networking/tuntap.rst). Runs in a NamespaceThread."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from volant.core.errors import HostError, WrongState

TUN_DEVICE = "/dev/net/tun"
# linux/if_tun.h
TUNSETIFF = 0x400454CA
TUNSETPERSIST = 0x400454CB
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
IFF_TUN_EXCL = 0x8000
ATTEMPTS = 3


def open_tap_device(name: str) -> int:
    """Make the tap ``name`` and return what holds it: it goes when the last copy of this descriptor is closed.

    Frames carry a virtio-net header. One of that name that nobody holds (a persistent one) is replaced.

    Raises:
        WrongState: somebody holds it, or another kind of interface has the name. HostError: the host has no taps.
    """
    for _ in range(ATTEMPTS):
        try:
            return _attach(name, IFF_TUN_EXCL)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EEXIST):
                raise _explain(name, error) from error
        try:
            stale = _attach(name, 0)
        except OSError as error:
            raise _explain(name, error) from error
        try:
            fcntl.ioctl(stale, TUNSETPERSIST, 0)
        finally:
            os.close(stale)
    raise WrongState(f"tap {name} is made again and again by somebody else")


def _attach(name: str, extra_flags: int) -> int:
    descriptor = os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | extra_flags)
        fcntl.ioctl(descriptor, TUNSETIFF, request)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _explain(name: str, error: OSError) -> HostError | WrongState:
    if error.errno == errno.EBUSY:
        return WrongState(f"tap {name} is held by a process", hint="the VM that it belongs to may still be ending")
    if error.errno == errno.EINVAL:
        return WrongState(f"an interface named {name} exists and is not a tap of ours", hint=f"ip link delete {name}")
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return HostError(f"this host has no {TUN_DEVICE}", hint="modprobe tun")
    return HostError(f"tap {name} cannot be made: {error.strerror}", hint="volantd needs to be root")
