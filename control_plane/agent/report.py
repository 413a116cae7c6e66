"""What the agent tells: the part of `GpuNode.status` that is its own. Pure.

Its conditions are `GpusReadable`, `GpusHealthy` and `GpusAsDeclared`. `Ready` is the controller's, which
knows the rest of the node. No telemetry but one number, by which no status is written: it is when somebody
has something to do, or waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from control_plane.api.conditions import MESSAGE_MAX, Told, Truth, camel, conditions, moment
from control_plane.api.objects import AlertPart, Condition, GpuPart
from control_plane.core import limits
from control_plane.core.gpu import Alert, AlertKind, GpuSeen, NodeSeen, RowRemap, Rung
from control_plane.core.gpu_cap import CapDecision, CapState
from control_plane.core.gpu_settings import GpuOutcome, needs_reboot

READABLE, HEALTHY, AS_DECLARED = "GpusReadable", "GpusHealthy", "GpusAsDeclared"
_PROCESSES: Final = "processes"
_NAMED: Final = 5
Said = tuple[Truth, str, str]
"""Status, reason, message."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One look, and all that came of it."""

    seen: NodeSeen
    """With limits as they read after the writes."""
    decisions: Mapping[str, CapDecision] = {}
    """By bus address."""
    failures: Sequence[tuple[str, GpuOutcome]] = ()
    """Writes that did not take, and of which GPU."""
    alerts: tuple[Alert, ...] = ()
    contact: str = "found"
    """`Contact`, as of the object that is obeyed."""
    held_by: str = ""
    kept_trouble: str = ""
    """Why the last grant could not be kept: nothing was raised."""
    old_fence: bool = False
    """The object grants under an older fence than was obeyed before."""

    @property
    def is_acute(self) -> bool:
        """Whether an alert calls for more than a look."""
        return any(alert.rung > Rung.OBSERVE or alert.final for alert in self.alerts)


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """A status that the server took."""

    uid: str
    """Of the object."""
    status: dict[str, Any]
    at_s: float
    """When the look was that it is of."""


def is_due(
    uid: str, status: dict[str, Any], sent: Sent | None, *, at_s: float, often: bool
) -> bool:
    """Whether a status is worth a write.

    Args:
        uid: of the object.
        status: of now.
        sent: the last one.
        at_s: when the look was.
        often: somebody waits for what the agent sees.
    """
    if sent is None or sent.uid != uid:
        return True
    for_s = at_s - sent.at_s
    if not 0 <= for_s < (limits.GPU_ATTENTION_S if often else limits.GPU_REPORT_S):
        return True
    if _but_processes(sent.status) != _but_processes(status):
        return True
    # How many there are is telemetry. That there is work again, or that nobody can tell, takes back what
    # was said and is told at once; the other way it waits, so that short work makes few writes.
    was, now = sent.status.get(_PROCESSES), status.get(_PROCESSES)
    if was == 0:
        return now != 0
    return for_s >= limits.GPU_ATTENTION_S and (now == 0 or (was is None) != (now is None))


def _but_processes(status: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in status.items() if key != _PROCESSES}


def status_of(
    turn: Turn, before: Mapping[str, Condition], *, generation: int, now_s: float
) -> dict[str, Any]:
    """The agent's fields, as they are sent; without `reportedAt`.

    Args:
        turn: of now.
        before: type → the condition that stands there.
        generation: of the spec that this is about.
        now_s: seconds since the epoch.
    """
    said = {READABLE: _readable(turn), HEALTHY: _healthy(turn), AS_DECLARED: _as_declared(turn)}
    told = (Told(type=kind, status=s, reason=r, message=m) for kind, (s, r, m) in said.items())
    now = conditions(told, before.values(), generation=generation, now_s=now_s)
    seen = turn.seen
    enforced = [gpu.enforced_limit_w for gpu in seen.gpus if not gpu.lost]
    known = [w for w in enforced if w is not None]
    fields: dict[str, Any] = {"conditions": now, "driver": seen.driver}
    # The highest: headroom is counted with it. Of one that cannot be read nothing is known.
    fields["enforcedGpuW"] = max(known) if known and len(known) == len(enforced) else None
    fields["gpus"] = [_gpu(gpu, turn) for gpu in seen.gpus]
    fields[_PROCESSES] = _processes(seen)
    fields["alerts"] = [_alert(alert) for alert in _worst_first(turn.alerts)]
    plain: dict[str, Any] = msgspec.to_builtins(fields)
    return {key: value for key, value in plain.items() if value not in (None, [])}


def _processes(seen: NodeSeen) -> int | None:
    """Some are work, whoever else could not tell; none is a fact only where every GPU that answers could.

    One that is gone is left out: what ran on it has ended or hangs, and no later power cycle takes anything
    from it that its loss did not. The rest of such a process, on the host's processors, is seen on its other
    GPUs, or as its pod. One that the driver only refuses to us may well be at work.
    """
    counts = [_running(gpu) for gpu in seen.gpus if not gpu.lost or gpu.refused]
    some = sum(count or 0 for count in counts)
    return some if some or (counts and None not in counts) else None


def _running(gpu: GpuSeen) -> int | None:
    """Processes on one GPU; none also where no memory is held, which no process can do without."""
    if gpu.processes:
        return gpu.processes
    if gpu.settings.mig:
        # What the whole tells of work on its parts is not proven, of processes and of memory.
        return None
    if gpu.memory_used_mib is None:
        return gpu.processes
    # Memory that nobody seen holds is work that is hidden, or left behind by what was killed.
    return 0 if gpu.memory_used_mib < limits.GPU_IDLE_MIB else None


def _readable(turn: Turn) -> Said:
    trouble = turn.seen.trouble
    if trouble is None:
        lost = sum(gpu.lost for gpu in turn.seen.gpus)
        count = len(turn.seen.gpus)
        return "True", "Read", f"{count - lost} of {count} GPUs answer" if lost else f"{count} GPUs"
    return "False", camel(trouble.value), "no GPU of this node can be read, and none is written to"


def _healthy(turn: Turn) -> Said:
    alerts = _worst_first(turn.alerts)
    if alerts:
        named = "; ".join(_words(alert) for alert in alerts[:_NAMED])
        more = f"; and {len(alerts) - _NAMED} more" if len(alerts) > _NAMED else ""
        return "False", camel(alerts[0].kind.value), named + more
    if turn.seen.trouble is not None:
        return "Unknown", camel(turn.seen.trouble.value), ""
    return "True", "NothingFound", ""


_BY_CONTACT: Final[Mapping[str, Said]] = {
    "ambiguous": ("False", "Ambiguous", "two GpuNodes name this node; neither is obeyed"),
    "not_understood": ("False", "NotUnderstood", "its spec is not one that this release knows"),
}


def _as_declared(turn: Turn) -> Said:
    if turn.contact in _BY_CONTACT:
        return _BY_CONTACT[turn.contact]
    if turn.seen.trouble is not None:
        return "Unknown", camel(turn.seen.trouble.value), ""
    if turn.old_fence:
        return "False", "OldFence", "a grant under an older fence than the last one is not obeyed"
    if turn.kept_trouble:
        return (
            "False",
            "NotKept",
            f"a grant that cannot be kept is not raised to: {turn.kept_trouble}",
        )
    if turn.failures:
        _, outcome = turn.failures[0]
        words = ", ".join(f"{at}: {one.result.value}" for at, one in turn.failures[:_NAMED])
        return "False", camel(outcome.result.value), f"{words}; {outcome.detail}"
    waiting = [gpu.index for gpu in turn.seen.gpus if needs_reboot(gpu)]
    if waiting:
        return "False", "NeedsReboot", f"ECC of GPUs {_listed(waiting)} changes at the next reboot"
    for state, words in _NOT_AS_CAPPED.items():
        found = [g.index for g in turn.seen.gpus if _state(g, turn) is state]
        if found:
            return "False", camel(state.value), f"GPUs {_listed(found)}: {words}"
    if turn.held_by:
        return "True", "Held", f"held by {turn.held_by}: limits are only lowered"
    return "True", "AsDeclared", ""


_NOT_AS_CAPPED: Final = {
    CapState.UNREADABLE: "their limit cannot be read, so none is written",
    CapState.LOWER_BY_OTHER: "somebody else set a lower limit; it stays",
    CapState.NO_FRESH_GRANT: "lower than granted, and the grant has ended: nothing is raised",
}


def _state(gpu: GpuSeen, turn: Turn) -> CapState | None:
    decision = turn.decisions.get(gpu.pci or "")
    return None if decision is None else decision.state


def _gpu(gpu: GpuSeen, turn: Turn) -> GpuPart:
    state = _state(gpu, turn)
    shown = CapState.AS_CAPPED if state in {CapState.LOWERED, CapState.RAISED} else state
    return GpuPart(
        index=gpu.index, pci=gpu.pci, uuid=gpu.uuid, serial=gpu.serial, name=gpu.name, lost=gpu.lost,
        limit_w=gpu.settings.power_limit_w, enforced_w=gpu.enforced_limit_w,
        min_w=gpu.min_limit_w, max_w=gpu.max_limit_w, cap=None if shown is None else shown.value,
        remap=_remap(gpu.remap), fabric=gpu.fabric,
    )  # fmt: skip


def _remap(rows: RowRemap | None) -> Literal["none", "pending", "failed"] | None:
    if rows is None:
        return None
    return "failed" if rows.failed else "pending" if rows.pending else "none"


def _alert(alert: Alert) -> AlertPart:
    return AlertPart(
        kind=alert.kind.value, rung=alert.rung.name.lower(), since=moment(alert.since_s),
        gpu=alert.gpu, xid=alert.xid, detail=alert.detail[:MESSAGE_MAX], asks=alert.asks,
        final=alert.final,
    )  # fmt: skip


def _worst_first(alerts: tuple[Alert, ...]) -> list[Alert]:
    ordered = sorted(alerts, key=lambda a: (-a.rung, a.kind.value, a.gpu or "", a.xid or 0))
    return ordered[: limits.GPU_ALERTS_SHOWN]


def _words(alert: Alert) -> str:
    what = f"Xid {alert.xid}" if alert.kind is AlertKind.XID else alert.kind.value.replace("_", " ")
    where = f" on {alert.gpu}" if alert.gpu else ""
    asked = ", a person decides" if alert.asks else ""
    rung = "" if alert.rung is Rung.OBSERVE else f" ({alert.rung.name.lower().replace('_', ' ')})"
    return f"{what}{where}{rung}{asked}: {alert.detail}"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
