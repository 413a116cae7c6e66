"""What is made of a `Node`, of what an agent told and of what a BMC says, before a remedy is decided."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest

from control_plane.api.objects import AlertPart, Condition, GpuNodeStatus, GpuPart
from control_plane.core.bmc import BmcSeen, BootProgress, Health, Power
from control_plane.core.bmc_quirks import Maker
from control_plane.core.cluster import NODE
from control_plane.core.domain_budget import Cause
from control_plane.core.driver_upgrade import LABEL, UpgradeState
from control_plane.core.fleet import Device, GpuIntent
from control_plane.core.gpu import Alert, AlertKind, Rung
from control_plane.core.handed_over import CORDONED, FOUND_CORDONED, QUARANTINED
from control_plane.core.node_drain import Drained
from control_plane.core.node_hold import NodeHold, held_body, node_in
from control_plane.core.remedy_case import CordonedBy, Evidence, Source
from control_plane.core.remedy_round import NodeView
from control_plane.kube.gpu_view import BY, Known, NodeFacts, facts_of, serves, view_of
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.virtual import VirtualClock, VirtualLoop
from tests.kube.snapshots import lab

DEVICE: Device = next(d for d in lab().devices if d.asset == "lab-g1-n1")
NOW_S = 1_790_000_000.0
AT = dt.datetime.fromtimestamp(NOW_S, dt.UTC)
BOARD = "4c4c4544-0031-3010-8052-b7c04f583232"


def facts(*, ready: str = "True", gpus: str | None = "8", labels: dict[str, str] | None = None,
          words: dict[str, str] | None = None, spec: dict[str, Any] | None = None,
          hold: str = "") -> NodeFacts:  # fmt: skip
    """Of a node as the API server keeps it; `words` are annotations, `hold` is who holds it."""
    loop = VirtualLoop()
    loop.close()  # nothing waits here
    server = ApiServer(VirtualClock(loop))
    body: dict[str, Any] = {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": DEVICE.asset, "labels": labels or {}, "annotations": words or {}},
        "spec": spec or {},
    }  # fmt: skip
    server.create(NODE, body, manager="kubelet")
    status = {
        "conditions": [
            {
                "type": "Ready",
                "status": ready,
                "lastTransitionTime": AT.isoformat().replace("+00:00", "Z"),
            }
        ],
        "allocatable": {} if gpus is None else {"nvidia.com/gpu": gpus},
        "nodeInfo": {"bootID": "b1", "systemUUID": BOARD},
    }
    server.apply(
        NODE,
        {**body, "status": status, "spec": {}},
        manager="kubelet",
        force=True,
        subresource="status",
    )
    if hold:
        node = node_in(server.get(NODE, DEVICE.asset))
        by = NodeHold(by=hold, why="x", since_s=NOW_S - 100)
        server.apply(
            NODE, held_body(node, by), manager="gridplane-hold", force=True, subresource=""
        )
    return facts_of(server.get(NODE, DEVICE.asset))


def agent(*alerts: AlertPart, ago_s: float = 5.0, processes: int | None = 0) -> GpuNodeStatus:
    """An agent that reads all GPUs."""
    at = dt.datetime.fromtimestamp(NOW_S - ago_s, dt.UTC)
    healthy = "False" if alerts else "True"
    return GpuNodeStatus(
        reported_at=at, driver="595.91.07", alerts=alerts, processes=processes,
        gpus=tuple(
            GpuPart(index=n, pci=f"{n:02X}", enforced_w=650.0, remap="none", fabric="completed")
            for n in range(8)
        ),
        conditions=tuple(
            Condition(
                type=kind, status=truth, reason="Said", message="", observed_generation=1,  # type: ignore[arg-type]
                last_transition_time=at,
            )
            for kind, truth in (("GpusReadable", "True"), ("GpusHealthy", healthy))
        ),
    )  # fmt: skip


LOST = AlertPart(kind="gpu_lost", rung="reboot", since=AT, gpu="03")


def view(of: NodeFacts | None, told: GpuNodeStatus | None = None, **known: Any) -> NodeView:
    return view_of(DEVICE, of, told, Known(**known), overlays=(), now_s=NOW_S)


def said(seen: NodeView, source: Source) -> tuple[bool | None, bool | None]:
    """(drained, well)."""
    one: Evidence | None = seen.said(source)
    return (None, None) if one is None else (one.drained, one.well)


def test_a_node_is_read() -> None:
    found = facts()
    assert (found.is_ready, found.allocatable, found.boot, found.board) == (True, 8, "b1", BOARD)
    assert found.ready_since_s == NOW_S


@pytest.mark.parametrize(
    ("of", "is_so"),
    [
        (facts(), True),
        (facts(gpus="7"), False),
        (facts(gpus="0"), False),
        (facts(gpus=None), None),  # offered by another name
        (facts(ready="Unknown"), False),
        (None, None),
    ],
)
def test_whether_it_serves(of: NodeFacts | None, is_so: bool | None) -> None:
    assert serves(of, DEVICE) is is_so


def test_a_node_that_is_well_has_nothing_against_it() -> None:
    seen = view(facts(), agent())
    assert (seen.alerts, seen.cordons, seen.foreign, seen.causes) == ((), (), (), frozenset())
    assert said(seen, Source.CLUSTER) == (None, True)
    assert said(seen, Source.AGENT) == (True, True)
    assert seen.gate is not None
    assert seen.gate.missing == ()


def test_a_silent_kubelet_keeps_what_was_wrong_and_is_wrong_itself() -> None:
    seen = view(facts(ready="Unknown"), agent(LOST, ago_s=500))
    assert [(a.kind, a.rung) for a in seen.alerts] == [
        (AlertKind.GPU_LOST, Rung.REBOOT), (AlertKind.UNREADABLE, Rung.REBOOT)
    ]  # fmt: skip
    assert seen.alerts_at_s == NOW_S
    assert seen.causes == {Cause.FAULT}
    assert seen.gate is not None
    assert "its kubelet is not ready" in seen.gate.missing


def test_a_node_that_is_not_there_is_unknown() -> None:
    seen = view(None)
    assert seen.causes == {Cause.UNKNOWN}
    assert (seen.evidence, seen.alerts_at_s) == ((), None)


@pytest.mark.parametrize(
    ("of", "by"),
    [
        (facts(hold=BY), [CordonedBy.OURS]),
        (facts(hold="gridplane-mig"), [CordonedBy.PROGRAM]),
        (facts(spec={"unschedulable": True}), [CordonedBy.PERSON]),
        (facts(spec={"unschedulable": True}, hold=BY), [CordonedBy.OURS, CordonedBy.PERSON]),
        (
            facts(
                spec={"unschedulable": True},
                labels={LABEL: UpgradeState.POD_RESTART_REQUIRED.value},
            ),
            [],
        ),
    ],
)
def test_whose_a_cordon_is(of: NodeFacts, by: list[CordonedBy]) -> None:
    seen = view(of, agent())
    assert [one.by for one in seen.cordons] == by
    assert bool(seen.foreign) is (not by)


SENTINELS = {QUARANTINED: "[]", CORDONED: "True"}
CORDON = {"unschedulable": True}


@pytest.mark.parametrize(
    ("of", "is_handed", "by", "causes"),
    [
        (facts(spec=CORDON, words=SENTINELS), False, [CordonedBy.PROGRAM], {Cause.PERSON}),
        (facts(spec=CORDON, words=SENTINELS), True, [], {Cause.REMEDIATION}),
        (facts(spec=CORDON, words=SENTINELS, hold=BY), True, [CordonedBy.OURS], {Cause.REMEDIATION}),
        # The request was deleted, or answered: what it cordoned is still no bar to what we hold.
        (facts(spec=CORDON, words=SENTINELS, hold=BY), False, [CordonedBy.OURS], set()),
        (
            facts(spec=CORDON, words={**SENTINELS, FOUND_CORDONED: "True"}), True,
            [CordonedBy.PERSON], {Cause.PERSON, Cause.REMEDIATION},
        ),
        (facts(spec=CORDON), True, [CordonedBy.PERSON], {Cause.PERSON, Cause.REMEDIATION}),
        (facts(words=SENTINELS), True, [], set()),
    ],
)  # fmt: skip
def test_what_a_cordon_is_of_a_node_that_nvsentinel_has_or_hands_over(
    of: NodeFacts, is_handed: bool, by: list[CordonedBy], causes: set[Cause]
) -> None:
    seen = view(of, agent(), is_handed=is_handed)
    assert [one.by for one in seen.cordons] == by
    assert seen.causes == causes


def test_while_hand_overs_are_not_known_what_nvsentinel_keeps_out_is_its_own() -> None:
    kept_out = facts(spec=CORDON, words=SENTINELS, hold=BY)
    assert [one.owner for one in view(kept_out, agent(), knows_handed=False).foreign] == [
        "nvsentinel"
    ]
    assert view(kept_out, agent()).foreign == ()
    assert view(facts(), agent(), knows_handed=False).foreign == ()


def test_what_is_handed_over_is_wrong_beside_what_the_agent_says() -> None:
    handed = Alert(kind=AlertKind.HANDED_OVER, rung=Rung.REBOOT, since_s=NOW_S - 60)
    seen = view(facts(), agent(LOST), handed=(handed,))
    assert [one.kind for one in seen.alerts] == [AlertKind.GPU_LOST, AlertKind.HANDED_OVER]


def test_somebody_who_lets_pods_come_again_has_a_say() -> None:
    held = facts(hold=BY)
    lifted = msgspec.structs.replace(
        held, node=msgspec.structs.replace(held.node, is_cordoned=False)
    )
    assert [one.by for one in view(lifted).cordons] == [CordonedBy.OURS, CordonedBy.PERSON]


@pytest.mark.parametrize("uid", ["", "another"])
def test_only_of_this_very_node_it_was_read_that_it_is_empty(uid: str) -> None:
    held = facts(hold=BY)
    mine = Drained(node=DEVICE.asset, uid=held.node.uid, at_s=NOW_S - 3)
    assert said(view(held, drained=mine), Source.CLUSTER)[0] is True
    other = msgspec.structs.replace(mine, uid=uid)
    assert said(view(held, drained=other), Source.CLUSTER)[0] is None


@pytest.mark.parametrize(
    ("seen", "tells_boot", "told"),
    [
        ({"power": Power.OFF}, False, (True, False)),
        ({"power": Power.ON, "health": Health.OK}, True, (None, None)),
        ({"power": None}, True, (None, None)),
        ({"power": Power.POWERING_ON}, False, (None, None)),
        ({"power": Power.ON, "health": Health.CRITICAL}, False, (None, False)),
        ({"power": Power.ON, "progress": BootProgress.FIRMWARE}, True, (True, False)),
        # One that never tells that an operating system runs may tell firmware for ever.
        ({"power": Power.ON, "progress": BootProgress.FIRMWARE}, False, (None, None)),
        ({"power": Power.ON, "progress": BootProgress.SETUP}, True, (None, None)),
        ({"power": Power.ON, "progress": BootProgress.OS_STARTED}, True, (None, None)),
        ({"power": Power.ON, "progress": BootProgress.OS_RUNNING}, True, (None, None)),
    ],
)
def test_a_bmc_says_no_more_than_it_sees(
    seen: dict[str, Any], tells_boot: bool, told: tuple[bool | None, bool | None]
) -> None:
    bmc = BmcSeen(maker=Maker.DELL, **seen)
    found = view(facts(), bmc=bmc, bmc_at_s=NOW_S, tells_boot=tells_boot)
    assert said(found, Source.BMC) == told


def test_what_its_profile_and_its_bmc_allow() -> None:
    gpu = msgspec.structs.replace(DEVICE.intent.gpu or GpuIntent(), acts=True)
    acting = msgspec.structs.replace(DEVICE, intent=msgspec.structs.replace(DEVICE.intent, gpu=gpu))

    def policy(device: Device, *, may_act: bool, has_bmc: bool = False) -> tuple[bool, bool]:
        known = Known(may_act=may_act, has_bmc=has_bmc)
        found = view_of(device, None, None, known, overlays=(), now_s=NOW_S).policy
        assert not found.rungs & {Rung.RESET_GPU, Rung.RELOAD_DRIVER}
        return found.acts, Rung.REBOOT in found.rungs

    assert policy(DEVICE, may_act=True, has_bmc=True) == (False, True)
    assert policy(acting, may_act=True) == (True, False)
    assert policy(acting, may_act=False, has_bmc=True) == (False, True)
