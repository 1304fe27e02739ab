"""``volar run``."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import click

from volant.cli.failure import print_error, print_volant_error
from volant.cli.progress import show_progress
from volant.cli.run_follow import Foreground
from volant.cli.run_options import (
    CommandAfter,
    WorkloadChanges,
    publish_all,
    read_cpus,
    read_environment,
    read_memory,
    read_published,
    read_restart,
)
from volant.cli.run_source import RUN_LABEL, make_name, open_runnable
from volant.cli.session import Ended, Session, complete_plugins, pass_session
from volant.cli.signals import ended_by_signals
from volant.cli.vm_create import read_pairs
from volant.cli.vm_wait import Duration, follow_vm, tell_failure
from volant.client.client import Client
from volant.core.errors import InvalidInput, NotFound, VolantError
from volant.core.vm import VM

BY_LABEL = "volant.run-by"
DELETE_S = 120.0
DETACHED_READY_S = 120.0


@click.command(
    cls=CommandAfter,
    epilog="""
    \b
    Examples:
      volar run out/nginx
      volar run nginx:1.27 -p 8080:80
      volar run -it --rm alpine:3.20 sh
      volar run -d --name web -p 8080:80 -m 512m nginx:1.27
      volar run -e MODE=fast --cpus 0.5 .
      volar run --timeout 10m oci://registry.example.org/plugins/job:1.0
      echo hello | volar run -i alpine:3.20 wc -c

    Options stand before or after the image; from the first other word on all is the command, in the place of the image's own.
    Ctrl-C stops the VM in an orderly way; a second one does not wait for that. With -t, Ctrl-P Ctrl-Q leaves it running. What a
    volar that was killed left:

    \b
      volar vms list -l volant.run=yes -o wide
      volar vms list -l volant.run=yes -o name | xargs -r volar vms delete
      volar plugins list -o name | grep ^run-
    """,
)
@click.argument("artifact", metavar="ARTIFACT|IMAGE", shell_complete=complete_plugins)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--name", metavar="NAME", help="Of the VM, instead of one by chance.")
@click.option("-d", "--detach", is_flag=True, help="Print its name once it is ready, and leave it running.")
@click.option("-i", "--interactive", is_flag=True, help="Pass stdin to the workload.")
@click.option("-t", "--tty", is_flag=True, help="Run the workload on a terminal.")
@click.option("--rm/--keep", "remove", default=None, help="Delete VM and plugin when it ended; the default unless -d.")
@click.option("--cpus", type=float, metavar="CORES", help="Instead of what the plugin says; 0.5 is half of one.")
@click.option("-m", "--memory", metavar="SIZE", help="Instead of what the plugin says: 512m, 1g, or MiB as a number.")
@click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="Added to the workload's environment; may be repeated.")
@click.option("--env-file", multiple=True, metavar="FILE", help="Lines of KEY=VALUE; may be repeated.")
@click.option("-l", "--label", multiple=True, metavar="KEY=VALUE", help="To find the VM by; may be repeated.")
@click.option(
    "-p", "--publish", multiple=True, metavar="[HOST:]GUEST", help="Lead a port of the host to one of it; may be repeated."
)
@click.option("-P", "--publish-all", is_flag=True, help="Lead a free port of the host to each that the image exposes.")
@click.option("-u", "--user", default="", help="Instead of the workload's: name, uid or uid:gid.")
@click.option("-w", "--workdir", default="", help="Instead of the workload's.")
@click.option("--entrypoint", metavar="PROGRAM", help="Instead of the image's; the command's words follow it.")
@click.option("--restart", metavar="POLICY", help="no, always, on-failure or on-failure:5. Unless said: no.")
@click.option("-v", "--volume", multiple=True, hidden=True, help="Refused: there are no volumes yet.")
@click.option("--timeout", type=Duration(), metavar="DURATION", help="Stop it when it runs for longer, and end with 124.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing but what the workload writes, and errors.")
@pass_session
def run(
    session: Session,
    /,
    artifact: str,
    command: tuple[str, ...],
    name: str | None,
    detach: bool,
    interactive: bool,
    tty: bool,
    remove: bool | None,
    cpus: float | None,
    memory: str | None,
    env: tuple[str, ...],
    env_file: tuple[str, ...],
    label: tuple[str, ...],
    publish: tuple[str, ...],
    publish_all: bool,
    user: str,
    workdir: str,
    entrypoint: str | None,
    restart: str | None,
    volume: tuple[str, ...],
    timeout: float | None,
    quiet: bool,
) -> None:
    """Boot ARTIFACT or IMAGE once: what its workload writes comes here, and its exit code is the end.

    ARTIFACT is a directory that fledge build wrote or its manifest.json, the name of an installed plugin, or oci://HOST/NAME:TAG.
    IMAGE is anything else that fledge build takes: an image, an OCI layout, a Dockerfile, a directory with one or with a
    fledge.toml; it is built first, from what was built before where that is the same.

    The root is ephemeral, nothing is started again, and at the end VM and plugin are gone, unless they were there before.
    """
    if detach and (remove or interactive or tty or timeout):
        raise InvalidInput("-d leaves the VM running, and nobody stays for -i, -t, --rm or --timeout", hint="leave one out")
    if volume:
        raise InvalidInput("volumes are not offered yet", field="--volume", hint="copy files in: volar vms cp DIR NAME:/path")
    policy, max_restarts = read_restart(restart or "no")
    changes = WorkloadChanges(
        command=(entrypoint, *command) if entrypoint else command,
        user=user, workdir=workdir, tty=tty, stdin=interactive, max_restarts=max_restarts,
    )  # fmt: skip
    wanted: dict[str, Any] = {"root": "ephemeral", "restart_policy": policy, "auto_suspend_s": 0}
    wanted |= read_cpus(cpus) if cpus is not None else {}
    wanted |= {"memory_mb": read_memory(memory)} if memory is not None else {}
    wanted |= {"env": found} if (found := read_environment(env, env_file)) else {}
    wanted |= {"ports": read_published(publish)} if publish else {}
    labels = {RUN_LABEL: "yes", BY_LABEL: f"{socket.gethostname()}:{os.getpid()}"}
    keep = detach if remove is None else not remove
    client = session.client
    client.system.health()  # before anything is built or sent
    with ended_by_signals(), open_runnable(client, artifact, changes, keep=keep, quiet=quiet) as runnable:
        plugin = runnable.plugin
        wanted |= {
            "name": name or (plugin.name if RUN_LABEL in plugin.meta.labels else make_name(plugin.name)),
            "plugin": plugin.name, "labels": labels | (read_pairs(label, "--label") if label else {}),
            # A template of what is gone tomorrow would be for nobody.
            "start": "cold" if runnable.is_brought else "auto",
        }  # fmt: skip
        if publish_all:
            wanted["ports"] = [*wanted.get("ports", []), *_expose_all(client, plugin.name)]
        if detach:
            code = _run_detached(client, wanted, quiet=quiet)
        else:
            code = _run_once(client, wanted, timeout, keep=keep, quiet=quiet, interactive=interactive, tty=tty)
    sys.stdout.flush()
    raise Ended(code)


def _expose_all(client: Client, plugin: str) -> list[dict[str, int]]:
    return publish_all(client.plugins.manifest(plugin))


def _run_detached(client: Client, wanted: dict[str, Any], *, quiet: bool) -> int:
    vm = client.vms.create(wanted)
    with show_progress(quiet=quiet) as say:
        followed = follow_vm(client, vm, "ready", DETACHED_READY_S, say)
    if followed is None:
        raise NotFound(f"{vm.name} was deleted in the meantime")
    if not followed.status.ready:
        return tell_failure(client, followed)
    if not quiet:
        click.echo(f"{vm.name} runs{_describe_ports(vm)}; its end: volar vms delete {vm.name}", err=True)
    click.echo(vm.name)
    return 0


def _run_once(
    client: Client, wanted: dict[str, Any], timeout_s: float | None, *, keep: bool, quiet: bool, interactive: bool, tty: bool
) -> int:
    foreground = Foreground(client)
    with foreground.stoppable():
        vm = client.vms.create(wanted)
        if not quiet:
            click.echo(f"{vm.name} starts from {vm.spec.plugin}" + _describe_ports(vm), err=True)
        stays = False
        try:
            if not (interactive or tty):
                return foreground.follow(vm, timeout_s)
            from volant.cli.run_attach import attach_until_ended

            code = attach_until_ended(client, vm, stdin=interactive, tty=tty, timeout_s=timeout_s)
            stays = code is None
            if stays:
                click.echo(f"detached; {vm.name} goes on. Come back: volar vms attach {vm.name}", err=True)
            return code or 0
        finally:
            if not keep and not stays:
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
