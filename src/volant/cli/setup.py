"""``volar setup``: make a host ready for production, and take it all away again."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import click

from volant.cli.setup_files import MANUALS, SYSCTL, UNIT, Options, Wanted, list_completions, list_directories, list_files
from volant.cli.setup_plan import RECORD, Host, Step, carry_out, plan_removal, plan_setup, remove
from volant.core.errors import CommandFailed, Forbidden, InvalidInput, WrongState
from volant.run import run

GROUP = "volant"
COMMAND_S = 60.0
START_S = 180.0


@click.command(
    epilog="""
    \b
    Examples:
      volar setup --dry-run
      volar setup
      volar setup --subnet 10.80.0.0/16 --no-start
      volar setup --uninstall
      volar setup --root /mnt/image --no-start

    It makes the group volant, directories, a systemd unit, sysctls, completions and manual pages, writes down in
    /etc/volant/setup.json what it made, and changes nothing that is somebody else's. Run again, it only mends.
    """
)
@click.option("--data-dir", "--work-dir", default="/var/lib/volant", show_default=True, help="What lasts.")
@click.option("--runtime-dir", default="/run/volant", show_default=True, help="Sockets; below /run.")
@click.option("--subnet", default="192.168.127.0/24", show_default=True, help="Of the default network.")
@click.option("--bridge", default="vbr0", show_default=True, help="Of the default network.")
@click.option("--service-file", default=UNIT, show_default=True, help="The systemd unit; empty for none.")
@click.option("--root", default="/", type=click.Path(path_type=Path), help="Set up a file system that is mounted there.")
@click.option("--no-start", is_flag=True, help="Start nothing now.")
@click.option("--dry-run", is_flag=True, help="Say every step and do none.")
@click.option("--uninstall", is_flag=True, help="Take away what setup made, and only that; VMs and their data stay.")
@click.option("--purge", is_flag=True, help="With --uninstall: the data directory too, with every VM's disk.")
@click.option("--yes", is_flag=True, help="Ask nothing.")
def setup(
    data_dir: str,
    runtime_dir: str,
    subnet: str,
    bridge: str,
    service_file: str,
    root: Path,
    no_start: bool,
    dry_run: bool,
    uninstall: bool,
    purge: bool,
    yes: bool,
) -> None:
    """Make this host ready to run Volant in production."""
    options = _check(Options(data_dir, runtime_dir, subnet, bridge, service_file), root, dry_run=dry_run)
    if purge and not uninstall:
        raise InvalidInput("--purge goes with --uninstall", hint="volar setup --uninstall --purge")
    host = Host(root.absolute())
    if uninstall:
        _uninstall(host, purge=purge, yes=yes, dry_run=dry_run)
    else:
        _install(host, options, start=not no_start, dry_run=dry_run)


def _check(options: Options, root: Path, *, dry_run: bool) -> Options:
    from volant.core.address import check_bridge_name, parse_subnet

    parse_subnet(options.subnet)
    check_bridge_name(options.bridge)
    for field, path in (("data-dir", options.data_dir), ("runtime-dir", options.runtime_dir)):
        if not path.startswith("/") or any(c.isspace() or c in '"\\%' for c in path):
            raise InvalidInput(f"{path[:80]!r} is not an absolute path without blanks", field=field)
    if not options.runtime_dir.startswith("/run/"):
        raise InvalidInput("systemd makes it below /run", field="runtime-dir", hint="leave it, or --service-file ''")
    if not root.is_dir():
        raise InvalidInput(f"{root} is no directory", field="root")
    if os.geteuid() != 0 and not dry_run:
        raise Forbidden("only root can set a host up", hint="sudo volar setup, or look first: volar setup --dry-run")
    return options


def _install(host: Host, options: Options, *, start: bool, dry_run: bool) -> None:
    record = host.read_record()
    files = [*list_files(options), *list_completions(), *_make_manuals()]
    steps, in_the_way = plan_setup(host, record, list_directories(options), files)
    if in_the_way:
        raise WrongState("; ".join(in_the_way), hint="move it away, then run volar setup again; nothing was changed")
    is_new_group = not _has_group(host)
    if is_new_group:
        click.echo(f"make    the group {GROUP}: its members may use volantd")
    _print_steps(steps)
    commands = _list_commands(host, options, start=start)
    for command in commands:
        click.echo(f"run     {' '.join(command)}")
    if dry_run:
        click.echo("nothing was done: this was --dry-run")
        return
    record.data_dir = options.data_dir
    if is_new_group:
        record.group = True
        _run(["groupadd", "--system", *_prefix(host), GROUP])
    carry_out(host, record, steps)
    failed = [command for command in commands if not _try(command)]
    if failed:
        raise WrongState(
            f"{len(failed)} of the commands failed; the files are in place", hint="mend what they say, and run it again"
        )
    _print_next(host, options, started=any("enable" in command for command in commands))


def _uninstall(host: Host, *, purge: bool, yes: bool, dry_run: bool) -> None:
    if not host.at(RECORD).exists():
        raise WrongState(f"there is no {host.at(RECORD)}", hint="volar setup made nothing here, or its record is gone")
    record = host.read_record()
    steps = plan_removal(host, record, purge=purge)
    unit = next((path for path in record.files if path.endswith(".service")), "")
    commands = [["systemctl", "disable", "--now", Path(unit).name]] if unit and _runs_systemd(host) else []
    for command in commands:
        click.echo(f"run     {' '.join(command)}")
    _print_steps(steps)
    if record.group:
        click.echo(f"remove  the group {GROUP}")
    if dry_run:
        click.echo("nothing was done: this was --dry-run")
        return
    if purge and not yes:
        if not sys.stdin.isatty():
            raise InvalidInput("--purge removes every VM's disk", hint="say --yes if that is meant")
        click.confirm(f"Remove {host.at(record.data_dir)} with every VM's disk?", abort=True)
    for command in commands:
        _try(command)
    remove(host, record, steps, purge=purge)
    if record.group:
        _try(["groupdel", *_prefix(host), GROUP])
    if _runs_systemd(host):
        _try(["systemctl", "daemon-reload"])
    click.echo("Volant is no longer set up here")


def _make_manuals() -> list[Wanted]:
    """The pages of all programs; made by a process of its own, since this one knows volar's commands only."""
    with tempfile.TemporaryDirectory(prefix="volant-man-") as directory:
        _run([sys.executable, "-m", "volant.manual", directory])
        pages = sorted(Path(directory).glob("*.1"))
        return [Wanted(f"{MANUALS}/{page.name}", page.read_text(encoding="utf-8"), "manual page") for page in pages]


def _list_commands(host: Host, options: Options, *, start: bool) -> list[list[str]]:
    if host.root != Path("/"):
        return []
    commands = [["modprobe", "tun"]] if not Path("/dev/net/tun").exists() and shutil.which("modprobe") else []
    if shutil.which("sysctl"):
        commands.append(["sysctl", "--quiet", "--load", SYSCTL])
    if options.service_file and _runs_systemd(host):
        commands.append(["systemctl", "daemon-reload"])
        name = Path(options.service_file).name
        commands.append(["systemctl", "enable", "--now", name] if start else ["systemctl", "enable", name])
    return commands


def _print_steps(steps: Iterable[Step]) -> None:
    manuals = [step for step in steps if step.path.startswith(MANUALS) and step.action != "leave"]
    for step in steps:
        if step not in manuals:
            click.echo(f"{step.action:<7} {step.path}" + (f": {step.why}" if step.why else ""))
    if manuals:
        actions = sorted({step.action for step in manuals})
        click.echo(f"{'/'.join(actions):<7} {len(manuals)} manual pages in {MANUALS}")


def _print_next(host: Host, options: Options, *, started: bool) -> None:
    if started:
        click.echo("Volant is set up and volantd runs: volar doctor")
    elif host.root != Path("/"):
        click.echo(f"{host.root} is set up; its volantd starts with it")
    elif options.service_file and _runs_systemd(host):
        click.echo(f"Volant is set up; start it: systemctl start {Path(options.service_file).name}")
    else:
        click.echo(f"Volant is set up. No systemd runs here, so start it yourself: {options.programs}/volantd")
    click.echo(f"let somebody use it: usermod -aG {GROUP} USER")


def _runs_systemd(host: Host) -> bool:
    """sd_booted(3)."""
    return host.root == Path("/") and Path("/run/systemd/system").is_dir()


def _has_group(host: Host) -> bool:
    try:
        lines = host.at("/etc/group").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return False
    return any(line.startswith(f"{GROUP}:") for line in lines)


def _prefix(host: Host) -> list[str]:
    return [] if host.root == Path("/") else ["--prefix", str(host.root)]


def _run(command: list[str]) -> None:
    asyncio.run(run(command, timeout_s=START_S if command[0] == "systemctl" else COMMAND_S))


def _try(command: list[str]) -> bool:
    """False when it failed, which is said."""
    try:
        _run(command)
    except CommandFailed as error:
        click.echo(f"failed  {error}", err=True)
        return False
    return True
