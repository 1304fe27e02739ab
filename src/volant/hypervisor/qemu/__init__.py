"""The QEMU driver: one sandboxed, unprivileged process a VM, under KVM where that is proven to work and emulated elsewhere."""

from __future__ import annotations

from volant.hypervisor.qemu.driver import Accelerators, QemuDescription, QemuDriver, open_qemu

__all__ = ["Accelerators", "QemuDescription", "QemuDriver", "open_qemu"]
