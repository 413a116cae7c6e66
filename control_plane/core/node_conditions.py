"""What is wrong with a node's GPUs, as conditions of its `Node` that other remediators understand.

As node-problem-detector and NVSentinel (v1.19) write theirs: `True` is a problem, the reason is the type
with `IsNotHealthy` or `IsHealthy`. medik8s NodeHealthCheck and Cluster API match by type, status and
duration, so types are fixed and few, and a problem that ends stays there as `False`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from control_plane.core.cluster import NODE, Object
from control_plane.core.gpu import Alert, AlertKind, Rung

MANAGER: Final = "gridplane-health"
HEALTHY: Final = "No Health Failures"
"""NVSentinel's own words for it."""
TYPES: Final[Mapping[str, frozenset[AlertKind]]] = {
    "GridplaneGpuPresence": frozenset(
        {AlertKind.UNREADABLE, AlertKind.GPU_LOST, AlertKind.GPU_MISSING}
    ),
    "GridplaneGpuErrors": frozenset({AlertKind.XID, AlertKind.RECOVERY_ACTION, AlertKind.UNKNOWN}),
    "GridplaneGpuMemory": frozenset(
        {AlertKind.REMAP_PENDING, AlertKind.REMAP_FAILED, AlertKind.ECC_UNCORRECTED}
    ),
    "GridplaneGpuFabric": frozenset({AlertKind.LINK_DOWN, AlertKind.FABRIC}),
    "GridplaneGpuThermal": frozenset({AlertKind.THERMAL, AlertKind.POWER_BRAKE}),
    "GridplaneGpuPower": frozenset({AlertKind.CAP_NOT_ENFORCED, AlertKind.SECOND_WRITER}),
}
"""Type → what it covers: every kind of alert is in one, but for what other remediators told us."""
RECOMMENDED: Final[Mapping[Rung, str]] = {
    Rung.OBSERVE: "NONE",
    Rung.DRAIN: "NONE",
    Rung.RESET_GPU: "COMPONENT_RESET",
    Rung.RELOAD_DRIVER: "RESTART_BM",
    Rung.REBOOT: "RESTART_BM",
    Rung.POWER_CYCLE: "RESTART_BM",
    Rung.REPAIR: "CONTACT_SUPPORT",
}
"""The least that helps, in NVSentinel's words: it is in every message of its own."""
_MESSAGE_MAX: Final = 1_024
_MOST: Final = 4
"""Alerts that a message tells of, at most; the rest is counted."""


class NodeCondition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One condition of a node; its times are whole seconds, as the API server keeps them."""

    type: str
    status: str
    reason: str
    message: str
    last_heartbeat_time: dt.datetime
    """When it was last written."""
    last_transition_time: dt.datetime
    """When its status last changed."""


class _Seen(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    type: str
    status: str = ""
    reason: str = ""
    message: str = ""
    last_heartbeat_time: dt.datetime | None = None
    last_transition_time: dt.datetime | None = None


class _Status(msgspec.Struct):
    conditions: list[_Seen] | None = None


def conditions_in(node: Object) -> dict[str, NodeCondition]:
    """Our conditions of a node, by type; one without its times counts as absent."""
    status = msgspec.json.decode(node.status, type=_Status | None) or _Status()
    return {
        one.type: NodeCondition(
            type=one.type,
            status=one.status,
            reason=one.reason,
            message=one.message,
            last_heartbeat_time=one.last_heartbeat_time,
            last_transition_time=one.last_transition_time,
        )
        for one in status.conditions or ()
        if one.type in TYPES and one.last_heartbeat_time and one.last_transition_time
    }


def told(
    alerts: Iterable[Alert], before: Mapping[str, NodeCondition], *, now_s: float
) -> tuple[NodeCondition, ...]:
    """Every condition as it is now.

    Args:
        alerts: all that is wrong with the node's GPUs, from a look that was one. Of a node that could not
            be asked nothing is told anew.
        before: those that the node has.
        now_s: seconds since the epoch.
    """
    there = sorted(alerts, key=lambda alert: (alert.kind, alert.gpu or "", alert.xid or 0))
    now = dt.datetime.fromtimestamp(int(now_s), dt.UTC)
    made = []
    for name, kinds in TYPES.items():
        mine = [alert for alert in there if alert.kind in kinds]
        status = "True" if mine else "False"
        was = before.get(name)
        is_same = was is not None and was.status == status
        made.append(
            NodeCondition(
                type=name,
                status=status,
                reason=f"{name}{'IsNotHealthy' if mine else 'IsHealthy'}",
                message=_message(mine),
                last_heartbeat_time=now,
                last_transition_time=was.last_transition_time if was and is_same else now,
            )
        )
    return tuple(made)


def says_more(
    now: Iterable[NodeCondition], before: Mapping[str, NodeCondition], *, beat_s: float
) -> bool:
    """Whether it is worth a write: something else is told, or it was last told long ago."""
    for one in now:
        was = before.get(one.type)
        if was is None or (was.status, was.reason, was.message) != (
            one.status,
            one.reason,
            one.message,
        ):
            return True
        if (one.last_heartbeat_time - was.last_heartbeat_time).total_seconds() >= beat_s:
            return True
    return False


def conditions_body(name: str, now: Iterable[NodeCondition]) -> dict[str, Any]:
    """The status as it is applied; conditions of others stay."""
    return {
        "apiVersion": NODE.api_version,
        "kind": NODE.kind,
        "metadata": {"name": name},
        "status": {"conditions": [msgspec.to_builtins(one) for one in now]},
    }


def _message(alerts: list[Alert]) -> str:
    if not alerts:
        return HEALTHY
    said = [_said(alert) for alert in alerts[:_MOST]]
    more = f"and {len(alerts) - _MOST} more;" if len(alerts) > _MOST else ""
    return " ".join([*said, more]).strip()[:_MESSAGE_MAX]


def _said(alert: Alert) -> str:
    code = f"ErrorCode:{alert.xid} " if alert.xid is not None else ""
    gpu = f"PCI:{alert.gpu} " if alert.gpu else ""
    what = f"{code}{gpu}{alert.kind.value} {alert.detail}".rstrip()
    return f"{what} Recommended Action={RECOMMENDED[alert.rung]};"
