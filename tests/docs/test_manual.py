"""Manual pages are made of the commands' help, and roff takes them without a word."""

from __future__ import annotations

import subprocess

import pytest

from volant.cli.completion import SHELLS, render_completion
from volant.cli.reference import walk_commands
from volant.cli.volar import volar
from volant.manual import render_all

PAGES = dict(render_all())


@pytest.mark.spawns
@pytest.mark.parametrize("name", PAGES)
def test_roff_takes_the_page(name: str) -> None:
    command = ["groff", "-ww", "-Kutf8", "-Tutf8", "-P-cbou", "-man", "-"]
    done = subprocess.run(command, input=PAGES[name], capture_output=True, text=True, timeout=20, check=True)
    assert done.stderr == ""
    assert "NAME" in done.stdout
    assert "DESCRIPTION" in done.stdout


def test_every_command_and_option_of_volar_stands_in_a_page() -> None:
    everything = "\n".join(PAGES.values()).replace("\\-", "-")
    for ctx in walk_commands():
        if ctx.command.hidden:
            continue
        assert str(ctx.info_name) in everything
        for parameter in ctx.command.params:
            for option in () if getattr(parameter, "hidden", False) else parameter.opts:
                if option.startswith("--"):
                    assert option in everything, ctx.command_path


def test_text_that_roff_would_obey_is_text() -> None:
    page = PAGES["volar-vms.1"]
    obeyed = {line.split()[0] for line in page.splitlines() if line.startswith((".", "'"))}
    assert obeyed <= {'.\\"', ".TH", ".SH", ".PP", ".TP", ".nf", ".fi"}


@pytest.mark.spawns
@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_a_script_of_its_shell(shell: str) -> None:
    script = render_completion(volar, shell)
    assert f"_VOLAR_COMPLETE={shell}_complete" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, timeout=20, check=True)
