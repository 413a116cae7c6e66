"""Why one device is as it is: declared, observed, done, held, next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from control_plane.core.decision import Decision, Reason
from control_plane.core.digest import short
from control_plane.core.firmware_rollout import FirmwareRollout
from control_plane.core.fleet import Device, Site
from control_plane.core.memory import Memory
from control_plane.core.observation import Field, Observation, PoolSetting, Settings, Unseen
from control_plane.core.overlay import Overlay
from control_plane.core.posture import Posture
from control_plane.core.rollout import Rollout
from control_plane.core.rotation import RotationEntry
from control_plane.core.rotation_rollout import Rotation
from control_plane.core.verify import Operation
from control_plane.engine.gate import describe
from control_plane.engine.records import Event, RevisionRecord
from control_plane.views.plan import change_text
from control_plane.views.posture import posture_line
from control_plane.views.remedies import RemediesShown, remedy_lines
from control_plane.views.rollouts import Machine
from control_plane.views.rotations import address_lines, in_brief, in_explanation
from control_plane.views.table import one_line, power, span, table

NEXT: Mapping[Reason, str] = {
    Reason.VACANT: "nothing: no machine stands here",
    Reason.OUT_OF_SERVICE: "nothing until its record says in_service again",
    Reason.IN_REPAIR: "nothing until its record says in_service again",
    Reason.NO_DRIVER: "nothing: gridplane has no driver for this family; it is counted at nameplate",
    Reason.NOT_SEEN: "it is looked at: `gridplane observe`, or the engine's next round",
    Reason.UNREACHABLE: "it is asked again, ever more rarely, up to each two minutes",
    Reason.UNLOCATED: "its network is swept for its MAC and serial",
    Reason.AUTH_REJECTED: "a person gives gridplane the right credentials, or resets the device's",
    Reason.SECRET_MISSING: "a person puts the password where the declaration says; it is read again",
    Reason.INTERNAL_ERROR: "a bug of ours: send us what it says; it is looked at again",
    Reason.UNEXPECTED_REPLY: "a person looks: this is not the declared firmware family's protocol",
    Reason.WORK_ORDER: "a person installs the declared family: `gridplane workorder`; then it is taken up",
    Reason.STALE_TELEMETRY: "it is looked at again; nothing is decided from old telemetry",
    Reason.UNTRUSTED: "a person pins it: `gridplane trust {asset}`",
    Reason.WRONG_IDENTITY: "a person corrects the record, or pins it: `gridplane trust {asset} --replace`",
    Reason.WRONG_MODEL: "a person corrects the declared type, or the machine",
    Reason.HOLD: "nothing until the hold is released: `gridplane release`",
    Reason.FREEZE: "nothing but lowering until the freeze ends",
    Reason.IN_FLIGHT: "the write under way is followed by looking",
    Reason.ROLLOUT_WAVE: "it waits for its wave of the rollout",
    Reason.MOVED: "somebody changed it after the plan was shown: plan and apply again",
    Reason.UNREADABLE: "nothing is written from an unknown read; it is read again",
    Reason.UNKNOWN_MODE: "a person finds out what it draws: set a known mode, or add this one to the type",
    Reason.WRITE_API_DISABLED: "a person switches its write interface on; a write tries it once an hour",
    Reason.UNSUPPORTED: "the declaration asks what the family cannot do: change the profile",
    Reason.HOST_ACTION: "the host is asked: only it may change this",
    Reason.OWNER_APPROVAL: "who may approves: `gridplane plan --approve OWNER:FIELD --by NAME`",
    Reason.MANUAL_OVERRIDE: "nothing: somebody lowered it by hand; `gridplane release {asset}` ends that",
    Reason.ASK: "a person decides: change the declaration, or the device",
    Reason.CONTESTED: "no more writes: find who else writes, then `gridplane release {asset}`",
    Reason.STUCK: "no more writes: find out why they do not stick, then `gridplane release {asset}`",
    Reason.FLASHING: "firmware is being installed: nobody else writes to it or cuts its power",
    Reason.ROTATING: "its password is being changed: nobody else writes to it meanwhile",
    Reason.ADDRESS_ROLLOUT: "a rollout of addresses brings it, where its rack names what was `previous`",
    Reason.RENUMBERING: "its address is being changed: nobody else writes to it meanwhile",
    Reason.FIRMWARE_JOB: "a firmware rollout brings it; configuration writes do not",
    Reason.WRITE_BUDGET: "tomorrow: its persistent writes of today are spent",
    Reason.NO_HEADROOM: "it is raised when there is headroom above it",
    Reason.INCIDENT: "nothing but lowering until the incident is over",
    Reason.FAULT: "settings are right, the machine is not: repair it",
    Reason.STARTING: "it boots, ramps or tunes; it is looked at again",
}


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one device; also what scripts get."""

    now_s: float
    device: Device
    path: tuple[str, ...]
    decision: Decision
    memory: Memory
    sighting: Observation | Unseen | None
    overlays: tuple[Overlay, ...]
    revision: RevisionRecord | None
    rollout: Rollout | None
    operations: tuple[Operation, ...]
    events: tuple[Event, ...]
    firmware: FirmwareRollout | None = None
    """The one that brings what is declared for the device."""
    grant: Machine | None = None
    """Under which it is locked."""
    posture: Posture | None = None
    """How open it is, as far as is known."""
    rotation: Rotation | None = None
    """The one that brings the password that is declared for the device."""
    login: RotationEntry | None = None
    """How far the device came with its last rotation."""
    renumbering: Rotation | None = None
    """The same of the address that is declared for it."""
    address: RotationEntry | None = None
    remedies: RemediesShown | None = None
    """Of a GPU node."""


def path_of(site: Site, device: Device) -> tuple[str, ...]:
    """Feed nodes above a device, leaf first."""
    return tuple(node.id for node in site.path(device.feed))


def render_explanation(e: Explanation) -> str:
    """The text of an explanation."""
    device = e.device
    lines = [
        (
            f"{device.asset}: {device.type.make} {device.type.model} in {device.rack} slot {device.slot}, "
            f"owner {device.intent.owner}, {device.state}"
        ),
        f"Declared at {device.where}; feed {' < '.join(e.path)}",
        *address_lines(device, e.memory, e.renumbering, e.address),
        f"Identity    {_pin(e.memory)}",
        *_revision(e),
        *in_explanation(device.intent.credentials, e.memory, e.rotation, e.login),
        f"Observed    {_observed(e)}",
        "",
        table(("FIELD", "DECLARED", "OBSERVED", "", "SET BY"), _fields(e)),
        "",
        *_overlays(e),
        *_verdict(e),
        *remedy_lines(e.remedies, e.now_s),
    ]
    if e.posture is not None:
        lines += posture_line(e.posture)
    if e.operations:
        lines += ["", "Last actions", *(f"  {_operation(o, e.now_s)}" for o in e.operations)]
    if e.events:
        lines += ["", "Last events"]
        lines += [
            f"  {span(e.now_s - v.at_s):>6} ago  {v.kind}: {one_line(v.text)}" for v in e.events
        ]
    return "\n".join(lines)


def _pin(memory: Memory) -> str:
    pin = memory.pin
    if pin is None:
        return "no identity pinned"
    return f"pinned {pin.mac or '-'} / {pin.serial or '-'} ({pin.source})"


def _revision(e: Explanation) -> list[str]:
    if e.revision is None:
        return ["Revision    none accepted yet: compared with the inventory as it is"]
    text = f"Revision    {short(e.revision.digest)}, number {e.revision.seq}"
    if e.rollout is not None and e.rollout.waves:
        text += f"; rollout {e.rollout.state}, wave {e.rollout.wave + 1} of {len(e.rollout.waves)}"
    return [text]


def _observed(e: Explanation) -> str:
    seen = e.sighting
    if seen is None:
        return "never"
    ago = span(e.now_s - seen.at_s)
    if isinstance(seen, Unseen):
        return f"{seen.reason}, {ago} ago: {one_line(seen.detail)}"
    telemetry = seen.telemetry
    words = [f"{ago} ago by {seen.source}, depth {seen.depth}"]
    if telemetry.activity is not None:
        words.append(telemetry.activity.value)
    if telemetry.hashrate_ths is not None:
        words.append(f"{telemetry.hashrate_ths:,.0f} TH/s")
    if telemetry.power_w is not None:
        words.append(f"{power(telemetry.power_w)} by its own word")
    if telemetry.errors:
        words.append(f"errors {one_line(', '.join(telemetry.errors[:3]))}")
    return ", ".join(words)


def _fields(e: Explanation) -> Sequence[tuple[str, ...]]:
    declared = e.device.desired()
    observed = e.sighting.settings if isinstance(e.sighting, Observation) else Settings()
    differing = {difference.field for difference in e.decision.differences}
    rows = []
    for field in Field:
        want, have = getattr(e.decision.desired, field.value), getattr(observed, field.value)
        if want is None and have is None:
            continue
        origin = str(e.device.intent.origins.get(field.value, "left to the device"))
        if want != getattr(declared, field.value):
            origin = f"overlay {', '.join(o.id for o in e.overlays)} over {origin}"
        mark = "differs" if field in differing else ""
        for index in range(max(_rows(want), _rows(have))):
            first = index == 0
            rows.append(
                (
                    field.value if first else "",
                    _value(want, index),
                    _value(have, index),
                    mark if first else "",
                    origin if first else "",
                )
            )
    return rows


def _rows(value: object) -> int:
    return max(1, len(value)) if isinstance(value, tuple) else 1


def _value(value: object, index: int) -> str:
    if value is None:
        return "-" if index == 0 else ""
    if isinstance(value, tuple):
        if not value:
            return "none"
        pool = value[index] if index < len(value) else None
        return f"{pool.worker} @ {pool.url}" if isinstance(pool, PoolSetting) else ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if index == 0 else ""


def _overlays(e: Explanation) -> list[str]:
    return [
        f"{o.kind.capitalize()} {o.id} on {o.node} by {o.owner}: {one_line(o.reason)}"
        for o in e.overlays
    ]


def _verdict(e: Explanation) -> list[str]:
    lines = []
    for held in e.decision.held:
        field = f"{held.field}: " if held.field else ""
        detail = f" ({one_line(held.detail)})" if held.detail else ""
        lines.append(f"Held        {field}{held.reason}{detail}")
        lines.append(f"  next      {_next(e, held.reason)}")
    for step in e.decision.steps:
        lines.append(
            f"Step        {change_text(step.change)} ({step.why}, danger {step.danger}, "
            f"{step.disturbance.replace('_', ' ')})"
        )
        lines.append("  next      the engine takes it, after a fresh look and through the gate")
    if not lines:
        lines.append(
            "Converged   reads as declared; nothing to do"
            if e.decision.converged
            else "Waiting     for its next look"
        )
    return lines


def _next(e: Explanation, reason: Reason) -> str:
    if reason is Reason.FIRMWARE_JOB and e.firmware is not None:
        return (
            f"{in_brief(e.firmware)}: it brings {e.firmware.version}; "
            f"`gridplane rollout show {e.firmware.id}`"
        )
    if reason is Reason.FLASHING and e.grant is not None:
        entry = e.grant.entry
        since = (
            ""
            if entry.committed_at_s is None
            else f", the image left {span(e.now_s - entry.committed_at_s)} ago"
        )
        return f"{NEXT[reason]} (grant {e.grant.operation}: {entry.step}{since})"
    return NEXT[reason].format(asset=e.device.asset)


def _operation(operation: Operation, now_s: float) -> str:
    detail = f": {one_line(operation.detail)}" if operation.detail else ""
    return (
        f"{span(now_s - operation.sent_at_s):>6} ago  {describe(operation)} ({operation.why}) -> "
        f"{operation.stage}{detail}"
    )
