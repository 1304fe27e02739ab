"""The host's packet rules, computed whole: plans and ports in, one nft transaction out (libnftables-json(5)).

Every rule looks its packet up in a set, so that a packet costs the same with one VM as with a thousand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from volant.core.address import TAP_PREFIX
from volant.net.plan import NetworkPlan

TABLE = "volant"
DIGEST_PREFIX = "ruleset_"
"""Each table has an empty chain of this name and the ruleset's digest, which says what is installed."""

FAMILIES = ("inet", "bridge")
LOOPBACK = "127.0.0.0"
OUR_TAPS = f"{TAP_PREFIX}*"
Expression = dict[str, Any]


class Port(msgspec.Struct, frozen=True, kw_only=True):
    """One guest's end of the wire, and the only addresses it may speak from.

    With ``dhcp`` it may ask a DHCP server; without an ``ip`` it may say nothing else.
    """

    tap: str
    bridge: str
    mac: str
    ip: str
    dhcp: bool = False


class Forward(msgspec.Struct, frozen=True):
    """Connections to ``host_port`` of any address of this host go to ``port`` of the guest at ``ip``. TCP."""

    host_port: int
    ip: str
    port: int


class Ruleset(msgspec.Struct, frozen=True):
    """``digest`` is 32 hexadecimal digits over all that the rules say; empty when there are none."""

    digest: str
    commands: tuple[Mapping[str, Any], ...]

    def encode(self) -> bytes:
        return msgspec.json.encode({"nftables": self.commands})


def build_rules(networks: Sequence[NetworkPlan], ports: Sequence[Port], forwards: Sequence[Forward] = ()) -> Ruleset:
    """The nft commands that make both tables what they are asked to be, whatever they were. Order does not matter.

    Of two ``forwards`` of one host port the first by address counts. Without networks the tables are removed.
    """
    removal = [command for family in FAMILIES for command in _remove_table(family)]
    if not networks:
        return Ruleset("", tuple(removal))
    plans = sorted((plan for plan in networks if plan.is_ours), key=lambda plan: plan.bridge)
    askers = {port.bridge for port in ports if port.dhcp}
    content = [
        *_build_inet(plans, [plan.bridge for plan in plans if plan.bridge in askers]),
        *_build_published(forwards),
        *_build_bridge(sorted(ports, key=lambda port: (port.tap, port.ip))),
    ]
    content.sort(key=lambda command: "rule" in command["add"])  # a rule may name only sets and chains that are there
    digest = hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:32]
    marks = [_chain(family, DIGEST_PREFIX + digest) for family in FAMILIES]
    tables = [{"add": {"table": {"family": family, "name": TABLE}}} for family in FAMILIES]
    return Ruleset(digest, (*removal, *tables, *content, *marks))


def extend_rules(installed: str, ports: Sequence[Port]) -> Ruleset:
    """The nft commands that let ``ports`` speak beside those of the rules with the digest ``installed``, which stay. What it
    costs depends on ``ports`` alone. Its digest is no whole ruleset's, so that the next whole one replaces it.

    For ports with an address that do not ask for it by DHCP.
    """
    assert ports and all(port.ip and not port.dhcp for port in ports)
    found = sorted(ports, key=lambda port: (port.tap, port.ip))
    content = [
        _elements("bridge", "senders", [_concat(port.tap, port.mac, port.ip) for port in found]),
        _elements("bridge", "owners", [_concat(port.tap, port.ip) for port in found]),
    ]
    digest = hashlib.sha256(installed.encode() + msgspec.json.encode(content)).hexdigest()[:32]
    old = [{"delete": _chain(family, DIGEST_PREFIX + installed)["add"]} for family in FAMILIES]
    return Ruleset(digest, (*old, *content, *(_chain(family, DIGEST_PREFIX + digest) for family in FAMILIES)))


def _elements(family: str, name: str, elements: Sequence[object]) -> Expression:
    return {"add": {"element": {"family": family, "table": TABLE, "name": name, "elem": list(elements)}}}


def _remove_table(family: str) -> Iterator[Expression]:
    # Adding first makes the removal succeed whether the table is there or not.
    table = {"table": {"family": family, "name": TABLE}}
    yield {"add": table}
    yield {"delete": table}


def _build_inet(plans: Sequence[NetworkPlan], serving: Sequence[str]) -> Iterator[Expression]:
    """``serving`` are the bridges on which this host answers DHCP."""
    bridges = [plan.bridge for plan in plans]
    yield _set("inet", "bridges", "ifname", bridges)
    yield _set("inet", "inside", "ifname", [*bridges, "lo"])
    yield _set("inet", "same", ["ifname", "ifname"], [_concat(bridge, bridge) for bridge in bridges])
    yield _set("inet", "gateways", ["ifname", "ipv4_addr"], [_concat(plan.bridge, str(plan.gateway)) for plan in plans])
    yield _set("inet", "subnets", "ipv4_addr", [_prefix(plan) for plan in plans], interval=True)
    yield _set("inet", "guests", ["ifname", "ipv4_addr"], [_concat(plan.bridge, _prefix(plan)) for plan in plans], interval=True)

    # A frame to a group that bridges do not forward (IEEE 802.1Q, table 8-1) is handed to the host as if it had come in by the
    # tap itself, past every rule for bridges.
    yield _chain("inet", "prerouting", hook="prerouting", priority=-300)
    yield _rule("inet", "prerouting", _match(_meta("iifname"), OUR_TAPS), _drop())

    # Where bridged frames pass the IP rules too (br_netfilter), a bridge's both ends are the bridge.
    yield _chain("inet", "forward", hook="forward", priority=0)
    yield _rule("inet", "forward", _match(_concat(_meta("iifname"), _meta("oifname")), "@same"), _accept())
    yield _rule("inet", "forward", _match(_meta("oifname"), "@bridges"), _jump("to_guests"))
    yield _rule("inet", "forward", _match(_meta("iifname"), "@bridges"), _jump("from_guests"))
    yield _chain("inet", "to_guests")
    yield _rule("inet", "to_guests", _match(_meta("iifname"), "@bridges"), _drop())
    yield _rule("inet", "to_guests", _known_connections())
    yield _rule("inet", "to_guests", _match({"ct": {"key": "status"}}, "dnat", "in"), _accept())
    yield _rule("inet", "to_guests", _drop())
    yield _chain("inet", "from_guests")
    yield _rule("inet", "from_guests", _match({"ct": {"key": "state"}}, "invalid", "in"), _drop())
    yield _rule("inet", "from_guests", _match(_concat(_meta("iifname"), _field("ip", "saddr")), "@guests"), _accept())
    yield _rule("inet", "from_guests", _drop())

    yield _chain("inet", "input", hook="input", priority=0)
    yield _rule("inet", "input", _match(_meta("iifname"), "@bridges"), _jump("guests_to_host"))
    yield _chain("inet", "guests_to_host")
    if serving:
        yield _set("inet", "dhcp_bridges", "ifname", serving)
        # Before the question about connections: who has no address yet speaks from none.
        yield _rule(
            "inet", "guests_to_host",
            _match(_meta("iifname"), "@dhcp_bridges"),
            _match(_field("udp", "sport"), 68),
            _match(_field("udp", "dport"), 67),
            _accept(),
        )  # fmt: skip
    yield _rule("inet", "guests_to_host", _known_connections())
    yield _rule(
        "inet", "guests_to_host",
        _match(_concat(_meta("iifname"), _field("ip", "daddr")), "@gateways"),
        _match(_field("icmp", "type"), "echo-request"),
        _accept(),
    )  # fmt: skip
    yield _rule("inet", "guests_to_host", _drop())

    yield _chain("inet", "postrouting", hook="postrouting", priority=100, type_="nat")
    yield _rule(
        "inet", "postrouting",
        _match(_field("ip", "saddr"), "@subnets"),
        _match(_meta("oifname"), "@inside", "!="),
        {"masquerade": None},
    )  # fmt: skip


def _build_published(forwards: Sequence[Forward]) -> Iterator[Expression]:
    """Published ports without volantd in between.

    What comes from guests is left out: to them a published port is the host's, and the host is closed to them.
    """
    chosen = {forward.host_port: forward for forward in sorted(forwards, key=_forward_order, reverse=True)}
    found = [chosen[host_port] for host_port in sorted(chosen)]
    # One map to address and port would do, but nft 1.0.6 cannot read such a map from JSON: it dies of it.
    yield _map("inet", "published_ips", "inet_service", "ipv4_addr", [[each.host_port, each.ip] for each in found])
    yield _map("inet", "published_ports", "inet_service", "inet_service", [[each.host_port, each.port] for each in found])
    to_host = _match({"fib": {"result": "type", "flags": ["daddr"]}}, "local")
    to_guest: Expression = {"dnat": {"family": "ip", "addr": _lookup("published_ips"), "port": _lookup("published_ports")}}

    yield _chain("inet", "published", hook="prerouting", priority=-100, type_="nat")
    yield _rule(
        "inet", "published",
        _match(_meta("nfproto"), "ipv4"),
        _match(_meta("iifname"), "@inside", "!="),
        to_host,
        to_guest,
    )  # fmt: skip
    # An answer to a loopback address cannot come in by a bridge, so those connections are left to volantd's own listener.
    yield _chain("inet", "published_here", hook="output", priority=-100, type_="nat")
    yield _rule(
        "inet", "published_here",
        _match(_meta("nfproto"), "ipv4"),
        _match(_field("ip", "daddr"), {"prefix": {"addr": LOOPBACK, "len": 8}}, "!="),
        to_host,
        to_guest,
    )  # fmt: skip


def _forward_order(forward: Forward) -> tuple[int, str, int]:
    return forward.host_port, forward.ip, forward.port


def _build_bridge(ports: Sequence[Port]) -> Iterator[Expression]:
    senders = [_concat(port.tap, port.mac, port.ip) for port in ports if port.ip]
    yield _set("bridge", "senders", ["ifname", "ether_addr", "ipv4_addr"], senders)

    owners = [_concat(port.tap, port.ip) for port in ports if port.ip]
    yield _set("bridge", "owners", ["ifname", "ipv4_addr"], owners)
    # A question for one guest's address is no other guest's business: a hundred of them would wake for each.
    for hook in ("forward", "output"):
        yield _chain("bridge", hook, hook=hook, priority=0)
        yield _rule(
            "bridge", hook,
            _match(_meta("oifname"), OUR_TAPS),
            _match(_field("ether", "type"), "arp"),
            _match(_concat(_meta("oifname"), _field("arp", "daddr ip")), "@owners", "!="),
            _drop(),
        )  # fmt: skip

    # Nor is a question to a DHCP server: no guest is one.
    yield _rule(
        "bridge", "forward",
        _match(_meta("oifname"), OUR_TAPS),
        _match(_field("ether", "type"), "ip"),
        _match(_field("udp", "dport"), 67),
        _drop(),
    )  # fmt: skip

    askers = [_concat(port.tap, port.mac) for port in ports if port.dhcp]
    yield _set("bridge", "askers", ["ifname", "ether_addr"], askers)
    yield _chain("bridge", "prerouting", hook="prerouting", priority=-300)
    yield _rule("bridge", "prerouting", _match(_meta("iifname"), OUR_TAPS), _jump("from_guest"))

    yield _chain("bridge", "from_guest")
    tap_and_mac = (_meta("iifname"), _field("ether", "saddr"))
    # Tagged frames have another ether type and fall through; an ARP packet must be the one kind that RFC 826 defines for IPv4.
    yield _rule(
        "bridge", "from_guest",
        _match(_field("ether", "type"), "arp"),
        _match(_field("arp", "htype"), 1),
        _match(_field("arp", "ptype"), "ip"),
        _match(_field("arp", "hlen"), 6),
        _match(_field("arp", "plen"), 4),
        _match(_concat(*tap_and_mac, _field("arp", "saddr ip")), "@senders"),
        _match(_concat(_meta("iifname"), _field("arp", "saddr ether"), _field("arp", "saddr ip")), "@senders"),
        _accept(),
    )  # fmt: skip
    yield _rule(
        "bridge", "from_guest",
        _match(_field("ether", "type"), "ip"),
        _match(_field("ip", "protocol"), "udp"),
        _match(_field("udp", "sport"), 67),
        _drop(),
    )  # fmt: skip
    yield _rule(
        "bridge", "from_guest",
        _match(_field("ether", "type"), "ip"),
        _match(_concat(*tap_and_mac, _field("ip", "saddr")), "@senders"),
        _accept(),
    )  # fmt: skip
    # RFC 2131, section 4.1: who has no address yet speaks from 0.0.0.0 to everybody.
    yield _rule(
        "bridge", "from_guest",
        _match(_field("ether", "type"), "ip"),
        _match(_field("ip", "saddr"), "0.0.0.0"),
        _match(_field("ip", "daddr"), "255.255.255.255"),
        _match(_field("udp", "sport"), 68),
        _match(_field("udp", "dport"), 67),
        _match(_concat(*tap_and_mac), "@askers"),
        _accept(),
    )  # fmt: skip
    yield _rule("bridge", "from_guest", _drop())


def _chain(family: str, name: str, *, hook: str = "", priority: int = 0, type_: str = "filter") -> Expression:
    chain: Expression = {"family": family, "table": TABLE, "name": name}
    if hook:
        chain |= {"type": type_, "hook": hook, "prio": priority, "policy": "accept"}
    return {"add": {"chain": chain}}


def _rule(family: str, chain: str, *expressions: Expression) -> Expression:
    return {"add": {"rule": {"family": family, "table": TABLE, "chain": chain, "expr": list(expressions)}}}


def _set(family: str, name: str, type_: str | list[str], elements: Sequence[object], *, interval: bool = False) -> Expression:
    described: Expression = {"family": family, "table": TABLE, "name": name, "type": type_}
    if interval:
        described["flags"] = ["interval"]
    if elements:
        described["elem"] = list(elements)
    return {"add": {"set": described}}


def _map(family: str, name: str, type_: str, data: str, elements: Sequence[object]) -> Expression:
    described: Expression = {"family": family, "table": TABLE, "name": name, "type": type_, "map": data}
    if elements:
        described["elem"] = list(elements)
    return {"add": {"map": described}}


def _lookup(name: str) -> Expression:
    """What the map ``name`` says of the packet's port; a port that is not in it ends the rule."""
    return {"map": {"key": _field("tcp", "dport"), "data": f"@{name}"}}


def _match(left: Expression, right: object, operator: str = "==") -> Expression:
    return {"match": {"op": operator, "left": left, "right": right}}


def _concat(*parts: object) -> Expression:
    return {"concat": list(parts)}


def _meta(key: str) -> Expression:
    return {"meta": {"key": key}}


def _field(protocol: str, field: str) -> Expression:
    return {"payload": {"protocol": protocol, "field": field}}


def _prefix(plan: NetworkPlan) -> Expression:
    return {"prefix": {"addr": str(plan.subnet.network_address), "len": plan.prefix_length}}


def _known_connections() -> Expression:
    states = [["established", _accept()], ["related", _accept()], ["invalid", _drop()]]
    return {"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": states}}}


def _accept() -> Expression:
    return {"accept": None}


def _drop() -> Expression:
    return {"drop": None}


def _jump(chain: str) -> Expression:
    return {"jump": {"target": chain}}
