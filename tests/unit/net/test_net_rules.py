"""The rules as data. What they do to packets is told by tests/contract/net."""

from __future__ import annotations

import itertools
import json
from ipaddress import IPv4Address
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.net.plan import NetworkPlan
from volant.net.rules import DIGEST_PREFIX, Forward, Port, Ruleset, build_rules

PLAN = NetworkPlan(bridge="vbr0", gateway=IPv4Address("192.168.127.1"), prefix_length=24)
OTHER = NetworkPlan(bridge="vbr1", gateway=IPv4Address("10.1.0.1"), prefix_length=16)
PORTS = [Port(tap=f"vt-{i:012x}", bridge="vbr0", mac=f"02:00:00:00:00:{i:02x}", ip=f"192.168.127.{i}") for i in range(2, 20)]
FORWARDS = [Forward(8000 + i, f"192.168.127.{i}", 80) for i in range(2, 10)]


def commands(ruleset: Ruleset, verb: str, what: str) -> list[dict[str, Any]]:
    document = json.loads(ruleset.encode())["nftables"]
    return [command[verb][what] for command in document if what in command.get(verb, {})]


def elements(ruleset: Ruleset, name: str) -> list[Any]:
    [found] = [each.get("elem", []) for each in commands(ruleset, "add", "set") if each["name"] == name]
    return list(found)


def test_every_port_may_send_as_itself_only() -> None:
    assert elements(build_rules([PLAN], PORTS), "senders") == [{"concat": [port.tap, port.mac, port.ip]} for port in PORTS]


def test_every_port_is_asked_for_its_own_address_only() -> None:
    assert elements(build_rules([PLAN], PORTS), "owners") == [{"concat": [port.tap, port.ip]} for port in PORTS]


def test_networks_stand_in_sets() -> None:
    ruleset = build_rules([PLAN, OTHER], PORTS)
    assert elements(ruleset, "bridges") == ["vbr0", "vbr1"]
    assert elements(ruleset, "gateways") == [{"concat": ["vbr0", "192.168.127.1"]}, {"concat": ["vbr1", "10.1.0.1"]}]
    assert elements(ruleset, "subnets") == [
        {"prefix": {"addr": "192.168.127.0", "len": 24}},
        {"prefix": {"addr": "10.1.0.0", "len": 16}},
    ]


def map_elements(ruleset: Ruleset, name: str) -> list[Any]:
    [found] = [each.get("elem", []) for each in commands(ruleset, "add", "map") if each["name"] == name]
    return list(found)


def test_published_ports_stand_in_maps() -> None:
    ruleset = build_rules([PLAN], PORTS, [Forward(8443, "192.168.127.3", 443), Forward(8080, "192.168.127.2", 80)])
    assert map_elements(ruleset, "published_ips") == [[8080, "192.168.127.2"], [8443, "192.168.127.3"]]
    assert map_elements(ruleset, "published_ports") == [[8080, 80], [8443, 443]]


def test_a_host_port_leads_to_one_guest_only() -> None:
    two = [Forward(8080, "192.168.127.3", 81), Forward(8080, "192.168.127.2", 80)]
    ruleset = build_rules([PLAN], PORTS, two)
    assert ruleset == build_rules([PLAN], PORTS, two[::-1])
    assert map_elements(ruleset, "published_ips") == [[8080, "192.168.127.2"]]
    assert map_elements(ruleset, "published_ports") == [[8080, 80]]


def test_what_comes_from_guests_or_goes_to_the_loopback_is_not_forwarded() -> None:
    rules = {rule["chain"]: rule["expr"] for rule in commands(build_rules([PLAN], PORTS, FORWARDS), "add", "rule")}
    outside = {"match": {"op": "!=", "left": {"meta": {"key": "iifname"}}, "right": "@inside"}}
    assert outside in rules["published"]
    daddr = {"payload": {"protocol": "ip", "field": "daddr"}}
    assert {"match": {"op": "!=", "left": daddr, "right": {"prefix": {"addr": "127.0.0.0", "len": 8}}}} in rules["published_here"]


def test_more_ports_and_networks_are_no_more_rules() -> None:
    few, many = build_rules([PLAN], PORTS[:1]), build_rules([PLAN, OTHER], PORTS, FORWARDS)
    assert commands(few, "add", "rule") == commands(many, "add", "rule")


def test_tables_are_made_anew_before_anything_is_put_into_them() -> None:
    document = json.loads(build_rules([PLAN], PORTS).encode())["nftables"]
    first = [(verb, body["table"]["family"]) for command in document[:6] for verb, body in command.items()]
    assert first == [
        ("add", "inet"), ("delete", "inet"), ("add", "bridge"), ("delete", "bridge"), ("add", "inet"), ("add", "bridge"),
    ]  # fmt: skip
    assert not [command for command in document[6:] if "table" in next(iter(command.values()))]


def test_nothing_is_named_before_it_is_there() -> None:
    known: set[tuple[str, str]] = set()
    for command in json.loads(build_rules([PLAN], PORTS).encode())["nftables"]:
        body = command.get("add", {})
        for kind in ("set", "map", "chain"):
            if kind in body:
                known.add((body[kind]["family"], body[kind]["name"]))
        if "rule" in body:
            rule = body["rule"]
            named = {rule["chain"], *_names_in(rule["expr"])}
            assert {(rule["family"], name) for name in named} <= known


def _names_in(value: object) -> set[str]:
    if isinstance(value, str):
        return {value[1:]} if value.startswith("@") else set()
    if isinstance(value, dict):
        return {value["target"]} if "target" in value else set().union(*map(_names_in, value.values()))
    return set().union(*map(_names_in, value)) if isinstance(value, list) else set()


def test_no_verdict_stands_behind_a_verdict_map() -> None:
    # A map that finds nothing ends its rule, so what stood behind it in the same rule would never be done.
    for rule in commands(build_rules([PLAN], PORTS), "add", "rule"):
        assert not any("vmap" in expression for expression in rule["expr"][:-1])


@given(st.permutations([PLAN, OTHER]), st.permutations(PORTS), st.permutations(FORWARDS))
def test_the_order_of_what_is_asked_does_not_matter(plans: list[NetworkPlan], ports: list[Port], forwards: list[Forward]) -> None:
    assert build_rules(plans, ports, forwards) == build_rules([PLAN, OTHER], PORTS, FORWARDS)


def test_the_digest_tells_every_change_and_stands_in_both_tables() -> None:
    moved = msgspec.structs.replace(PORTS[0], ip="192.168.127.200")
    rulesets = [
        build_rules([PLAN], PORTS),
        build_rules([PLAN], PORTS[1:]),
        build_rules([PLAN], [moved, *PORTS[1:]]),
        build_rules([PLAN, OTHER], PORTS),
        build_rules([PLAN], PORTS, FORWARDS),
        build_rules([PLAN], PORTS, [msgspec.structs.replace(FORWARDS[0], port=81), *FORWARDS[1:]]),
        build_rules([msgspec.structs.replace(PLAN, gateway=IPv4Address("192.168.127.254"))], PORTS),
    ]
    for one, other in itertools.combinations(rulesets, 2):
        assert one.digest != other.digest
    chains = commands(rulesets[0], "add", "chain")
    assert [each["family"] for each in chains if each["name"] == DIGEST_PREFIX + rulesets[0].digest] == ["inet", "bridge"]


def test_without_networks_the_tables_go() -> None:
    ruleset = build_rules([], PORTS)
    assert ruleset.digest == ""
    assert [each["family"] for each in commands(ruleset, "delete", "table")] == ["inet", "bridge"]
    assert not commands(ruleset, "add", "chain")


def test_a_bridge_keeps_its_mac_and_shares_it_with_no_other() -> None:
    assert PLAN.mac == msgspec.structs.replace(PLAN, gateway=OTHER.gateway).mac
    assert PLAN.mac != OTHER.mac


@pytest.mark.parametrize(("plan", "text"), [(PLAN, "192.168.127.0/24"), (OTHER, "10.1.0.0/16")])
def test_a_plan_knows_its_subnet(plan: NetworkPlan, text: str) -> None:
    assert str(plan.subnet) == text


ASKING = Port(tap="vt-0000000000ff", bridge="vbr0", mac="02:00:00:00:00:ff", ip="", dhcp=True)


def test_a_card_without_an_address_may_ask_for_one_and_nothing_else() -> None:
    ruleset = build_rules([PLAN], [*PORTS, ASKING])
    assert elements(ruleset, "askers") == [{"concat": [ASKING.tap, ASKING.mac]}]
    assert ASKING.mac not in json.dumps(elements(ruleset, "senders") + elements(ruleset, "owners"))


def test_the_host_answers_dhcp_only_where_somebody_asks() -> None:
    assert elements(build_rules([PLAN, OTHER], [*PORTS, ASKING]), "dhcp_bridges") == ["vbr0"]
    names = [each["name"] for each in commands(build_rules([PLAN, OTHER], PORTS), "add", "set")]
    assert "dhcp_bridges" not in names


def test_a_bridge_of_somebody_elses_is_not_ruled() -> None:
    theirs = NetworkPlan(bridge="br0", gateway=IPv4Address(0), prefix_length=32, is_ours=False)
    ruleset = build_rules([PLAN, theirs], [msgspec.structs.replace(ASKING, bridge="br0")])
    assert elements(ruleset, "bridges") == ["vbr0"]
    assert elements(ruleset, "subnets") == [{"prefix": {"addr": "192.168.127.0", "len": 24}}]
    assert len(elements(ruleset, "askers")) == 1
    assert "dhcp_bridges" not in [each["name"] for each in commands(ruleset, "add", "set")]
