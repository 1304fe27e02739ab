"""Many VMs at once: which of them, and doing something with several at a time."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

import click

from volant.cli.session import Session, complete_vms
from volant.core.errors import InvalidInput, VolantError
from volant.core.selector import parse_selector

AT_ONCE = 16
T = TypeVar("T")
R = TypeVar("R")


class Chosen(NamedTuple):
    """VMs by name, or by ``selector``; neither is all of them."""

    names: tuple[str, ...]
    selector: str
    is_named: bool

    def list(self, session: Session) -> list[str]:
        """The names, each once. Says on stderr when a selector finds none."""
        if self.is_named:
            return [*dict.fromkeys(self.names)]
        found = [vm.name for vm in session.client.vms.list(self.selector)]
        if not found:
            click.echo(f"no VM has {self.selector}" if self.selector else "there are no VMs", err=True)
        return found


def choose_vms(*, required: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``NAME...``, ``-l SELECTOR`` or ``--all``; the command's parameter is ``chosen``. Not ``required``: nothing is all."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_choice(*args: Any, names: tuple[str, ...], selector: str | None, everything: bool, **kwargs: Any) -> Any:
            return command(*args, chosen=read_choice(names, selector, everything, required=required), **kwargs)

        every = click.option("--all", "everything", is_flag=True, help="All VMs.")
        select = click.option(
            "-l", "--selector", metavar="SELECTOR", help="Those whose labels match, as in app=web,tier!=db or zone in (a,b)."
        )
        metavar = "NAME..." if required else "[NAME]..."
        named = click.argument("names", metavar=metavar, nargs=-1, shell_complete=complete_vms)
        return named(select(every(with_choice)))

    return decorate


def read_choice(names: Sequence[str], selector: str | None, everything: bool, *, required: bool = True) -> Chosen:
    """Raises InvalidInput for more than one way to say it, or none where one is needed."""
    given = [bool(names), selector is not None, everything]
    if sum(given) > 1:
        raise InvalidInput("names, --selector and --all exclude each other")
    if required and not any(given):
        raise InvalidInput("which VMs?", hint="name them, or select them: -l app=web, or --all")
    if selector is not None:
        selector = str(parse_selector(selector, "--selector"))
        if not selector:
            raise InvalidInput("the selector is empty", field="--selector", hint="--all means all")
    return Chosen(tuple(names), selector or "", bool(names))


def confirm_many(verb: str, names: Sequence[str], *, chosen: Chosen, yes: bool) -> bool:
    """Ask a person who named none of them; a script has said what it wants."""
    import sys

    if yes or chosen.is_named or not names or not sys.stdin.isatty():
        return True
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return click.confirm(f"{verb} {len(names)} VM{'' if len(names) == 1 else 's'}: {shown}?", err=True)


def each_at_once(items: Sequence[T], work: Callable[[T], R], at_once: int = AT_ONCE) -> Iterator[tuple[T, R | VolantError]]:
    """``(item, what work returned or the VolantError that it raised)``, as they are done, ``at_once`` of them at a time.

    The threads are given up when the caller is: Ctrl-C does not wait for them.
    """
    if len(items) <= 1:
        for item in items:
            yield item, _try(work, item)
        return
    todo: SimpleQueue[T] = SimpleQueue()
    done: SimpleQueue[tuple[T, R | VolantError | BaseException]] = SimpleQueue()
    for item in items:
        todo.put(item)

    def run() -> None:
        while True:
            try:
                item = todo.get_nowait()
            except Empty:
                return
            try:
                done.put((item, _try(work, item)))
            except BaseException as error:  # noqa: BLE001  # it is raised again where the results are read
                done.put((item, error))

    threads = [threading.Thread(target=run, name=f"vm-{number}", daemon=True) for number in range(min(at_once, len(items)))]
    for thread in threads:
        thread.start()
    for _ in items:
        item, result = done.get()
        if isinstance(result, BaseException) and not isinstance(result, VolantError):
            raise result
        yield item, result
    for thread in threads:
        thread.join()  # one that still runs while the interpreter goes can take it down with it


def _try(work: Callable[[T], R], item: T) -> R | VolantError:
    try:
        return work(item)
    except VolantError as error:
        return error
