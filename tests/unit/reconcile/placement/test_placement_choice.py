"""Which node a VM is given, and in which words it is not."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.condition import Condition
from volant.core.errors import InvalidInput
from volant.core.hardware import Gpu, Hardware
from volant.core.node import NODE_READY, NodeDevice, Taint
from volant.core.placement import Affinity, Placement, Spread, Toleration, check_placement
from volant.reconcile.placement.candidate import Survey, Term
from volant.reconcile.placement.choice import NAMED_NODES, choose_node
from volant.reconcile.placement.filters import find_reason

from .nodes_of import candidate, make_node, wish

NOTHING = Survey((), (), ())
CARD = NodeDevice(address="0000:01:00.0", device="10de:2684")


def test_the_reasons_are_said_of_every_node() -> None:
    full = candidate(make_node("node-a"), memory=3840)
    tainted = candidate(make_node("node-b", taints=(Taint(key="gpu"),)))
    choice = choose_node(wish(memory=768), [tainted, full])
    assert choice.node == ""
    assert choice.message == "node-a: 512 MiB short of memory; node-b: tainted gpu"


def test_without_nodes_that_is_said() -> None:
    assert choose_node(wish(), []).message == "there is no node"


def test_many_nodes_are_told_by_their_reasons() -> None:
    nodes = [candidate(make_node(f"node-{i:02}"), cores=4) for i in range(NAMED_NODES + 3)]
    nodes.append(candidate(make_node("other", unschedulable=True)))
    assert choose_node(wish(), nodes).message == f"{NAMED_NODES + 3} nodes: 1 cores short; 1 nodes: cordoned"


@pytest.mark.parametrize(
    ("changes", "placement", "reason"),
    [
        ({"unschedulable": True}, Placement(), "cordoned"),
        ({}, Placement(node="elsewhere"), "not the node that it asks for, elsewhere"),
        ({"labels": {"zone": "b"}}, Placement(nodes="zone=a"), "its labels are not zone=a"),
        ({"taints": (Taint(key="gpu", value="yes"),)}, Placement(), "tainted gpu=yes"),
        ({"taints": (Taint(key="old", effect="NoExecute"),)}, Placement(), "tainted old"),
        ({"taints": (Taint(key="slow", effect="PreferNoSchedule"),)}, Placement(), ""),
        ({"taints": (Taint(key="gpu", value="yes"),)}, Placement(tolerations=(Toleration(key="gpu"),)), ""),
        (
            {"taints": (Taint(key="gpu", value="yes"),)},
            Placement(tolerations=(Toleration(key="gpu", value="no"),)),
            "tainted gpu=yes",
        ),
        (
            {"taints": (Taint(key="gpu", effect="NoExecute"),)},
            Placement(tolerations=(Toleration(key="gpu", effect="NoSchedule"),)),
            "tainted gpu",
        ),
    ],
)
def test_what_operators_say_keeps_away(changes: dict[str, object], placement: Placement, reason: str) -> None:
    node = candidate(make_node("a", **changes))  # type: ignore[arg-type]  # what each case says
    assert find_reason(wish(placement=placement), node, NOTHING) == reason


def test_overcommit_and_what_is_reserved_decide_how_much_is_given_out() -> None:
    node = make_node("a", cores=2, memory=1536, cpu_overcommit=2.0, memory_overcommit=1.5, reserved_memory_mb=512)
    assert find_reason(wish(1, 512), candidate(node, cores=3, memory=1024), NOTHING) == ""
    assert find_reason(wish(1, 512), candidate(node, cores=3.5, memory=0), NOTHING) == "0.5 cores short"
    assert find_reason(wish(1, 512), candidate(node, memory=1025), NOTHING) == "1 MiB short of memory"
    # No VM has more cores than there are, whatever the overcommit.
    assert find_reason(wish(3, 64), candidate(node), NOTHING) == "it has 2 cores, and 3 are wanted"


def test_a_node_that_is_lost_or_goes_takes_nothing() -> None:
    node = make_node("a")
    silent = (Condition(type=NODE_READY, status="Unknown"),)
    lost = msgspec.structs.replace(node, status=msgspec.structs.replace(node.status, conditions=silent))
    assert "lost" in find_reason(wish(), candidate(lost, ready=False), NOTHING)
    going = msgspec.structs.replace(node, meta=msgspec.structs.replace(node.meta, deleting_at="now"))
    assert find_reason(wish(), candidate(going), NOTHING) == "being removed"
    assert find_reason(wish(), candidate(node, has_slot=False), NOTHING) == "it has no slot left for another VM"


def test_devices_are_claimed_by_count_and_kind() -> None:
    node = make_node("a", devices=(CARD,))
    asks = Hardware(gpus=(Gpu(device="10de"),))
    assert find_reason(wish(hardware=asks), candidate(node), NOTHING) == ""
    taken = find_reason(wish(hardware=asks), candidate(node, devices=()), NOTHING)
    assert taken == "its devices are given out (wanted 1 × 10de)"
    two = Hardware(gpus=(Gpu(device="10de", count=2),))
    assert "gives its VMs gpus" in find_reason(wish(hardware=two), candidate(node), NOTHING)
    assert "gives its VMs gpus" in find_reason(wish(hardware=asks), candidate(make_node("b")), NOTHING)
    other = Hardware(gpus=(Gpu(device="1002"),))
    assert find_reason(wish(hardware=other), candidate(node), NOTHING) != ""


def test_one_that_starts_again_is_asked_only_for_room_where_it_is() -> None:
    here = candidate(make_node("a", unschedulable=True, taints=(Taint(key="x"),)), memory=1024)
    empty = candidate(make_node("b"))
    assert choose_node(wish(pinned="a"), [here, empty]).node == "a"
    full = candidate(make_node("a"), memory=4096)
    assert choose_node(wish(pinned="a"), [full, empty]).message == "a: 512 MiB short of memory"
    assert choose_node(wish(pinned="c"), [full, empty]).message == "c: it is no longer there"


def test_the_emptier_node_is_chosen_and_a_tie_goes_by_name() -> None:
    a, b = candidate(make_node("a"), memory=2048), candidate(make_node("b"), memory=1024)
    assert choose_node(wish(), [a, b]).node == "b"
    assert choose_node(wish(), [candidate(make_node("b")), candidate(make_node("a"))]).node == "a"


def test_kin_are_spread_before_room_counts() -> None:
    a, b = candidate(make_node("a")), candidate(make_node("b"), memory=1024)
    assert choose_node(wish(kin={"a": 2}), [a, b]).node == "b"


def test_a_shunned_node_is_the_last_choice_and_still_one() -> None:
    shunned = candidate(make_node("a", taints=(Taint(key="slow", effect="PreferNoSchedule"),)))
    other = candidate(make_node("b"), memory=3072)
    assert choose_node(wish(), [shunned, other]).node == "b"
    assert choose_node(wish(), [shunned]).node == "a"


def test_affinity_that_must_be() -> None:
    a, b = candidate(make_node("a", labels={"zone": "x"})), candidate(make_node("b", labels={"zone": "y"}))
    near = Placement(affinity=(Affinity(vms="app=db", topology="zone"),))
    has_db = (Term(topology="zone", counts={"b": 1}),)
    assert choose_node(wish(placement=near, affinity=has_db), [a, b]).node == "b"
    apart = Placement(affinity=(Affinity(vms="app=db", topology="zone", apart=True),))
    assert choose_node(wish(placement=apart, affinity=has_db), [a, b]).node == "a"
    nowhere = choose_node(wish(placement=near, affinity=(Term(topology="zone", counts={}),)), [a, b])
    assert nowhere.reasons == dict.fromkeys(("a", "b"), "it would not be near app=db (in one zone)")
    # The first of those that are to be together may be anywhere.
    first = wish(placement=near, affinity=(Term(topology="zone", counts={}),), matches_itself=(True,))
    assert choose_node(first, [a, b]).node == "a"


def test_affinity_that_is_wished_for_only_scores() -> None:
    a, b = candidate(make_node("a")), candidate(make_node("b"), memory=2048)
    near = Placement(affinity=(Affinity(vms="app=db", weight=50),))
    has_db = (Term(topology="node", counts={"b": 1}),)
    assert choose_node(wish(placement=near, affinity=has_db), [a, b]).node == "b"
    assert choose_node(wish(placement=near, affinity=has_db), [a]).node == "a"


def test_spread_that_is_required_keeps_the_skew() -> None:
    zones = {"a": "x", "b": "x", "c": "y"}
    nodes = [candidate(make_node(name, labels={"zone": zone})) for name, zone in zones.items()]
    placement = Placement(spread=(Spread(topology="zone", when="require", vms="app=web"),))
    counts = (Term(topology="zone", counts={"a": 1}),)
    choice = choose_node(wish(placement=placement, spread=counts), nodes)
    assert choice.node == "c"
    full = [nodes[0], nodes[1], candidate(nodes[2].node, memory=4096)]
    refused = choose_node(wish(placement=placement, spread=counts), full)
    # A full zone still counts as one: spreading waits for it rather than crowd the other.
    assert refused.reasons["a"] == refused.reasons["b"] == "x would have 2 more than another zone, and 1 may be"
    assert refused.reasons["c"] == "512 MiB short of memory"


def test_a_node_that_could_not_be_is_no_place_to_spread_over() -> None:
    a = candidate(make_node("a"))
    away = candidate(make_node("b", taints=(Taint(key="gpu"),)))
    placement = Placement(spread=(Spread(when="require"),))
    choice = choose_node(wish(placement=placement, spread=(Term(topology="node", counts={"a": 5}),)), [a, away])
    assert choice.node == "a"


@given(
    st.lists(st.tuples(st.integers(0, 4096), st.integers(0, 4), st.booleans()), min_size=1, max_size=6),
    st.integers(1, 4),
    st.integers(32, 4096),
    st.permutations(range(6)),
)
def test_what_is_chosen_fits_and_does_not_depend_on_the_order(
    nodes: list[tuple[int, int, bool]], cores: int, memory: int, order: list[int]
) -> None:
    made = [
        candidate(make_node(f"n{i}", unschedulable=cordoned), cores=used, memory=given)
        for i, (given, used, cordoned) in enumerate(nodes)
    ]
    choice = choose_node(wish(cores, memory), made)
    shuffled = [made[i] for i in order if i < len(made)]
    assert choose_node(wish(cores, memory), shuffled) == choice
    fits = {
        one.name
        for one in made
        if not one.node.spec.unschedulable and one.given.memory_mb + memory <= 4096 and one.given.cpu_cores + cores <= 4
    }
    assert choice.node in fits if fits else choice.node == ""
    assert set(choice.reasons) == (set() if fits else {one.name for one in made})


@pytest.mark.parametrize(
    "placement",
    [
        Placement(nodes="zone=a,"),
        Placement(affinity=(Affinity(vms=""),)),
        Placement(affinity=(Affinity(vms="a b"),)),
        Placement(spread=(Spread(vms="(x"),)),
    ],
)
def test_a_selector_that_cannot_be_read_is_refused(placement: Placement) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_placement(placement)
    assert (refused.value.field or "").startswith("placement.")
