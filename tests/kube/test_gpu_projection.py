"""GPU nodes as objects: what the controller grants, and what it makes of what agents tell."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest

from control_plane.api.conditions import Told, camel, moment
from control_plane.api.objects import Condition, GpuNodeSpec, GpuNodeStatus, GpuSettingsPart
from control_plane.core import limits
from control_plane.core.fleet import SlotState
from control_plane.core.gpu_life import Life, Operation, Record
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.remedy_case import NEEDS_PERSON, Action, Remedy, Stay, Stayed, Why
from control_plane.kube.gpu_projection import AS_DECLARED, HEALTHY, READABLE, gpu_nodes
from control_plane.kube.snapshot import Snapshot
from tests.kube.snapshots import converged, lab, snapshot

LAB = lab()
WORLD = converged(LAB)
NODE = "lab-g1-n1"
NOW_S = 1_800_000_000.0


def at(now_s: float = NOW_S, fence: int | None = 7, **world: Any) -> Snapshot:
    made = snapshot(LAB, msgspec.structs.replace(WORLD, now_s=now_s, **world))
    return msgspec.structs.replace(made, fence=fence)


def spec(of: Snapshot, node: str = NODE) -> GpuNodeSpec:
    return next(spec for name, spec, _, _ in gpu_nodes(of, {}, {}) if name == node)


def told(status: GpuNodeStatus | None, of: Snapshot | None = None) -> tuple[str, str, str]:
    reported = {} if status is None else {NODE: status}
    found: list[Told] = next(t for n, _, _, t in gpu_nodes(of or at(), reported, {}) if n == NODE)
    (one,) = found
    return one.type, one.status, one.reason


def test_a_node_is_granted_what_is_declared_under_the_fence_for_a_while() -> None:
    found = spec(at())
    assert (found.bmc, found.gpus, found.node_name) == ("10.90.3.21", 8, NODE)
    assert found.settings == GpuSettingsPart(persistence=True, ecc=True)
    assert found.power_cap is not None
    assert (found.power_cap.gpu_w, found.power_cap.fence) == (650.0, 7)
    left_s = found.power_cap.granted_until.timestamp() - NOW_S
    assert limits.GPU_GRANT_S / 2 < left_s <= limits.GPU_GRANT_S


def shown(record: Record | None, stands: GpuNodeStatus | None = None) -> tuple[GpuNodeSpec, Any]:
    """Spec and our part of the status of the node."""
    reported = {} if stands is None else {NODE: stands}
    lives = {} if record is None else {NODE: record}
    each = gpu_nodes(at(), reported, {}, lives)
    return next((spec, status) for name, spec, status, _ in each if name == NODE)


def test_its_life_is_shown_and_stays_as_it_is_shown_where_nobody_looked_yet() -> None:
    record = Record(node=NODE, slot="r/1", since_s=NOW_S, life=Life.READY, operation=Operation.HELD)
    assert shown(record)[1] == GpuNodeStatus(life="ready", operation="held")
    stands = GpuNodeStatus(life="repair", operation="waiting_human", driver="1")
    assert shown(None, stands)[1] == GpuNodeStatus(life="repair", operation="waiting_human")
    assert shown(None)[1] == GpuNodeStatus()


def test_an_agent_whose_look_is_waited_for_reports_often() -> None:
    record = Record(node=NODE, slot="r/1", since_s=NOW_S, life=Life.INSPECTING)
    assert shown(record)[0].attention
    stuck = msgspec.structs.replace(record, operation=Operation.STUCK)
    assert not shown(stuck)[0].attention
    assert not shown(msgspec.structs.replace(record, life=Life.READY))[0].attention


def test_a_grant_is_renewed_once_in_half_its_time_and_never_ends_in_between() -> None:
    ends: list[float] = []
    step_s = limits.GPU_GRANT_S / 60
    for turn in range(240):
        now_s = NOW_S + turn * step_s
        cap = spec(at(now_s)).power_cap
        assert cap is not None
        ends.append(cap.granted_until.timestamp())
        assert limits.GPU_GRANT_S / 2 - step_s <= ends[-1] - now_s <= limits.GPU_GRANT_S
    assert 8 <= len(set(ends)) <= 9
    assert ends == sorted(ends)


def test_grants_of_many_nodes_are_not_renewed_at_once() -> None:
    untils = {spec(at(), name).power_cap for name in ("lab-g1-n1", "lab-g1-n2")}
    assert len(untils) == 2


def test_a_site_that_is_only_observed_grants_nothing() -> None:
    found = spec(at(fence=None))
    assert (found.power_cap, found.settings, found.gpus) == (None, None, 8)


def test_a_slot_that_is_not_in_service_is_granted_nothing() -> None:
    devices = tuple(
        msgspec.structs.replace(d, state=SlotState.IN_REPAIR, state_reason="board")
        if d.asset == NODE
        else d
        for d in LAB.devices
    )
    out = msgspec.structs.replace(at(), site=msgspec.structs.replace(LAB, devices=devices))
    assert spec(out).power_cap is None
    assert spec(out, "lab-g1-n2").power_cap is not None
    assert told(None, out)[1:] == ("False", "OutOfService")


@pytest.mark.parametrize(
    "kind", [OverlayKind.MAINTENANCE_HOLD, OverlayKind.SAFETY_HOLD, OverlayKind.FREEZE]
)
@pytest.mark.parametrize("place", [NODE, "lab-g1", "lab"])
def test_who_holds_a_node_is_told_to_its_agent(kind: OverlayKind, place: str) -> None:
    hold = Overlay(id="h1", kind=kind, owner="ann", reason="bench", node=place, since_s=0.0)
    assert spec(at(overlays=(hold,))).held_by == "ann (h1)"
    assert spec(at()).held_by is None


def said(at_s: float = NOW_S, **truths: str) -> GpuNodeStatus:
    """What an agent told: each of its conditions true, but for those that are named."""
    now = dt.datetime.fromtimestamp(at_s, dt.UTC)
    status = {READABLE: "True", HEALTHY: "True", AS_DECLARED: "True", **truths}
    return GpuNodeStatus(
        reported_at=moment(at_s),
        conditions=tuple(
            Condition(
                type=kind, status=truth, reason=f"{kind}Said",  # type: ignore[arg-type]
                message="", observed_generation=1, last_transition_time=now,
            )
            for kind, truth in status.items()
        ),
    )  # fmt: skip


def test_ready_is_made_of_what_the_agent_tells() -> None:
    assert told(None) == ("Ready", "Unknown", "NoAgent")
    assert told(said()) == ("Ready", "True", "AsDeclared")
    assert told(said(GpusHealthy="False"))[1:] == ("False", "GpusHealthySaid")
    assert told(said(GpusAsDeclared="False", GpusHealthy="Unknown"))[1:] == (
        "Unknown",
        "GpusHealthySaid",
    )
    assert told(said(GpusReadable="False", GpusHealthy="False"))[2] == "GpusReadableSaid"


def test_an_agent_that_fell_silent_is_not_believed() -> None:
    assert told(said(NOW_S - limits.GPU_SILENT_S))[2] == "AsDeclared"
    assert told(said(NOW_S - limits.GPU_SILENT_S - 1))[1:] == ("Unknown", "AgentSilent")


def test_an_agent_that_leaves_a_condition_out_is_unknown() -> None:
    whole = said()
    partly = msgspec.structs.replace(whole, conditions=whole.conditions[:1])
    assert told(partly)[1:] == ("Unknown", "NotTold")


def remedied(verdict: Remedy | Stayed) -> tuple[bool | None, dict[str, tuple[str, str]]]:
    """Whether the agent is to report often, and the conditions of a node that its agent calls well."""
    found = gpu_nodes(at(), {NODE: said()}, {NODE: verdict})
    spec, told = next((spec, told) for name, spec, _, told in found if name == NODE)
    return spec.attention, {one.type: (one.status, one.reason) for one in told}


@pytest.mark.parametrize("reason", sorted(Stay))
def test_whatever_keeps_a_node_out_is_said_and_its_agent_reports_often(reason: Stay) -> None:
    attention, told = remedied(Stayed(node=NODE, reason=reason, detail="x"))
    if reason in {Stay.WELL, Stay.OBSERVED}:
        assert (attention, told) == (None, {"Ready": ("True", "AsDeclared")})
        return
    assert attention is True
    kind = "Stalled" if reason in NEEDS_PERSON else "Reconciling"
    assert told[kind] == ("True", camel(reason.value))
    is_out = reason in {Stay.DRAINING, Stay.GATE, Stay.IN_REPAIR, Stay.GRACE}
    assert told["Ready"][0] == "False" or not is_out


def test_what_is_done_to_a_node_is_said() -> None:
    attention, told = remedied(Remedy(node=NODE, action=Action.REBOOT, why=Why.ALERT))
    assert attention is True
    assert told == {"Ready": ("False", "Reboot"), "Reconciling": ("True", "Reboot")}
