"""``volar deployments``: the group."""

from __future__ import annotations

import click

from volant.cli.lazy import Entry, LazyGroup


@click.group(
    cls=LazyGroup,
    entries={
        "list": Entry("volant.cli.deployment_read:list_", "List deployments."),
        "get": Entry("volant.cli.deployment_read:get", "Show one deployment and its VMs."),
        "create": Entry("volant.cli.deployment_create:create", "Create a deployment."),
        "update": Entry("volant.cli.deployment_update:update", "Change a deployment; its VMs follow as its strategy says."),
        "diff": Entry("volant.cli.deployment_update:diff", "Show what a change would make, change and remove."),
        "scale": Entry("volant.cli.deployment_scale:scale", "Say how many VMs there are to be."),
        "rollout": Entry("volant.cli.deployment_rollout:rollout", "Follow, pause, undo and restart rollouts."),
        "delete": Entry("volant.cli.deployment_scale:delete", "Delete deployments, and their VMs with them."),
    },
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar deployments create web --plugin nginx --replicas 3 --publish 8080:80
      volar deployments update web --memory 512
      volar deployments rollout status web
      volar deployments scale web 5
    """,
)
def deployments() -> None:
    """Keep a number of VMs of one description, and roll out another."""
