"""The Cloud Hypervisor driver: one sandboxed, unprivileged process a VM under KVM, driven by its REST API on a UNIX socket."""

from __future__ import annotations

from volant.hypervisor.cloud_hypervisor.driver import CloudHypervisorDriver, find_binary, open_cloud_hypervisor

__all__ = ["CloudHypervisorDriver", "find_binary", "open_cloud_hypervisor"]
