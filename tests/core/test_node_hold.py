"""What a hold and a declaration make of any node there may be, and what they leave alone."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.core.cluster import Object
from control_plane.core.node_hold import (
    LABELS,
    TAINT,
    Node,
    NodeHold,
    Taint,
    held_body,
    hold_in,
    missing_in,
    node_in,
    released_body,
)
from control_plane.core.node_labels import with_taints

taints = st.builds(
    Taint,
    key=st.sampled_from([TAINT, "a", "b", "node.kubernetes.io/unschedulable"]),
    value=st.sampled_from(["", "x"]),
    effect=st.sampled_from(["NoSchedule", "NoExecute"]),
    time_added=st.sampled_from(["", "2026-11-01T10:00:00Z"]),
)
lists = st.lists(taints, max_size=5, unique_by=lambda taint: (taint.key, taint.effect)).map(tuple)
nodes = st.builds(
    Node,
    name=st.just("n1"),
    uid=st.just("u1"),
    version=st.just("7"),
    labels=st.dictionaries(st.sampled_from([*LABELS, "theirs"]), st.sampled_from(["true", "x"])),
    annotations=st.dictionaries(st.sampled_from(["theirs", "gridplane.dev/hold-found"]), st.text()),
    is_cordoned=st.booleans(),
    taints=lists,
)
holds = st.builds(
    NodeHold,
    by=st.text(min_size=1),
    why=st.text(),
    since_s=st.integers(0, 2**32).map(float),
    until_s=st.none() | st.integers(0, 2**32).map(float),
)


def applied(node: Node, body: dict[str, Any]) -> Node:
    """As a server has it afterwards, where nobody else owns what is given up."""
    sent = msgspec.json.decode(msgspec.json.encode(body), type=Object)
    made = node_in(sent)
    return msgspec.structs.replace(
        made,
        labels={**node.labels, **made.labels},
        annotations={**node.annotations, **made.annotations},
    )


@settings(max_examples=40)
@given(nodes, holds)
def test_a_held_node_has_every_mark_and_says_the_hold(node: Node, hold: NodeHold) -> None:
    after = applied(node, held_body(node, hold))
    assert missing_in(after) == ()
    assert hold_in(after) == hold


@settings(max_examples=40)
@given(nodes, holds)
def test_taints_of_others_are_never_touched(node: Node, hold: NodeHold) -> None:
    others = tuple(taint for taint in node.taints if taint.key != TAINT)
    after = applied(node, held_body(node, hold))
    assert tuple(taint for taint in after.taints if taint.key != TAINT) == others
    assert applied(after, released_body(after)).taints == others


@settings(max_examples=40)
@given(nodes, holds)
def test_every_body_is_onto_the_node_that_was_read(node: Node, hold: NodeHold) -> None:
    for body in (held_body(node, hold), released_body(node)):
        meta = body["metadata"]
        assert (meta["uid"], meta["resourceVersion"]) == (node.uid, node.version)
        assert "taints" in body["spec"], "given up, others' would go with it"


@settings(max_examples=40)
@given(nodes, lists, st.sets(st.sampled_from(["a", "b"])).map(frozenset))
def test_declared_taints_settle_and_others_stay(
    node: Node, declared: tuple[Taint, ...], keys: frozenset[str]
) -> None:
    wanted = [taint for taint in declared if taint.key in keys]
    made = with_taints(node, wanted, keys)
    after = node if made is None else msgspec.structs.replace(node, taints=made)
    assert with_taints(after, wanted, keys) is None, "a second time nothing is written"
    theirs = [taint for taint in node.taints if taint.key not in keys]
    assert [taint for taint in after.taints if taint.key not in keys] == theirs
    ours = {(t.key, t.value, t.effect) for t in after.taints if t.key in keys}
    assert ours == {(t.key, t.value, t.effect) for t in wanted}
