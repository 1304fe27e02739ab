"""``volar vms exec`` in several VMs at once: no stdin and no terminal, output by lines, each with its VM's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import click

from volant.cli.failure import DONE, exit_code_of, print_volant_error
from volant.cli.prefix import Prefixed, clean_line
from volant.cli.session import Session
from volant.cli.vm_select import each_at_once
from volant.core.errors import VolantError

LINE_MAX_BYTES = 64 * 1024


def exec_in_each(
    session: Session,
    names: Sequence[str],
    command: tuple[str, ...],
    *,
    env: Mapping[str, str],
    user: str,
    workdir: str,
) -> int:
    """Run ``command`` in each; the first exit code that is not 0, in the order of the names."""
    prefixed = Prefixed()
    for name in names:
        prefixed.add(name)

    def run(name: str) -> int:
        open_lines: dict[Literal["stdout", "stderr"], bytes] = {"stdout": b"", "stderr": b""}
        with session.client.vms.exec(name, command, env=env, user=user, workdir=workdir) as running:
            for source, content in running:
                *lines, rest = (open_lines[source] + content).split(b"\n")
                for line in lines:
                    _print(prefixed, name, line, source)
                if len(rest) > LINE_MAX_BYTES:
                    _print(prefixed, name, rest, source)
                    rest = b""
                open_lines[source] = rest
        for source, rest in open_lines.items():
            if rest:
                _print(prefixed, name, rest, source)
        return 128 + running.signal if running.signal is not None else running.code or 0

    codes: dict[str, int] = {}
    for name, result in each_at_once(names, run):
        if isinstance(result, VolantError):
            print_volant_error(result)
            codes[name] = exit_code_of(result)
        else:
            codes[name] = result
    failed = [name for name in names if codes[name] != DONE]
    if failed:
        told = ", ".join(f"{name} ({codes[name]})" for name in failed)
        click.echo(f"exec: {len(names) - len(failed)} of {len(names)} ended with 0, not: {told}", err=True)
    return codes[failed[0]] if failed else DONE


def _print(prefixed: Prefixed, name: str, line: bytes, source: str) -> None:
    prefixed.print(name, clean_line(line.decode("utf-8", "replace").rstrip("\r")), err=source != "stdout")
