"""Whom a UNIX socket lets in."""

from __future__ import annotations

import os
import socket

import pytest

from volant.auth.peer import Peer, PeerPolicy, read_groups, read_peer


@pytest.mark.parametrize(
    ("uid", "groups", "allowed"),
    [
        (0, set(), True),
        (500, set(), True),
        (1000, {"users", "volant"}, True),
        (1000, {"users"}, False),
        (1000, {"volant2"}, False),
        (1000, set(), False),
    ],
)
def test_root_the_daemon_and_its_group_are_allowed(uid: int, groups: set[str], allowed: bool) -> None:
    policy = PeerPolicy(own_uid=500, groups_of=lambda _peer: frozenset(groups))
    assert policy.allows(Peer(uid=uid, gid=uid, pid=1)) is allowed


def test_the_kernel_vouches_for_a_unix_peer() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert read_peer(one) == Peer(uid=os.getuid(), gid=os.getgid(), pid=os.getpid())


def test_a_socket_without_credentials_is_an_error() -> None:
    with socket.socket(socket.AF_INET) as unknown, pytest.raises(OSError):
        read_peer(unknown)


def test_a_user_without_an_entry_has_the_groups_of_its_process() -> None:
    assert "root" in read_groups(Peer(uid=4_000_000, gid=0, pid=1))
    assert read_groups(Peer(uid=4_000_000, gid=4_000_000, pid=1)) == frozenset()
