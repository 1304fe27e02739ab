"""``volar``: the root of the operator's command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from volant.cli.colour import choose_colour
from volant.cli.failure import BAD_INPUT, FAILED, exit_code_of, print_error, print_volant_error
from volant.cli.lazy import Entry, LazyGroup
from volant.cli.session import Ended, Session
from volant.core.errors import VolantError

INTERRUPTED = 130


@click.group(
    cls=LazyGroup,
    entries={
        "doctor": Entry("volant.cli.doctor:doctor", "Check the host: what works, and what to do about the rest."),
        "plugins": Entry("volant.cli.plugins:plugins", "Install, list, show and remove plugins."),
        "apply": Entry("volant.cli.apply:apply", "Have resources be as files say."),
        "diff": Entry("volant.cli.diff:diff", "Show what applying files would change."),
        "delete": Entry("volant.cli.delete_files:delete", "Delete what files describe."),
        "run": Entry("volant.cli.run_vm:run", "Boot an artifact or an image once, in the foreground."),
        "vms": Entry("volant.cli.vms:vms", "Create VMs, and do everything else with them."),
        "deployments": Entry("volant.cli.deployments:deployments", "Keep a number of VMs alike, and roll out changes."),
        "jobs": Entry("volant.cli.jobs:jobs", "Run VMs to their end: so many times, with retries and a deadline."),
        "cron": Entry("volant.cli.cron_jobs:cron", "Run jobs by the clock, as crontab(5) writes it."),
        "snapshots": Entry("volant.cli.snapshots:snapshots", "Keep what a VM is at one moment, and go back to it."),
        "templates": Entry("volant.cli.templates:templates", "Look after what VMs start from without a boot."),
        "networks": Entry("volant.cli.networks:networks", "Make and remove the networks that VMs have their cards in."),
        "nodes": Entry("volant.cli.nodes:nodes", "Look at the hosts that run VMs, and say what may be placed on each."),
        "quotas": Entry("volant.cli.quotas:quotas", "Limit what a project may have."),
        "pools": Entry("volant.cli.pools:pools", "Keep clones ready to be taken."),
        "top": Entry("volant.cli.vm_top:top", "Show what VMs use, the busiest first, again and again."),
        "events": Entry("volant.cli.events:events", "Show what happened, and follow it."),
        "context": Entry("volant.cli.contexts:context", "Work with several volantds."),
        "completion": Entry("volant.cli.completion:completion", "Print what a shell needs to complete commands and names."),
        "setup": Entry("volant.cli.setup:setup", "Make this host ready to run Volant in production."),
        "system": Entry("volant.cli.system:system", "Look at volantd as a whole, and drain its host."),
        "version": Entry("volant.cli.system:version", "Print the versions of volar and volantd."),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar doctor
      volar plugins install out/nginx/manifest.json
      volar vms create web --plugin nginx
      volar vms exec web -- nginx -v

    \b
    Exit codes: 0 done, 1 failed, 2 bad input, 3 not found, 4 conflict.
    """,
)
@click.option(
    "--api",
    metavar="ADDRESS",
    help="Where volantd answers: unix:///path or http://127.0.0.1:PORT; otherwise $VOLANT_API, or /run/volant/volantd.sock.",
)
@click.option("--context", metavar="NAME", help="One of volar context list; otherwise $VOLANT_CONTEXT, or the one in use.")
@click.option(
    "--color",
    "colour",
    type=click.Choice(("auto", "always", "never")),
    default="auto",
    help="auto: on terminals, unless $NO_COLOR.",
)
@click.pass_context
def volar(ctx: click.Context, api: str | None, context: str | None, colour: str) -> None:
    """MicroVMs as easy as containers."""
    ctx.color = choose_colour(colour)
    ctx.obj = Session(api, context)


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code. Nothing foreseeable leaves a traceback."""
    try:
        ended = volar.main(args=list(arguments), prog_name="volar", standalone_mode=False)
        sys.stdout.flush()
    except Ended as end:
        return end.exit_code
    except VolantError as error:
        print_volant_error(error)
        return exit_code_of(error)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return BAD_INPUT
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "volar"
        print_error(error.format_message(), f"{where} --help")
        return BAD_INPUT
    except click.ClickException as error:
        print_error(error.format_message())
        return FAILED
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; Python would complain again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return ended if isinstance(ended, int) else 0


def main() -> None:
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
