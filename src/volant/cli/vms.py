"""``volar vms``: the group."""

from __future__ import annotations

import click

from volant.cli.lazy import Entry, LazyGroup


@click.group(
    cls=LazyGroup,
    entries={
        "create": Entry("volant.cli.vm_create:create", "Create a VM and wait until it is ready."),
        "list": Entry("volant.cli.vm_read:list_", "List VMs."),
        "get": Entry("volant.cli.vm_read:get", "Show one VM."),
        "start": Entry("volant.cli.vm_power:start", "Start VMs and wait until they are ready."),
        "stop": Entry("volant.cli.vm_power:stop", "Stop VMs in an orderly way."),
        "restart": Entry("volant.cli.vm_power:restart", "Stop VMs and start them again."),
        "delete": Entry("volant.cli.vm_power:delete", "Delete VMs, and their disks with them."),
        "logs": Entry("volant.cli.vm_output:logs", "Print what a workload wrote."),
        "exec": Entry("volant.cli.vm_exec:exec_", "Run a program beside the workload."),
        "console": Entry("volant.cli.vm_output:console", "Print what the serial console showed."),
    },
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar vms create web --plugin nginx
      volar vms list
      volar vms logs -f web
      volar vms delete web
    """,
)
def vms() -> None:
    """Create VMs, and do everything else with them."""
