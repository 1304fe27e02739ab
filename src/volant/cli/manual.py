"""Manual pages (man(7)) made of a program's own help: one for the program, one for each of its groups and commands."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator

import click

_EXAMPLES = re.compile(r"\A\s*(?:\x08\n)?\s*Examples?:\n", re.MULTILINE)


def render_pages(program: click.Group, name: str, *, version: str) -> Iterator[tuple[str, str]]:
    """``(file name, page)`` of ``name.1`` and ``name-command.1``; the commands of a group stand in the group's page."""
    root = click.Context(program, info_name=name, **program.context_settings)
    members = list(_members(program, root))
    others = [f"{name}-{member.info_name}" for member in members]
    yield f"{name}.1", _render(root, name, version, others, deep=False)
    for member in members:
        page = f"{name}-{member.info_name}"
        yield f"{page}.1", _render(member, page, version, [name, *(other for other in others if other != page)], deep=True)


def _members(group: click.Group, ctx: click.Context) -> Iterator[click.Context]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if not command.hidden:
            yield click.Context(command, info_name=name, parent=ctx, **command.context_settings)


def _render(ctx: click.Context, page: str, version: str, others: list[str], *, deep: bool) -> str:
    lines = [
        ".\\\" Made from the program's own help.",
        f'.TH "{page.upper()}" "1" "" "Volant {version}" "Volant"',
        ".SH NAME",
        f"{_escape(page)} \\- {_escape(_summary(ctx.command))}",
        ".SH SYNOPSIS",
        _usage(ctx),
        ".SH DESCRIPTION",
        *_describe(ctx.command),
        *_options(ctx, ".SH OPTIONS"),
    ]
    if isinstance(ctx.command, click.Group):
        lines.append(".SH COMMANDS")
        for member in _members(ctx.command, ctx):
            lines += [".TP", f"\\fB{_escape(str(member.info_name))}\\fR", _escape(_summary(member.command))]
        if deep:
            for member in _walk(ctx.command, ctx):
                lines += [f'.SH "{_escape(member.command_path.upper())}"', _usage(member), ".PP", *_describe(member.command)]
                lines += [*_options(member, ".PP"), *_epilog(member.command, ".PP")]
    lines += _epilog(ctx.command, ".SH EXAMPLES")
    if others:
        lines += [".SH SEE ALSO", ", ".join(f"\\fB{_escape(other)}\\fR(1)" for other in others)]
    return "\n".join(lines) + "\n"


def _walk(group: click.Group, ctx: click.Context) -> Iterator[click.Context]:
    for member in _members(group, ctx):
        yield member
        if isinstance(member.command, click.Group):
            yield from _walk(member.command, member)


def _summary(command: click.Command) -> str:
    return (command.get_short_help_str(200) or "").rstrip(".").replace("\n", " ") or "see its description"


def _usage(ctx: click.Context) -> str:
    words = " ".join(_escape(word) for word in ctx.command.collect_usage_pieces(ctx))
    return f"\\fB{_escape(ctx.command_path)}\\fR {words}".rstrip()


def _describe(command: click.Command) -> list[str]:
    text = inspect.cleandoc(command.help or "").partition("\f")[0]
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        lines += [".PP"] if lines else []
        lines += _paragraph(paragraph)
    return lines or [_escape(_summary(command))]


def _options(ctx: click.Context, head: str) -> list[str]:
    records = [record for parameter in ctx.command.get_params(ctx) if (record := parameter.get_help_record(ctx))]
    lines = [head] if records else []
    for names, text in records:
        lines += [".TP", f"\\fB{_escape(names)}\\fR", _escape(text or "see above")]
    return lines


def _epilog(command: click.Command, head: str) -> list[str]:
    """What follows the help: examples as they stand, text as text."""
    text = inspect.cleandoc(command.epilog or "")
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        if not paragraph.strip():
            continue
        lines += [".PP"] if lines else [head]
        lines += _paragraph(_EXAMPLES.sub("\b\n", paragraph))
    return lines


def _paragraph(text: str) -> list[str]:
    if text.lstrip().startswith("\b"):
        body = textwrap.dedent(text.partition("\b")[2].lstrip("\n"))
        return [".nf", *(_escape(line) for line in body.splitlines()), ".fi"]
    return [_escape(" ".join(text.split()))]


def _escape(text: str) -> str:
    """Text as roff prints it: no escape sequence, no request at the start of a line."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    escaped = re.sub(r"[^\x20-\x7e]", lambda found: f"\\[u{ord(found[0]):04X}]" if found[0].isprintable() else " ", escaped)
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
