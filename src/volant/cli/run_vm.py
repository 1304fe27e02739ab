"""``volar run``."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import click

from volant.cli.failure import print_error, print_volant_error
from volant.cli.run_follow import Foreground
from volant.cli.run_source import RUN_LABEL, make_name, open_runnable
from volant.cli.session import Ended, Session, complete_plugins, pass_session
from volant.cli.signals import ended_by_signals
from volant.cli.vm_create import read_pairs, read_ports
from volant.cli.vm_wait import Duration
from volant.client.client import Client
from volant.core.errors import NotFound, VolantError
from volant.core.vm import VM

BY_LABEL = "volant.run-by"
DELETE_S = 120.0


@click.command(
    epilog="""
    \b
    Examples:
      volar run out/nginx
      volar run nginx:1.27 -p 8080:80
      volar run . -e MODE=fast --memory 512
      volar run oci://registry.example.org/plugins/job:1.0 --timeout 10m
      volar run nginx -- nginx -V

    Ctrl-C stops the VM in an orderly way; a second one does not wait for that. What a volar that was killed left behind:

    \b
      volar vms list -l volant.run=yes -o wide
      volar vms list -l volant.run=yes -o name | xargs -r volar vms delete
      volar plugins list -o name | grep ^run-
    """
)
@click.argument("artifact", metavar="ARTIFACT|IMAGE", shell_complete=complete_plugins)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--name", metavar="NAME", help="Of the VM, instead of one by chance.")
@click.option("--cpus", "cpu_cores", type=int, metavar="CORES", help="Instead of what the plugin says.")
@click.option("--memory", "memory_mb", type=int, metavar="MIB", help="Instead of what the plugin says.")
@click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="Added to the workload's environment; may be repeated.")
@click.option(
    "-p", "--publish", multiple=True, metavar="HOST:GUEST", help="Lead a port of the host to one of it; may be repeated."
)
@click.option("--keep", is_flag=True, help="Leave the VM and its plugin when it has ended.")
@click.option("--timeout", type=Duration(), metavar="DURATION", help="Stop it when it runs for longer, and end with 124.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing but what the workload writes, and errors.")
@pass_session
def run(
    session: Session,
    /,
    artifact: str,
    command: tuple[str, ...],
    name: str | None,
    env: tuple[str, ...],
    publish: tuple[str, ...],
    keep: bool,
    timeout: float | None,
    quiet: bool,
    **sizes: int | None,
) -> None:
    """Boot ARTIFACT or IMAGE once, in the foreground: what its workload writes comes here, and its exit code is the end.

    ARTIFACT is a directory that fledge build wrote or its manifest.json, the name of an installed plugin, or oci://HOST/NAME:TAG.
    IMAGE is anything else that fledge build takes: an image, an OCI layout, a Dockerfile, a directory with one or with a
    fledge.toml; it is built first. A COMMAND after -- runs in the place of the workload.

    The root is ephemeral, nothing is started again, and at the end VM and plugin are gone, unless they were there before.
    """
    wanted: dict[str, Any] = {key: value for key, value in sizes.items() if value is not None}
    wanted |= {"env": read_pairs(env, "--env")} if env else {}
    wanted |= {"ports": read_ports(publish)} if publish else {}
    client = session.client
    client.system.health()  # before anything is built or sent
    with ended_by_signals(), open_runnable(client, artifact, command, keep=keep, quiet=quiet) as found:
        plugin = found.plugin
        wanted |= {
            "name": name or (plugin.name if RUN_LABEL in plugin.meta.labels else make_name(plugin.name)),
            "plugin": plugin.name, "root": "ephemeral", "restart_policy": "never",
            "auto_suspend_s": 0, "labels": {RUN_LABEL: "yes", BY_LABEL: f"{socket.gethostname()}:{os.getpid()}"},
            # A template of what is gone tomorrow would be for nobody.
            "start": "cold" if found.is_brought else "auto",
        }  # fmt: skip
        code = _run_once(client, wanted, timeout, keep=keep, quiet=quiet)
    sys.stdout.flush()
    raise Ended(code)


def _run_once(client: Client, wanted: dict[str, Any], timeout_s: float | None, *, keep: bool, quiet: bool) -> int:
    foreground = Foreground(client)
    with foreground.stoppable():
        vm = client.vms.create(wanted)
        if not quiet:
            click.echo(f"{vm.name} starts from {vm.spec.plugin}" + _describe_ports(vm), err=True)
        try:
            return foreground.follow(vm, timeout_s)
        finally:
            if not keep:
                _delete(client, vm)


def _describe_ports(vm: VM) -> str:
    return "".join(f", port {port.host_port} leads to its {port.port}" for port in vm.spec.ports or ())


def _delete(client: Client, vm: VM) -> None:
    try:
        client.vms.delete(vm.name, wait=True, timeout_s=DELETE_S)
    except NotFound:
        return
    except VolantError as error:
        print_volant_error(error)
        print_error(f"{vm.name} is still there", f"volar vms delete {vm.name}")
