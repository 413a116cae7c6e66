"""The roles for node work: what the code asks of an API server is what they allow, no more and no less."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import yaml

from control_plane.core.cluster import NODE
from control_plane.core.external_remediation import REQUEST
from control_plane.core.gpu import Alert
from control_plane.core.kueue import StopPolicy
from control_plane.core.node_drain import DrainState
from control_plane.kube.cache import Cache
from control_plane.kube.external_remediation import ExternalRemediations
from control_plane.kube.handed_over import HandOvers
from control_plane.kube.kueue import Queues
from control_plane.kube.node_conditions import NodeConditions
from control_plane.kube.node_drain import forget
from control_plane.kube.node_labels import NodeLabels
from control_plane.kube.reflector import Reflector
from control_plane.simulator.api_client import Call
from tests.kube.nodes import FORCEFUL, REPAIR, Hall, hall
from tests.kube.running import no_bug
from tests.kube.test_external_remediation import have as have_request
from tests.kube.test_kueue import WATTS, WHO
from tests.kube.test_kueue import have as have_queue
from tests.stock import ROOT

VERBS = {"apply": "patch", "replace": "update", "evict": "create"}
Right = tuple[str, str, str]
"""(API group, resource, verb)."""


def rules(name: str) -> set[Right]:
    text = (ROOT / "manifests/controller/rbac.yaml").read_text(encoding="utf-8")
    [role] = [
        one
        for one in yaml.safe_load_all(text)
        if one["kind"] == "ClusterRole" and one["metadata"]["name"] == name
    ]
    return set(_rights(role))


def _rights(role: dict[str, Any]) -> Iterator[Right]:
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                yield from ((group, resource, verb) for verb in rule["verbs"])


def right(call: Call) -> Right:
    """What an API server would ask its roles."""
    resource = f"{call.kind.plural}/{call.subresource}" if call.subresource else call.kind.plural
    return call.kind.group, resource, VERBS.get(call.verb, call.verb)


def test_the_roles_allow_what_is_asked_and_nothing_else() -> None:
    asked: set[Right] = set()
    forced: set[Right] = set()

    async def case(h: Hall) -> None:
        await h.have()
        await h.pod("p1", labels={"app": "train"})
        await have_request(h)
        await have_queue(h)
        requests = ExternalRemediations(h.client, clock=h.clock, may_write=lambda: True)
        queues = Queues(h.client, may_write=lambda: True)
        h.client.faults.before = lambda call: asked.add(right(call))
        nodes = Reflector(
            h.client, Cache(NODE, bug=no_bug), clock=h.clock, rng=random.Random(1), bug=no_bug
        )
        handed = HandOvers(
            h.client,
            clock=h.clock,
            rng=random.Random(1),
            bug=no_bug,
            say=lambda _text, /, **_: None,
        )
        watching = [asyncio.ensure_future(one.run()) for one in (nodes, handed)]
        await nodes.synced.wait()
        await asyncio.sleep(1.0)
        for task in watching:
            task.cancel()
        await NodeLabels(h.client, may_write=lambda: True).keep("n1", {"gridplane.dev/rack": "r1"})
        alerts: list[Alert] = []
        said = NodeConditions(h.client, clock=h.clock, may_write=lambda: True)
        await said.tell("n1", alerts)
        await h.hold()
        assert (await h.drain().run()).state is DrainState.DRAINED
        [request] = handed.open()
        await requests.succeeded(request, "ok")
        await h.holds().release("n1", by=REPAIR)
        await forget(h.client, "n1", may_write=lambda: True)
        await queues.lower("q1", "h200", WATTS, to=0, **WHO)
        await queues.stop("q1", StopPolicy.HOLD, by="x", why="y")

        h.client.faults.before = None
        await h.pod("p2", labels={"app": "train"})
        await h.budget("b1", minAvailable=1)
        await h.hold()
        h.client.faults.before = lambda call: forced.add(right(call))
        drain = h.drain(FORCEFUL, lasts_s=10.0, is_unsafe=True)
        assert (await drain.run()).state is DrainState.DRAINED

    hall(case)
    assert asked == rules("gridplane-controller-nodes")
    assert forced - asked == rules("gridplane-controller-forced-drain")


def test_nobody_has_the_right_to_force_until_it_is_bound() -> None:
    text = (ROOT / "manifests/controller/rbac.yaml").read_text(encoding="utf-8")
    bound = {
        one["roleRef"]["name"]
        for one in yaml.safe_load_all(text)
        if one["kind"].endswith("Binding")
    }
    assert "gridplane-controller-nodes" in bound
    assert "gridplane-controller-forced-drain" not in bound


def test_no_role_of_a_cluster_has_a_wildcard_or_gives_a_node_back() -> None:
    for name in ("gridplane-controller-nodes", "gridplane-controller-forced-drain"):
        found = rules(name)
        assert not [part for each in found for part in each if "*" in part]
        assert not {each for each in found if each[2] == "delete"} - {("", "pods", "delete")}
    assert (REQUEST.group, REQUEST.plural, "delete") not in rules("gridplane-controller-nodes")
    assert ("", NODE.plural, "update") not in rules("gridplane-controller-nodes")
