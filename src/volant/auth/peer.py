"""The process at the other end of a UNIX socket, as the kernel vouches for it."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

_UCRED = struct.Struct("3i")


@dataclass(frozen=True)
class Peer:
    """Its numbers when it connected (unix(7), SO_PEERCRED)."""

    uid: int
    gid: int
    pid: int


def read_peer(connection: socket.socket) -> Peer:
    """Ask the kernel who connected. Raises OSError when the socket is no UNIX socket."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if pid == 0:
        raise OSError("the socket does not say who connected")
    return Peer(uid=uid, gid=gid, pid=pid)


def read_groups(peer: Peer) -> frozenset[str]:
    """The names of the groups that the peer's user is in, and of the one its process runs with."""
    gids = {peer.gid}
    try:
        user = pwd.getpwuid(peer.uid)
        gids.update(os.getgrouplist(user.pw_name, user.pw_gid))
    except KeyError:
        pass  # a user without an entry is in no other group
    return frozenset(name for name in map(_group_name, gids) if name)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


@dataclass(frozen=True)
class PeerPolicy:
    """Root, volantd's own user and the members of one group may ask for everything; nobody else for anything."""

    own_uid: int
    group: str = "volant"
    groups_of: Callable[[Peer], frozenset[str]] = read_groups

    def allows(self, peer: Peer) -> bool:
        return peer.uid in (0, self.own_uid) or self.group in self.groups_of(peer)
