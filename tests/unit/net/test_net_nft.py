"""What is read out of nft's listings."""

from __future__ import annotations

import json

import pytest

from volant.core.errors import HostError
from volant.net.nft import Chain, describe_forward_drops, installed_digest, read_chains

INET, BRIDGE = Chain("inet", "volant", "ruleset_ab"), Chain("bridge", "volant", "ruleset_ab")


def test_chains_are_read_and_the_rest_is_passed_over() -> None:
    chain = {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 1}
    hooked = chain | {"type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}
    output = {"nftables": [{"metainfo": {"version": "1.0.6"}}, {"chain": chain}, {"table": {}}, {"chain": hooked}]}
    assert list(read_chains(json.dumps(output).encode())) == [
        Chain("ip", "filter", "FORWARD"),
        Chain("ip", "filter", "FORWARD", "forward", "drop"),
    ]


@pytest.mark.parametrize("output", [b"", b"[]", b"{}", b'{"nftables": [1]}', b'{"nftables": [{"chain": {}}]}'])
def test_a_listing_that_cannot_be_read_is_the_hosts_error(output: bytes) -> None:
    with pytest.raises(HostError):
        list(read_chains(output))


@pytest.mark.parametrize(
    ("chains", "digest"),
    [
        ([], ""),
        ([Chain("ip", "filter", "FORWARD"), Chain("ip", "volant", "ruleset_ab")], ""),
        ([INET, BRIDGE, Chain("inet", "volant", "forward", "forward", "accept")], "ab"),
        ([INET], None),
        ([INET, Chain("bridge", "volant", "ruleset_cd")], None),
        ([Chain("inet", "volant", "forward")], None),
    ],
)
def test_the_digest_counts_when_both_tables_carry_it(chains: list[Chain], digest: str | None) -> None:
    assert installed_digest(chains) == digest


def test_what_others_drop_is_told_and_what_is_harmless_is_not() -> None:
    harmless = [
        Chain("ip", "filter", "INPUT", "input", "drop"),
        Chain("ip", "nat", "FORWARD", "forward", "accept"),
        Chain("ip6", "filter", "FORWARD", "forward", "drop"),
        Chain("inet", "volant", "forward", "forward", "drop"),
    ]
    assert describe_forward_drops(harmless) == []
    docker = Chain("ip", "filter", "FORWARD", "forward", "drop")
    firewalld = Chain("inet", "firewalld", "filter_FORWARD", "forward", "accept")
    told = describe_forward_drops([*harmless, docker, firewalld])
    assert len(told) == 2
    assert "FORWARD of table ip filter" in told[0]
    assert "firewalld" in told[1]
