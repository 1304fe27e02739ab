"""``fledge keygen``, ``fledge sign`` and ``fledge verify``: minisign's keys and signatures over what was built."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

PASSWORD_VARIABLE = "MINISIGN_PASSWORD_FILE"  # noqa: S105  # the name of a variable that names a file

_KEYGEN_EXAMPLES = """\b
Examples:
  fledge keygen                             ~/.minisign/minisign.key and ./minisign.pub, as minisign -G makes them
  fledge keygen -s acme.key -p acme.pub --password-file acme.password
  fledge keygen -s ci.key -p ci.pub --no-password
"""
_SIGN_EXAMPLES = """\b
Examples:
  fledge sign out                           all that fledge build left in ./out
  fledge sign out -s acme.key -t "built for the spring release"
  fledge sign tool.tar.gz notes.txt
"""
_VERIFY_EXAMPLES = """\b
Examples:
  fledge verify out -p acme.pub
  fledge verify rootfs.erofs -P RWQ…
"""


def _key_options(command: Callable[..., None]) -> Callable[..., None]:
    secret = click.option(
        "-s", "--secret", type=click.Path(path_type=Path), help="The secret key. [default: ~/.minisign/minisign.key]"
    )
    password = click.option(
        "--password-file",
        type=click.Path(path_type=Path),
        envvar=PASSWORD_VARIABLE,
        show_envvar=True,
        help="A file with the key's password on its first line, instead of asking.",
    )
    return secret(password(command))


@click.command(epilog=_KEYGEN_EXAMPLES)
@_key_options
@click.option("-p", "--public", type=click.Path(path_type=Path), help="The public key. [default: ./minisign.pub]")
@click.option("-W", "--no-password", is_flag=True, help="Leave the secret key in the clear, for machines that sign alone.")
@click.option("-f", "--force", is_flag=True, help="Replace keys that are there.")
def keygen(secret: Path | None, password_file: Path | None, public: Path | None, no_password: bool, force: bool) -> None:
    """Make a pair of keys, as minisign -G does.

    Prints the public key. Whoever trusts it puts its file where volantd looks: /etc/volant/trust.d/PUBLISHER.pub.
    """
    from volant.core.errors import InvalidInput
    from volant.fledge.signing.key import PUBLIC_KEY, create_keys, default_secret_key, read_password

    if no_password and password_file:
        raise InvalidInput("give either --no-password or a password file", field="password-file")
    password = None
    if password_file:
        password = read_password(password_file)
    elif not no_password:
        password = _ask_password(confirm=True)
    place = secret or default_secret_key(os.environ)
    key = create_keys(place, public or PUBLIC_KEY, password, replace=force)
    click.echo(f"{place} is the secret key: keep it, and keep it secret", err=True)
    click.echo(key.to_base64().decode())


@click.command(epilog=_SIGN_EXAMPLES)
@click.argument("paths", metavar="DIR|FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@_key_options
@click.option("-t", "--trusted-comment", default="", help="Words that the signature covers, beside what Volant writes there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def sign(paths: tuple[Path, ...], secret: Path | None, password_file: Path | None, trusted_comment: str, as_json: bool) -> None:
    """Sign what fledge build left in DIR, or single files.

    Each signature is written beside its file as FILE.minisig, which minisign -V reads too. Of a build, the manifest's is the one
    that volantd asks for: it names all other files by their digests. Prints the paths of the signatures.
    """
    from volant.fledge.signing.files import sign_paths
    from volant.fledge.signing.key import default_secret_key, open_secret_key, read_password

    def find_password() -> str:
        return read_password(password_file) if password_file else _ask_password()

    with open_secret_key(secret or default_secret_key(os.environ), find_password) as key:
        signed = sign_paths(paths, key, trusted_comment)
    if as_json:
        _print_records(signed)
    else:
        for one in signed:
            click.echo(one.signature)


@click.command(epilog=_VERIFY_EXAMPLES)
@click.argument("paths", metavar="DIR|FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-p", "--public", type=click.Path(path_type=Path), help="The signer's public key. [default: ./minisign.pub]")
@click.option("-P", "--public-key", metavar="BASE64", help="The signer's public key itself.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def verify(paths: tuple[Path, ...], public: Path | None, public_key: str | None, as_json: bool) -> None:
    """Verify what fledge build left in DIR, or single files.

    Of a build every file has to be what the signed manifest says, and each signature there has to be good. Fails with 1 and the
    first file that is not.
    """
    from volant.artifact.signature import read_public_key
    from volant.core.errors import InvalidInput
    from volant.fledge.signing.files import verify_paths
    from volant.fledge.signing.key import PUBLIC_KEY, open_public_key

    if public and public_key:
        raise InvalidInput("give either -p or -P", field="public")
    key = read_public_key(public_key.encode(), "-P") if public_key else open_public_key(public or PUBLIC_KEY)
    verified = verify_paths(paths, key)
    if as_json:
        _print_records(verified)
        return
    for one in verified:
        how = f"signed ({_show(one.comment)})" if one.by == "signature" else "named by the signed manifest"
        click.echo(f"{one.path}: {how}")


def _ask_password(*, confirm: bool = False) -> str:
    """The key's password from the terminal, never from the command line, which every user of a host may read."""
    from volant.core.errors import InvalidInput

    if not sys.stdin.isatty():
        hint = f"name a file that holds it: --password-file FILE, or {PASSWORD_VARIABLE}"
        raise InvalidInput("the key has a password, and there is no terminal to ask for it", hint=hint)
    answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True)
    return answer


def _show(comment: str) -> str:
    """A signer's words on one line: terminals obey control characters."""
    return "".join(c if c.isprintable() else " " for c in comment)


def _print_records(records: Sequence[Any]) -> None:
    import msgspec

    document = {"items": msgspec.to_builtins(records)}
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
