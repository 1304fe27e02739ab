"""``volantd``'s command line."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from volant import __version__
from volant.config import environment, load_config
from volant.core.errors import InvalidInput, VolantError
from volant.daemon import check_daemon, describe_error, first_error, serve_daemon
from volant.observe.log import configure_log

EXAMPLES = """\b
Examples:
  volantd
  volantd --data-dir /srv/volant --network-namespace demo
  volantd --check
  VOLANT_LOG_LEVEL=debug volantd --config ./volant.toml

Every flag is also a setting of volant.toml (data_dir = "...") and a variable (VOLANT_DATA_DIR).
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", type=click.Path(path_type=Path), help="Settings file. [default: /etc/volant/volant.toml if there]")
@click.option("--data-dir", help="What lasts: registry, artifacts, disks, logs. [default: /var/lib/volant]")
@click.option("--runtime-dir", help="Sockets. [default: /run/volant]")
@click.option("--listen", help="Where the API answers: unix:PATH. [default: unix:RUNTIME_DIR/volantd.sock]")
@click.option("--listen-tcp", metavar="HOST:PORT", help="A loopback address, for who has the token. [default: nowhere]")
@click.option("--network-namespace", metavar="NAME|host", help="Namespace of bridge and taps. [default: host]")
@click.option("--node", help="This host's name in the registry. [default: its host name]")
@click.option(
    "--hypervisor",
    type=click.Choice(["auto", "qemu", "cloud-hypervisor", "simulated"]),
    help="auto is Cloud Hypervisor where it is there and KVM works, else QEMU. [default: auto]",
)
@click.option("--cloud-hypervisor-binary", metavar="FILE", help="Where it lies. [default: in the PATH]")
@click.option("--accelerator", type=click.Choice(["auto", "kvm", "tcg"]), help="auto proves KVM by a boot. [default: auto]")
@click.option("--subnet", help="Of the default network. [default: 192.168.127.0/24]")
@click.option("--bridge", help="Of the default network. [default: vbr0]")
@click.option("--template-disk-mb", type=int, metavar="MIB", help="What templates may take on the disk. [default: 10240]")
@click.option("--trust-policy", type=click.Choice(["off", "warn", "enforce"]), help="Must plugins be signed? [default: off]")
@click.option("--trust-keys", metavar="DIR", help="Publishers' public keys. [default: /etc/volant/trust.d]")
@click.option("--registries", metavar="FILE", help="Mirrors, and registries without TLS. [default: none]")
@click.option(
    "--plugin-download-allow", metavar="WHERE", help="private, loopback, hosts, networks beside the internet. [default: none]"
)
@click.option("--stop-vms-on-exit", is_flag=True, default=None, help="End all VMs when volantd ends; else they go on.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[default: info]")
@click.option("--log-format", type=click.Choice(["auto", "console", "json"]), help="[default: auto]")
@click.option("--check", is_flag=True, help="Say what this host can do, and end.")
@click.option("--json", "as_json", is_flag=True, help="With --check: one JSON document.")
@click.version_option(__version__, prog_name="volantd")
def volantd(config: Path | None, check: bool, as_json: bool, **flags: Any) -> None:
    """Volant's control plane: the registry, the networks, the VMs of this host, and the API over them.

    Ends cleanly on SIGTERM and leaves the VMs running; the next volantd adopts them.
    """
    try:
        settings = load_config({name: value for name, value in flags.items() if value is not None}, environment(), config)
        configure_log("error" if check else settings.log_level, settings.log_format)
        if check:
            sys.exit(_print_checks(asyncio.run(check_daemon(settings)), as_json=as_json))
        asyncio.run(serve_daemon(settings))
    except VolantError as error:
        _give_up(error)
    except BaseExceptionGroup as group:
        first = first_error(group)
        if not isinstance(first, VolantError):
            raise
        _give_up(first)


def _give_up(error: VolantError) -> None:
    click.echo(describe_error(error), err=True)
    sys.exit(2 if isinstance(error, InvalidInput) else 1)


def _print_checks(checks: list[Any], *, as_json: bool) -> int:
    failed = any(check.state == "failed" for check in checks)
    if as_json:
        click.echo(msgspec.json.encode({"items": msgspec.to_builtins(checks)}))
    else:
        for check in checks:
            click.echo(f"{check.state:8} {check.name}: {check.message}" + (f"\n         {check.fix}" if check.fix else ""))
    return 1 if failed else 0
