"""What a host gets that runs Volant in production: the files, as they should be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

CONFIG = "/etc/volant/volant.toml"
UNIT = "/etc/systemd/system/volantd.service"
SYSCTL = "/etc/sysctl.d/60-volant.conf"
MODULES = "/etc/modules-load.d/volant.conf"
MANUALS = "/usr/local/share/man/man1"
COMPLETIONS = {
    "bash": "/usr/share/bash-completion/completions/volar",
    "zsh": "/usr/local/share/zsh/site-functions/_volar",
    "fish": "/usr/share/fish/vendor_completions.d/volar.fish",
}
MADE_BY = "# Written by volar setup; volar setup --uninstall takes it away unless it was changed."


class Options(NamedTuple):
    """``service_file`` is empty when no unit is wanted; ``programs`` is the directory of volantd and volar."""

    data_dir: str = "/var/lib/volant"
    runtime_dir: str = "/run/volant"
    subnet: str = "192.168.127.0/24"
    bridge: str = "vbr0"
    service_file: str = UNIT
    programs: str = str(Path(sys.argv[0]).resolve().parent)


class Wanted(NamedTuple):
    """One file. ``is_config``: whoever runs the host writes on; one that is there is left as it is."""

    path: str
    content: str
    why: str
    is_config: bool = False


def list_directories(options: Options) -> tuple[tuple[str, int], ...]:
    """Path and mode, parents first."""
    return (("/etc/volant", 0o755), ("/etc/volant/trust.d", 0o755), (options.data_dir, 0o700))


def list_files(options: Options) -> tuple[Wanted, ...]:
    """Everything but the manual pages, which the program makes of its own help."""
    files = [Wanted(CONFIG, _render_config(options), "volantd's settings", is_config=True)]
    if options.service_file:
        files.append(Wanted(options.service_file, _render_unit(options), "starts volantd with the host"))
    files.append(Wanted(SYSCTL, _SYSCTL, "lets guests reach beyond the host, and many of them be"))
    files.append(Wanted(MODULES, f"{MADE_BY}\ntun\nvhost_vsock\n", "loads what networks need before volantd starts"))
    return tuple(files)


def list_completions() -> tuple[Wanted, ...]:
    from volant.cli.completion import render_completion
    from volant.cli.volar import volar

    return tuple(Wanted(path, render_completion(volar, shell), f"completion for {shell}") for shell, path in COMPLETIONS.items())


def _render_config(options: Options) -> str:
    return f"""\
# Settings of volantd; docs/reference/configuration.md has them all.
data_dir = "{options.data_dir}"
runtime_dir = "{options.runtime_dir}"
subnet = "{options.subnet}"
bridge = "{options.bridge}"
"""


def _render_unit(options: Options) -> str:
    """VMs outlive volantd, so only its own process ends with the unit; their control groups lie below the unit's."""
    runtime = options.runtime_dir.removeprefix("/run/")
    return f"""\
{MADE_BY}
[Unit]
Description=Volant, microVMs as easy as containers
Documentation=man:volar(1)
After=network-online.target systemd-modules-load.service systemd-sysctl.service
Wants=network-online.target

[Service]
Type=notify
ExecStart={options.programs}/volantd
Restart=on-failure
RestartSec=2
TimeoutStartSec=120
TimeoutStopSec=60
KillMode=process
Delegate=yes
TasksMax=infinity
LimitNOFILE=1048576
LimitCORE=0
RuntimeDirectory={runtime}
RuntimeDirectoryMode=0755
RuntimeDirectoryPreserve=yes
UMask=0077
CapabilityBoundingSet={_CAPABILITIES}
LockPersonality=yes
NoNewPrivileges=no
PrivateTmp=no
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
RestrictRealtime=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


_CAPABILITIES = (
    "CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_SYS_RESOURCE CAP_SYS_NICE CAP_SYS_CHROOT "
    "CAP_SETUID CAP_SETGID CAP_SETPCAP CAP_KILL CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_MKNOD CAP_IPC_LOCK "
    "CAP_FSETID"
)

_SYSCTL = f"""\
{MADE_BY}
net.ipv4.ip_forward = 1
# A host of a thousand VMs has a thousand neighbours.
net.ipv4.neigh.default.gc_thresh1 = 1024
net.ipv4.neigh.default.gc_thresh2 = 4096
net.ipv4.neigh.default.gc_thresh3 = 8192
fs.inotify.max_user_instances = 1024
"""
