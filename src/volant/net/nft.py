"""nftables in one network namespace, through nft(8) and its JSON (libnftables-json(5))."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from volant.core.errors import CommandFailed, HostError
from volant.net.namespace import NAMESPACES
from volant.net.rules import DIGEST_PREFIX, FAMILIES, TABLE, Ruleset
from volant.run import run

TIMEOUT_S = 30.0
FIREWALLD = "firewalld"


class Chain(msgspec.Struct, frozen=True):
    """``hook`` and ``policy`` are empty for chains that are only jumped to."""

    family: str
    table: str
    name: str
    hook: str = ""
    policy: str = ""


class Nft:
    def __init__(self, namespace: str | None) -> None:
        # nsenter, not ip netns exec, which would also mount another /sys each time.
        self._command = ["nft", "-j"] if namespace is None else ["nsenter", f"--net={NAMESPACES / namespace}", "nft", "-j"]

    async def apply(self, ruleset: Ruleset) -> None:
        """All of it or nothing, in one transaction. Raises HostError."""
        await self._run("-f", "-", stdin=ruleset.encode())

    async def list_chains(self) -> list[Chain]:
        """Raises HostError."""
        return list(read_chains(await self._run("list", "chains")))

    async def _run(self, *arguments: str, stdin: bytes | None = None) -> bytes:
        try:
            done = await run([*self._command, *arguments], timeout_s=TIMEOUT_S, stdin=stdin)
        except CommandFailed as error:
            # nft says what is wrong first and draws where below it.
            first = next((line for line in error.stderr_tail.splitlines() if "Error" in line), error.message)
            hint = "nft list ruleset shows what is installed"
            raise HostError(f"nft refuses the packet rules: {first}", hint=hint) from error
        return done.stdout


def read_chains(output: bytes) -> Iterator[Chain]:
    """The chains in the output of ``nft -j list chains``. Raises HostError when it cannot be read."""
    try:
        items: list[Mapping[str, Any]] = msgspec.json.decode(output)["nftables"]
        for item in items:
            chain = item.get("chain")
            if chain is not None:
                yield Chain(chain["family"], chain["table"], chain["name"], chain.get("hook", ""), chain.get("policy", ""))
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise HostError(f"what nft listed cannot be read: {error!r}") from error


def installed_digest(chains: list[Chain]) -> str | None:
    """The digest that both of our tables carry; empty when neither is there, ``None`` when they are not one whole."""
    ours = [chain for chain in chains if chain.table == TABLE and chain.family in FAMILIES]
    if not ours:
        return ""
    marks = {chain.family: chain.name for chain in ours if chain.name.startswith(DIGEST_PREFIX)}
    names = set(marks.values())
    return names.pop().removeprefix(DIGEST_PREFIX) if len(marks) == len(FAMILIES) and len(names) == 1 else None


def describe_forward_drops(chains: list[Chain]) -> list[str]:
    """What other programs' rules do to forwarded packets, one line each: an accept of ours does not overrule their drop."""
    found = []
    for chain in chains:
        if chain.table == TABLE or chain.hook != "forward" or chain.family not in ("ip", "inet"):
            continue
        if chain.policy == "drop":
            found.append(f"chain {chain.name} of table {chain.family} {chain.table} drops forwarded packets it does not know")
        elif chain.table == FIREWALLD:
            found.append("firewalld rejects forwarded packets of zones that do not allow them")
    return sorted(set(found))
