"""Who vouches for a plugin: what its publisher signed, and what this host makes of that."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

PUBLISHER_LABEL = "volant.publisher"
"""The label by which a manifest says whose it is."""

TRUSTED = "Trusted"
"""The condition of a plugin that says whether its signature is one that this host trusts."""

Policy = Literal["off", "warn", "enforce"]
Reason = Literal[
    "Trusted",
    "NotSigned",
    "Unreadable",
    "UnknownKey",
    "BadSignature",
    "OtherManifest",
    "OtherStatement",
    "OtherPublisher",
]


class SignedManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A manifest as its publisher wrote it, to the byte, and the content of its ``.minisig``."""

    manifest: str
    signature: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a trust policy makes of one plugin. ``key_id`` is written as minisign writes it; empty where no key is known."""

    policy: Policy
    reason: Reason
    message: str
    hint: str = ""
    publisher: str = ""
    key_id: str = ""

    @property
    def trusted(self) -> bool:
        return self.reason == "Trusted"

    @property
    def refused(self) -> bool:
        """True when nothing may be started from the plugin."""
        return self.policy == "enforce" and not self.trusted

    @property
    def told(self) -> bool:
        """True when somebody wants to hear that it is not trusted."""
        return self.policy != "off" and not self.trusted


class Judge(Protocol):
    """Decides anew each time, by the keys that are there now. Never raises for what a publisher wrote."""

    @property
    def policy(self) -> Policy: ...

    async def judge(self, manifest: object, signed: SignedManifest | None) -> Verdict:
        """``manifest`` is the plain document as it is, or would be, installed."""
        ...
