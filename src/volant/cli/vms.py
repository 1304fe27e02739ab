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
        "set": Entry("volant.cli.vm_set:set_", "Change how a VM is configured."),
        "scale": Entry("volant.cli.vm_set:scale", "Give a VM another size."),
        "label": Entry("volant.cli.vm_set:label", "Label a VM, and take labels away."),
        "config": Entry("volant.cli.vm_config:config", "Show and change configurations, with their history."),
        "inspect": Entry("volant.cli.vm_inspect:inspect", "Show all that there is of a VM, and how it is kept in."),
        "start": Entry("volant.cli.vm_power:start", "Start VMs and wait until they are ready."),
        "stop": Entry("volant.cli.vm_power:stop", "Stop VMs in an orderly way."),
        "restart": Entry("volant.cli.vm_power:restart", "Stop VMs and start them again."),
        "suspend": Entry("volant.cli.vm_power:suspend", "Save VMs to disk and free their memory."),
        "resume": Entry("volant.cli.vm_power:resume", "Let suspended VMs go on."),
        "fork": Entry("volant.cli.vm_fork:fork", "Make new VMs that go on from where one is."),
        "delete": Entry("volant.cli.vm_power:delete", "Delete VMs, and their disks with them."),
        "wait": Entry("volant.cli.vm_wait_for:wait", "Wait until VMs are what they shall be."),
        "stats": Entry("volant.cli.vm_stats:stats", "Show what VMs use: processor and memory, their own and shared."),
        "logs": Entry("volant.cli.vm_logs:logs", "Print what a workload wrote."),
        "exec": Entry("volant.cli.vm_exec:exec_", "Run a program beside the workload."),
        "shell": Entry("volant.cli.vm_shell:shell", "Open a shell in a VM."),
        "attach": Entry("volant.cli.vm_attach:attach", "See what a workload prints from now on, and type to it."),
        "operations": Entry("volant.cli.vm_operations:operations", "List the operations of a workload's own API."),
        "call": Entry("volant.cli.vm_call:call", "Ask an operation of a workload, or anything else of it over HTTP."),
        "actions": Entry("volant.cli.vm_action:actions", "List the actions that a VM's plugin has."),
        "action": Entry("volant.cli.vm_action:action", "Ask an action of a workload."),
        "console": Entry("volant.cli.vm_console:console", "Print what the serial console showed, or type at it."),
        "cp": Entry("volant.cli.vm_copy:copy", "Copy files into a VM or out of it."),
        "port-forward": Entry("volant.cli.vm_forward:port_forward", "Make ports of a VM reachable from here."),
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
