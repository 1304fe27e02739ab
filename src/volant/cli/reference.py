"""The page of docs/reference that is made of the commands' own help.

``python -m volant.cli.reference > docs/reference/cli.md``
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from volant.cli.volar import volar

WIDTH = 110
HEAD = """\
# `volar`

Made from the program's own help by `python -m volant.cli.reference`; a test keeps it fresh.

`VOLANT_API` says where volantd answers (`unix:///path` or `unix:PATH`), `--api` overrides it, and without either it is
`unix:///run/volant/volantd.sock`.

| exit code | means |
| --- | --- |
| 0 | done |
| 1 | failed: a VM that did not become ready, a guest or volantd that does not answer, a host that failed |
| 2 | bad input: an option, a name, a size, a file that cannot be right |
| 3 | not found |
| 4 | conflict: the name is taken, it is in use, it changed meanwhile |

`volar vms exec` and `volar run` end with the program's own exit code, or with 128 and the number of the signal that ended
it. Errors go to stderr, one line `volar: …` and, where there is something to do, one line `hint: …`. `--json` prints one
document on stdout, a resource or `{"items": [...]}`, and nothing else; what goes on (`logs`, `events -f`) prints one
document a line.

Completion of commands, options and names: `eval "$(_VOLAR_COMPLETE=bash_source volar)"` in `~/.bashrc`,
`eval "$(_VOLAR_COMPLETE=zsh_source volar)"` in `~/.zshrc`, `_VOLAR_COMPLETE=fish_source volar | source` for fish.
"""


def render_reference() -> str:
    parts = [HEAD]
    for ctx in walk_commands():
        parts.append(f"\n## `{ctx.command_path}`\n\n```text\n{ctx.command.get_help(ctx)}\n```\n")
    return "".join(parts)


def walk_commands() -> Iterator[click.Context]:
    """A context of every command, a group before its members."""
    yield from _walk(volar, "volar", None)


def _walk(command: click.Command, name: str, parent: click.Context | None) -> Iterator[click.Context]:
    ctx = click.Context(command, info_name=name, parent=parent, **{**command.context_settings, "terminal_width": WIDTH})
    yield ctx
    if isinstance(command, click.Group):
        for member in command.list_commands(ctx):
            found = command.get_command(ctx, member)
            assert found is not None
            yield from _walk(found, member, ctx)


if __name__ == "__main__":
    click.echo(render_reference(), nl=False)
