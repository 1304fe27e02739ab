"""``volar vms shell``."""

from __future__ import annotations

import click

from volant.cli.session import Session, complete_vms, pass_session

SCRIPT = "if [ -x /bin/bash ]; then exec /bin/bash -l; fi; exec /bin/sh -l"


@click.command(
    epilog="""
    \b
    Examples:
      volar vms shell web
      volar vms shell -u www-data web
      echo 'uname -a; exit' | volar vms shell web

    bash where the guest has it, else sh. The exit code is the shell's; ending it ends nothing else.
    """
)
@click.argument("name", shell_complete=complete_vms)
@click.option("-u", "--user", default="", help="Instead of the workload's: name, uid or uid:gid.")
@click.option("-w", "--workdir", default="", help="Instead of the workload's.")
@click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="Added to the workload's environment; may be repeated.")
@pass_session
def shell(session: Session, name: str, user: str, workdir: str, env: tuple[str, ...]) -> None:
    """Open a shell in the VM NAME, on a terminal of its own when this end is one."""
    from volant.cli.conversation import converse
    from volant.cli.terminal import is_terminal, read_size
    from volant.cli.vm_exec import end_as, read_environment
    from volant.core.errors import InvalidInput

    tty = is_terminal(0)
    environment = read_environment(env)
    argv = ("/bin/sh", "-c", SCRIPT) if tty else ("/bin/sh",)
    size = read_size() if tty else None
    running = session.client.vms.exec(name, argv, env=environment, user=user, workdir=workdir, stdin=True, tty=size)
    with running:
        try:
            converse(running, stdin=True, raw=tty)
        except InvalidInput as error:
            if error.field != "argv":
                raise
            raise InvalidInput(
                f"the VM {name} has no shell: /bin/sh is not there", hint=f"run what it has: volar vms exec {name} -- PROGRAM"
            ) from error
    end_as(running)
