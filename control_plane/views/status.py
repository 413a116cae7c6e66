"""Where a site stands, on one screen."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from control_plane.core.correlate import Incident
from control_plane.core.digest import short
from control_plane.core.firmware_rollout import FirmwareRollout
from control_plane.core.overlay import Overlay
from control_plane.core.plan import Plan
from control_plane.core.posture import Tally
from control_plane.core.rollout import Rollout
from control_plane.core.rotation_rollout import Rotation
from control_plane.engine.records import EngineStatus, Event, RevisionRecord
from control_plane.views import rotations
from control_plane.views.plan import exceptions_line, waiting_line
from control_plane.views.posture import tally_line
from control_plane.views.rollouts import in_status
from control_plane.views.table import counted, hashrate, one_line, power, span

_LATEST = 5


class SiteStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What `status` knows; also what scripts get."""

    site: str
    now_s: float
    accepted: RevisionRecord | None
    engine: EngineStatus | None
    rollout: Rollout | None
    plan: Plan | None
    """What the accepted revision would still do, from what is remembered; asks no device."""
    overlays: tuple[Overlay, ...]
    incidents: tuple[Incident, ...]
    pages: tuple[Event, ...]
    firmware: tuple[FirmwareRollout, ...] = ()
    """Firmware rollouts that are neither done nor superseded."""
    posture: Tally | None = None
    """How open its devices are, as far as is known."""
    credentials: tuple[Rotation, ...] = ()
    """Rotations that somebody has to think of."""


def render_status(status: SiteStatus) -> str:
    """The text of a status."""
    lines = [f"{status.site}", *_revision(status)]
    for firmware in status.firmware:
        lines += in_status(firmware)
    for rotation in status.credentials:
        lines += rotations.in_status(rotation)
    lines += _engine(status)
    if status.plan is not None:
        lines += _plan(status.plan)
    if status.posture is not None:
        lines += tally_line(status.posture)
    lines += _overlays(status.overlays, status.now_s)
    for incident in status.incidents:
        ago = span(status.now_s - incident.since_s)
        lines.append(
            f"Incident    {incident.id} on {incident.node}: {one_line(incident.detail)}, {ago} ago"
        )
    if status.pages:
        lines += ["", "Latest pages"]
        lines += [
            f"  {span(status.now_s - p.at_s):>6} ago  {one_line(p.text)}"
            for p in status.pages[:_LATEST]
        ]
    return "\n".join(lines)


def _revision(status: SiteStatus) -> list[str]:
    record = status.accepted
    if record is None:
        return ["Revision    none accepted yet: gridplane plan, then gridplane apply"]
    ago = span(status.now_s - record.accepted_at_s)
    commit = f", commit {short(record.commit)}" if record.commit else ""
    lines = [
        (
            f"Revision    {short(record.digest)}, number {record.seq}, accepted {ago} ago by "
            f"{record.accepted_by}{commit}"
        )
    ]
    rollout = status.rollout
    if rollout is not None and rollout.waves:
        passed = sum(1 for gate in rollout.gates if gate.passed)
        lines.append(
            f"Rollout     {rollout.id} {rollout.state}: wave {rollout.wave + 1} of "
            f"{len(rollout.waves)}, {counted(passed, 'gate')} passed"
        )
        if rollout.gates and not rollout.gates[-1].passed:
            lines.append(f"            stopped: {rollout.gates[-1].detail}")
            lines.append(f"            go on with: gridplane release {rollout.id}")
    return lines


def _engine(status: SiteStatus) -> list[str]:
    engine = status.engine
    if engine is None:
        return ["Engine      not running: nothing is converged or repaired now"]
    since = span(status.now_s - engine.started_at_s)
    return [
        (
            f"Engine      {engine.mode}, process {engine.pid}, since {since}; "
            f"{engine.actionable:,} to do, {engine.in_flight:,} in flight"
        )
    ]


def _plan(plan: Plan) -> list[str]:
    effect = plan.effect
    lines = [
        (
            f"Devices     {plan.devices:,} slots, {plan.managed:,} managed, {plan.fresh:,} seen within a "
            f"minute, {plan.converged:,} as declared"
        ),
        (
            f"Hash        {hashrate(effect.measured_ths)} measured of {hashrate(effect.before_ths)} by "
            "nameplate"
        ),
        f"Power       {power(effect.before_w)} permitted",
        f"Steps       {plan.actionable:,} to take",
    ]
    return [*lines, *exceptions_line(plan), *waiting_line(plan)]


def _overlays(overlays: Sequence[Overlay], now_s: float) -> list[str]:
    lines = []
    for overlay in overlays:
        age = span(now_s - overlay.since_s)
        expired = ", EXPIRED, still holds" if overlay.is_expired(now_s) else ""
        lines.append(
            f"{overlay.kind.capitalize():<11} {overlay.id} on {overlay.node} by {overlay.owner}, "
            f"{age}: {one_line(overlay.reason)}{expired}"
        )
    return lines
