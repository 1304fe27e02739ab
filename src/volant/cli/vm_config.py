"""``volar vms config``: how a VM is configured, was, and is to be."""

from __future__ import annotations

from typing import Any

import click

from volant.cli.failure import printable
from volant.cli.measure import format_since
from volant.cli.output import format_option, print_document, print_fields, print_table
from volant.cli.session import Session, complete_vms, pass_session
from volant.cli.vm_change import change_options, format_difference, tell_change
from volant.core.errors import InvalidInput

_name = click.argument("name", shell_complete=complete_vms)


@click.group(
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar vms config get web
      volar vms config set web memory_mb=512 env.MODE=fast --reason "more traffic"
      volar vms config history web
      volar vms config rollback web 3
    """,
)
def config() -> None:
    """Show and change how VMs are configured. Each change is a version, which can be gone back to."""


@config.command(epilog="\b\nExamples:\n  volar vms config get web\n  volar vms config get web --version 3 --json")
@_name
@click.option("--version", "number", type=int, metavar="N", help="As it was in version N.")
@format_option("table", "json")
@pass_session
def get(session: Session, name: str, number: int | None, output: str) -> None:
    """Show the configuration of the VM NAME."""
    configurations = session.client.configurations
    found = configurations.get(name) if number is None else configurations.version(name, number)
    if output == "json":
        print_document(found)
        return
    print_fields([("Version", str(found["version"])), ("Since", f"{format_since(found['updated_at'])} ago")])
    for line in _flatten(found["config"]):
        click.echo(printable(line))


@config.command(
    name="set",
    epilog="""
    \b
    Examples:
      volar vms config set web memory_mb=512
      volar vms config set web env.MODE=fast labels.tier=web restart_policy=never
      volar vms config set web env.MODE- kernel_cmdline-
    """,
)
@_name
@click.argument("changes", nargs=-1, required=True, metavar="FIELD=VALUE... | FIELD-...")
@change_options
@format_option("table", "json", "name")
@pass_session
def set_(session: Session, /, name: str, changes: tuple[str, ...], **options: Any) -> None:
    """Change fields of the VM NAME. A value is JSON where it can be, else text; FIELD- leaves the field to the plugin."""
    patch_vm(session, name, read_changes(changes), **options)


@config.command(
    epilog="""
    \b
    Examples:
      volar vms config patch web '{"memory_mb": 512, "env": {"MODE": null}}'
      volar vms config patch web '[{"op": "add", "path": "/env/MODE", "value": "fast"}]'
      volar vms config patch web -f change.json
    """
)
@_name
@click.argument("patch", required=False)
@click.option("-f", "--file", "file", metavar="FILE", help="Where the patch is, - for stdin.")
@change_options
@format_option("table", "json", "name")
@pass_session
def patch(session: Session, /, name: str, patch: str | None, file: str | None, **options: Any) -> None:
    """Change the VM NAME by a JSON document: a merge patch (RFC 7396), or a list of operations (RFC 6902)."""
    from volant.cli.vm_create import read_json_file, read_json_text

    if (patch is None) == (file is None):
        raise InvalidInput("one patch is needed", hint="as an argument, or with -f FILE")
    document = read_json_text(patch, "the patch") if patch is not None else read_json_file(str(file))
    patch_vm(session, name, document, **options)


@config.command(epilog="\b\nExamples:\n  volar vms config history web\n  volar vms config history web --limit 5 --json")
@_name
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The newest so many.")
@format_option("table", "json")
@pass_session
def history(session: Session, name: str, limit: int | None, output: str) -> None:
    """List the versions of the configuration of the VM NAME, newest first."""
    versions = session.client.configurations.history(name, limit=limit)
    if output == "json":
        print_document({"items": versions})
        return
    rows = (
        (
            str(version["version"]),
            format_since(version["updated_at"]),
            version["by"],
            ", ".join(version["changed"]),
            version["reason"],
        )
        for version in versions
    )
    print_table(("VERSION", "AGE", "BY", "CHANGED", "REASON"), rows)


@config.command(epilog="\b\nExamples:\n  volar vms config rollback web 3\n  volar vms config rollback web 3 --restart")
@_name
@click.argument("number", type=int, metavar="VERSION")
@change_options
@format_option("table", "json", "name")
@pass_session
def rollback(
    session: Session,
    name: str,
    number: int,
    output: str,
    *,
    reason: str,
    restart: bool,
    dry_run: bool,
    generation: int | None,
) -> None:
    """Configure the VM NAME as it was in VERSION. That is a new version."""
    client = session.client
    before = client.vms.get(name)
    answer = client.configurations.rollback(name, number, generation=generation, reason=reason, dry_run=dry_run)
    if not dry_run:
        tell_change(session, before, client.vms.get(name), restart=restart, dry_run=False, output=output)
    elif output == "json":
        print_document(answer)
    else:
        _print_diff(_compare(before, answer))


@config.command(epilog="\b\nExamples:\n  volar vms config diff web\n  volar vms config diff web --from 3 --to 7")
@_name
@click.option("--from", "before", type=int, metavar="N", help="The one before the other, unless said.")
@click.option("--to", "after", type=int, metavar="N", help="The one that it is, unless said.")
@format_option("table", "json")
@pass_session
def diff(session: Session, name: str, before: int | None, after: int | None, output: str) -> None:
    """Show how two versions of the configuration of the VM NAME differ."""
    found = session.client.configurations.diff(name, before, after)
    if output == "json":
        print_document(found)
        return
    click.echo(f"version {found['before']} -> {found['after']}")
    _print_diff(found["differences"])


@config.command(epilog="\b\nExamples:\n  volar vms config edit web\n  EDITOR=nano volar vms config edit web --restart")
@_name
@change_options
@format_option("table", "json", "name")
@pass_session
def edit(session: Session, /, name: str, *, generation: int | None, output: str, **options: Any) -> None:
    """Edit the configuration of the VM NAME as JSON with $VISUAL or $EDITOR."""
    import msgspec

    from volant.cli.vm_create import read_json_text

    before = session.client.vms.get(name)
    found = session.client.configurations.get(name)["config"]
    text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n"
    edited = click.edit(text, extension=".json")
    if edited is None or edited == text:
        click.echo(f"{name} is as it was", err=True)
        return
    wanted = read_json_text(edited, "what was edited")
    if not isinstance(wanted, dict):
        raise InvalidInput("what was edited is no object")
    gone = {field: None for field in found if field not in wanted}
    change = {**gone, **{field: _replaced(found.get(field), value) for field, value in wanted.items()}}
    at = before.meta.generation if generation is None else generation
    patch_vm(session, name, change, generation=at, output=output, **options)


def patch_vm(
    session: Session,
    name: str,
    change: Any,
    *,
    output: str,
    reason: str,
    restart: bool,
    dry_run: bool,
    generation: int | None,
) -> None:
    """Change ``name`` by a merge patch, or by a list of operations, and tell what became of it."""
    client = session.client
    before = client.vms.get(name)
    if isinstance(change, list):
        after = client.configurations.patch_json(name, change, generation=generation, reason=reason, dry_run=dry_run)
    elif isinstance(change, dict):
        after = client.configurations.patch(name, change, generation=generation, reason=reason, dry_run=dry_run)
    else:
        raise InvalidInput("a patch is an object, or a list of operations")
    tell_change(session, before, after, restart=restart, dry_run=dry_run, output=output)


def read_changes(words: tuple[str, ...]) -> dict[str, Any]:
    """``field=value``, ``env.KEY=value`` and ``field-`` as a merge patch. Raises InvalidInput."""
    import msgspec

    found: dict[str, Any] = {}
    for word in words:
        path, equals, text = word.partition("=")
        value: Any = None
        if equals:
            try:
                value = msgspec.json.decode(text)
            except msgspec.DecodeError:
                value = text
        elif path.endswith("-"):
            path = path[:-1]
        else:
            raise InvalidInput(f"{word!r} is no change", hint="FIELD=VALUE, or FIELD- to leave it to the plugin")
        field, dot, key = path.partition(".")
        if dot and field in ("env", "labels"):
            # What such a map holds is text, whatever it looks like.
            found.setdefault(field, {})[key] = text if equals else None
        else:
            _put(found, path.split("."), value)
    return found


def _put(document: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        document = document.setdefault(part, {})
    document[path[-1]] = value


def _replaced(before: Any, after: Any) -> Any:
    """A merge patch that makes ``after`` of ``before``, members that went included."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return after
    gone = {key: None for key in before if key not in after}
    return {**gone, **{key: _replaced(before.get(key), value) for key, value in after.items()}}


def _compare(before: Any, answer: dict[str, Any]) -> list[dict[str, Any]]:
    from volant.core.changes import compare_configs, describe_config

    found = compare_configs(describe_config(before.spec, before.meta.labels), answer["config"])
    return [{"path": each.path, "before": each.before, "after": each.after} for each in found]


def _print_diff(differences: list[dict[str, Any]]) -> None:
    if not differences:
        click.echo("they do not differ", err=True)
    for each in differences:
        click.echo(f"  {format_difference(each['path'], each['before'], each['after'])}")


def _flatten(document: dict[str, Any], prefix: str = "") -> list[str]:
    import msgspec

    lines: list[str] = []
    for field, value in document.items():
        if isinstance(value, dict) and value:
            lines += _flatten(value, f"{prefix}{field}.")
        elif value is not None and value not in ("", [], {}):
            lines.append(f"{prefix}{field} = {value if isinstance(value, str) else msgspec.json.encode(value).decode()}")
    return lines
