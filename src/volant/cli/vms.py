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
        "suspend": Entry("volant.cli.vm_power:suspend", "Save VMs to disk and free their memory."),
        "resume": Entry("volant.cli.vm_power:resume", "Let suspended VMs go on."),
        "fork": Entry("volant.cli.vm_fork:fork", "Make new VMs that go on from where one is."),
        "delete": Entry("volant.cli.vm_power:delete", "Delete VMs, and their disks with them."),
        "stats": Entry("volant.cli.vm_stats:stats", "Show what VMs use: processor and memory, their own and shared."),
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
