"""VMs under a real Cloud Hypervisor: ``VOLANT_TEST_CLOUD_HYPERVISOR=/path/to/it``, on a host where KVM works.

What the driver asks of it, and in which order, is tested everywhere against its API's description (tests/contract/hypervisor).
"""

from __future__ import annotations

import json

import pytest

from .conftest import CLOUD_HYPERVISOR
from .daemon import Daemon

real = pytest.mark.skipif(
    not CLOUD_HYPERVISOR, reason="needs a real Cloud Hypervisor and KVM: set VOLANT_TEST_CLOUD_HYPERVISOR to its path"
)


@pytest.fixture
def both(daemon: Daemon) -> Daemon:
    """volantd as it is set up without a word about hypervisors."""
    daemon.stop()
    daemon.start("--cloud-hypervisor-binary", CLOUD_HYPERVISOR)
    return daemon


@real
def test_a_vm_lives_under_it(both: Daemon) -> None:
    vm = json.loads(both.volar("vms", "create", "web", "--plugin", "nginx", "--json").stdout)
    assert (vm["status"]["hypervisor"], vm["status"]["isolation"]) == ("cloud-hypervisor", "hardware")
    assert b"nginx" in both.fetch(vm)
    assert both.volar("vms", "exec", "web", "--", "sh", "-c", "exit 7", check=False).returncode == 7
    assert both.volar("vms", "console", "web").stdout
    pid = vm["status"]["pid"]
    both.kill()
    both.start("--cloud-hypervisor-binary", CLOUD_HYPERVISOR)
    vm = both.wait_vm("web", lambda found: found["status"]["ready"])
    assert vm["status"]["pid"] == pid, "it outlives volantd"
    both.volar("vms", "suspend", "web")
    both.volar("vms", "resume", "web")
    assert b"nginx" in both.fetch(both.wait_vm("web", lambda found: found["status"]["ready"]))
    both.volar("vms", "exec", "web", "--", "sh", "-c", "echo b > /proc/sysrq-trigger", check=False)
    vm = both.wait_vm("web", lambda found: found["status"]["restarts"] == 1 and found["status"]["ready"])
    assert vm["status"]["last_end"]["kind"] == "reset"
    both.volar("vms", "stop", "web")
    assert both.vm("web")["status"]["last_end"]["kind"] == "powered_off"


@real
def test_a_vm_may_ask_for_the_other(both: Daemon) -> None:
    both.volar("vms", "create", "web", "--plugin", "nginx")
    both.volar("vms", "stop", "web")
    both.volar("vms", "config", "set", "web", "hypervisor=qemu")
    both.volar("vms", "start", "web")
    assert both.wait_vm("web", lambda found: found["status"]["ready"])["status"]["hypervisor"] == "qemu"


def test_a_host_without_it_says_so_and_takes_qemu(daemon: Daemon) -> None:
    if CLOUD_HYPERVISOR:
        pytest.skip("this host has one")
    checks = {check["name"]: check for check in json.loads(daemon.volar("doctor", "--json", check=False).stdout)["items"]}
    assert checks["hypervisor"]["message"].startswith("qemu ")
    assert checks["cloud-hypervisor"]["message"] == "not used: there is no cloud-hypervisor here"
    daemon.volar("vms", "create", "web", "--plugin", "nginx")
    assert daemon.vm("web")["status"]["hypervisor"] == "qemu"
    daemon.volar("vms", "stop", "web")
    daemon.volar("vms", "config", "set", "web", "hypervisor=cloud-hypervisor")
    daemon.volar("vms", "start", "web", "--no-wait", check=False)
    said = daemon.wait_vm("web", lambda found: "cloud-hypervisor" in found["status"]["message"])["status"]["message"]
    assert "this host has no cloud-hypervisor: there is no cloud-hypervisor here" in said
    daemon.volar("vms", "config", "set", "web", "hypervisor=auto")
    assert daemon.wait_vm("web", lambda found: found["status"]["ready"])["status"]["hypervisor"] == "qemu"
