"""How a GPU node stands towards its declared software, by its `Node` and what its agent told. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from control_plane.api.objects import GpuNodeStatus
from control_plane.core import limits
from control_plane.core.driver_upgrade import DriverUpgrade, UpgradeState, Worker, upgrade_of
from control_plane.core.fleet import Device, GpuIntent
from control_plane.core.gpu import MIG_OFF, Alert, Rung
from control_plane.core.gpu_rollout import Stand, Standing
from control_plane.core.gpu_software import BY, Marks, Step, Want, marks_in
from control_plane.core.handed_over import QUARANTINED
from control_plane.core.mig import CONFIG, FAILED, GAVE_UP, STATE, SUCCESS
from control_plane.core.node_hold import Node, hold_in
from control_plane.core.overlay import Overlay, OverlayKind, freeze_on, hold_on
from control_plane.core.remedy_case import Outcome
from control_plane.core.remedy_kept import NodeKept
from control_plane.kube.gpu_reported import alerts_of
from control_plane.kube.gpu_view import Known, NodeFacts, gate_of

LOWERED: Final = frozenset({OverlayKind.CURTAILMENT, OverlayKind.GUARD})
"""Overlays of want of power."""


def want_of(device: Device) -> Want:
    """What is declared of its software, where that comes in waves; nothing where it does not."""
    gpu = device.intent.gpu or GpuIntent()
    return Want(driver=gpu.driver, mig=gpu.mig) if gpu.waves else Want()


def has_mig(node: Node, want: Want) -> bool:
    """Whether its GPUs are parted as declared; one that the MIG manager never touched is not parted."""
    if want.mig is None:
        return True
    config, told = node.labels.get(CONFIG, ""), node.labels.get(STATE, "")
    if not config and want.mig == MIG_OFF:
        return True
    return config == want.mig and told == SUCCESS


def mig_rests(node: Node) -> bool:
    """Whether the MIG manager is at nothing: what was asked for last stands, or nothing was."""
    return not node.labels.get(CONFIG) or node.labels.get(STATE) in {SUCCESS, FAILED}


def is_untouched(node: Node, want: Want, rollout: str, *, runs: bool) -> bool:
    """Whether nobody is at work on a node that was let go: neither the operator, nor a drain for MIG.

    One that an earlier rollout has let go is so, too, once the operator is done: what it was let go for is
    wanted no more.

    Args:
        node: as it was read.
        want: what is wanted.
        rollout: id of the one that wants it.
        runs: whether it has that driver.
    """
    if hold_in(node) is not None:
        return False
    worker = upgrade_of(node).worker
    if marks_in(node).rollout != rollout:
        return worker in {Worker.NOBODY, Worker.WAITS}
    return worker is Worker.WAITS or (worker is Worker.NOBODY and runs and not has_mig(node, want))


def standing_of(
    device: Device,
    facts: NodeFacts | None,
    status: GpuNodeStatus | None,
    *,
    rollout: str,
    overlays: tuple[Overlay, ...],
    kept: NodeKept | None,
    others: str | None = None,
    now_s: float,
) -> Standing:
    """How it stands.

    Args:
        device: as it is declared.
        facts: of its `Node`; `None`: there is none.
        status: of its `GpuNode`, with what its agent told.
        rollout: id of the one that is under way.
        overlays: those that cover it.
        kept: what was tried on it by remedies.
        others: who has it beside those, in words.
        now_s: policy time.
    """
    if facts is None:
        return Standing(stand=Stand.UNKNOWN, detail="it has no Node")
    want, marks, upgrade = want_of(device), marks_in(facts.node), upgrade_of(facts.node)
    treated = marks.rollout == rollout != "" and marks.step is not Step.NONE
    runs = _runs(status, want, now_s)
    is_there = runs is True and has_mig(facts.node, want)
    ill = unwell(device, facts, status, now_s)
    if marks.step is Step.GOING:
        if is_there and ill is None and upgrade.worker in {Worker.NOBODY, Worker.WAITS}:
            told_s = _reported_s(status)
            if told_s is not None and told_s > marks.since_s:
                return Standing(stand=Stand.DONE, treated=treated)
        bar = _bar(facts.node, overlays, kept, now_s, upgrade) or others
        stand, detail = _going(
            facts.node,
            marks,
            want,
            status,
            rollout=rollout,
            bar=bar,
            now_s=now_s,
            runs=runs is True,
            is_there=is_there,
        )
        return Standing(stand=stand, treated=treated, detail=detail)
    if is_there:
        stand = Stand.DONE if ill is None else Stand.ILL
        return Standing(stand=stand, treated=treated, detail=ill or "")
    if marks.step is Step.FAILED and marks.rollout == rollout:
        return Standing(stand=Stand.FAILED, treated=treated, detail=marks.why)
    if runs is None:
        return Standing(stand=Stand.UNKNOWN, detail="its agent does not tell its driver")
    bar = _bar(facts.node, overlays, kept, now_s, upgrade) or others or ill
    if bar is not None:
        return Standing(stand=Stand.BARRED, detail=bar)
    if not runs and upgrade.state is not UpgradeState.UPGRADE_REQUIRED:
        why = f"the operator was not told of driver {want.driver} yet"
        return Standing(stand=Stand.UNASKED, detail=why)
    if runs and facts.node.annotations.get(GAVE_UP) == want.mig:
        return Standing(stand=Stand.BARRED, detail=f"MIG {want.mig} failed here before")
    return Standing(stand=Stand.BEHIND)


def _going(
    node: Node,
    marks: Marks,
    want: Want,
    status: GpuNodeStatus | None,
    *,
    rollout: str,
    bar: str | None,
    now_s: float,
    runs: bool,
    is_there: bool,
) -> tuple[Stand, str]:
    """Of one that was let go, and has not come back yet."""
    upgrade = upgrade_of(node)
    if upgrade.state is UpgradeState.UPGRADE_FAILED:
        return Stand.FAILED, "the operator gave up the upgrade of its driver"
    if want.mig is not None and node.annotations.get(GAVE_UP) == want.mig:
        return Stand.FAILED, f"it did not take MIG {want.mig}"
    if is_untouched(node, want, rollout, runs=runs):
        if marks.rollout != rollout:
            return Stand.RECALLED, "it was let go for what is not wanted any more"
        if bar is not None:
            return Stand.RECALLED, bar
    hold = hold_in(node)
    if bar is not None and hold is not None and hold.by != BY:
        return Stand.FAILED, bar
    if is_there and upgrade.worker is Worker.NOBODY:
        old = [one for one in _alerts(status) if now_s - one.since_s >= limits.GPU_REPORT_S]
        if old and (_reported_s(status) or 0.0) > marks.since_s:
            return Stand.FAILED, f"it runs {want}, and is unwell: {old[0].kind}: {old[0].detail}"
    if now_s - marks.since_s >= limits.FOREIGN_STUCK_S:
        hours = limits.FOREIGN_STUCK_S / 3_600
        return Stand.FAILED, f"let go {hours:.0f} h ago, and not seen well with {want} since"
    return Stand.GOING, upgrade.value or "let go"


def _bar(
    node: Node,
    overlays: tuple[Overlay, ...],
    kept: NodeKept | None,
    now_s: float,
    upgrade: DriverUpgrade,
) -> str | None:
    """Whose word or work is in the way; `None`: nobody's."""
    said = hold_on(overlays) or freeze_on(overlays, now_s)
    if said is None:
        said = next((o for o in overlays if o.kind in LOWERED and not o.is_expired(now_s)), None)
    if said is not None:
        return f"{said.id} of {said.owner}: {said.reason}"
    if kept is not None and kept.ticket is not None:
        return f"in repair: {kept.ticket.id}"
    if kept is not None and any(one.outcome is Outcome.OPEN for one in kept.attempts):
        return "remedies are at it"
    hold = hold_in(node)
    if hold is not None and hold.by != BY:
        return f"held by {hold.by or 'nobody that is known'}: {hold.why}"
    if upgrade.worker is Worker.PERSON:
        return "the operator gave up the upgrade of its driver"
    if upgrade.blocks:
        return f"nvidia driver upgrade is at {upgrade.value}"
    if QUARANTINED in node.annotations:
        return "NVSentinel has it"
    if hold is None and node.is_cordoned:
        return "somebody cordoned it"
    return None


def unwell(
    device: Device, facts: NodeFacts, status: GpuNodeStatus | None, now_s: float
) -> str | None:
    """Why it is not seen well, whatever driver it runs; `None` where it is."""
    worst = next(iter(_alerts(status)), None)
    if worst is not None:
        return f"{worst.kind}: {worst.detail}"
    gate = gate_of(device, facts, status, Known(), now_s, any_driver=True)
    return gate.missing[0] if gate.missing else None


def _alerts(status: GpuNodeStatus | None) -> list[Alert]:
    """Those that call for more than a look."""
    told: Iterable[Alert] = () if status is None else alerts_of(status)
    return [one for one in told if one.rung > Rung.OBSERVE]


def _runs(status: GpuNodeStatus | None, want: Want, now_s: float) -> bool | None:
    """Whether it runs the driver that is declared; `None`: nobody told of late."""
    if want.driver is None:
        return True
    told_s = _reported_s(status)
    if status is None or told_s is None or now_s - told_s >= limits.GPU_SILENT_S:
        return None
    return None if status.driver is None else status.driver == want.driver


def _reported_s(status: GpuNodeStatus | None) -> float | None:
    if status is None or status.reported_at is None:
        return None
    return status.reported_at.timestamp()
