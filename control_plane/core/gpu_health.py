"""What is wrong with a node's GPUs: looks in, merged alerts out, each with since when and what it calls for.

Pure. What is read anew at each look (a remap, a link) is an alert while it is so. What was told once (an
Xid) stays until the driver was loaded anew or the GPU reset: its counter of energy fell, or the boot is
another one. An application's own errors call for nothing; many of them on one GPU alone ask a person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from control_plane.core import limits
from control_plane.core.gpu import (
    Alert,
    AlertKind,
    GpuSeen,
    NodeSeen,
    RecoveryAction,
    Rung,
    Trouble,
    XidEvent,
)
from control_plane.core.gpu_cap import is_over, reloaded_gpus
from control_plane.core.xid import RECOVERY_XID, Weight, fact_of

Key = tuple[AlertKind, str | None, int | None]


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What the declaration says of the node."""

    gpus: int | None = None
    """How many there are."""
    cap_w: float | None = None
    """What each may take."""


class Watched(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something that was seen to be wrong, while it is not sure yet whether it stays or has gone."""

    kind: AlertKind
    gpu: str | None
    first_s: float
    last_s: float


class HealthMemory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has to be known from look to look; kept over restarts."""

    alerts: tuple[Alert, ...] = ()
    watched: tuple[Watched, ...] = ()
    counted: tuple[XidEvent, ...] = ()
    """Of the last day: those that mean something only by their number."""
    energy_j: dict[str, float] = {}
    """Bus address → energy at the last look."""
    boot: str = ""
    """Which boot of the host it is about."""


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong in this look."""

    alert: Alert
    after_s: float = 0.0
    """How long it has to be so before it counts."""


def alerts_of(
    seen: NodeSeen, before: HealthMemory, expected: Expected, *, boot: str = ""
) -> tuple[Alert, ...]:
    """What is wrong, after one more look; see `judged`."""
    return judged(seen, before, expected, boot=boot).alerts


def judged(
    seen: NodeSeen,
    before: HealthMemory,
    expected: Expected,
    *,
    boot: str = "",
    others: Iterable[Alert] = (),
) -> HealthMemory:
    """What is wrong, after one more look, and what to remember of it.

    Args:
        seen: the look.
        before: of the look before.
        expected: what the declaration says.
        boot: the host's boot id; empty where it is not known.
        others: what somebody else found (a second writer), as of now.

    Returns:
        Alerts by `(kind, gpu, xid)`, each once, the oldest `since_s` kept.
    """
    now_s = seen.at_s
    is_new_boot = bool(boot and before.boot and boot != before.boot)
    fresh = reloaded_gpus(before.energy_j, seen.gpus)
    told = [
        alert
        for alert in before.alerts
        if alert.kind is AlertKind.XID
        and not is_new_boot
        and not _is_over(alert, fresh, seen)
        and not _is_old(alert, now_s)
    ]
    if seen.trouble is not None:
        # Nothing was read: what was wrong before is not known to be well.
        found = [*_unreadable(seen.trouble, _first(before, AlertKind.UNREADABLE, now_s), now_s)]
        kept = [a for a in before.alerts if a.kind not in {AlertKind.XID, AlertKind.UNREADABLE}]
    else:
        found, kept = [*_node(seen, expected), *_gpus(seen, expected)], []
    counted = _counted(before.counted, seen)
    news = [_Found(alert=alert) for alert in (*_xids(seen), *_too_many(counted, now_s), *others)]
    watched = _watched(before.watched, [*found, *news], seen)
    alerts = [
        _since(one.alert, about.first_s)
        for one in (*found, *news)
        if now_s - (about := watched[one.alert.kind, one.alert.gpu]).first_s >= one.after_s
    ]
    past = {key for key, about in watched.items() if about.last_s < now_s}
    lingering = [
        alert for alert in before.alerts
        if alert.kind is not AlertKind.XID and (alert.kind, alert.gpu) in past
    ]  # fmt: skip
    return HealthMemory(
        alerts=_merged([*told, *kept, *lingering, *alerts], before.alerts),
        watched=tuple(watched.values()),
        counted=counted,
        energy_j={**before.energy_j, **_energies(seen)},
        boot=boot or before.boot,
    )


# --- what is read anew ---------------------------------------------------------------------------------


def _node(seen: NodeSeen, expected: Expected) -> Iterator[_Found]:
    answer = sum(not gpu.lost for gpu in seen.gpus)
    if expected.gpus is not None and len(seen.gpus) < expected.gpus:
        detail = f"{answer} of {expected.gpus} GPUs answer"
        yield _found(AlertKind.GPU_MISSING, Rung.REBOOT, None, seen, detail)


def _gpus(seen: NodeSeen, expected: Expected) -> Iterator[_Found]:
    for gpu in seen.gpus:
        if gpu.lost:
            detail = f"GPU {gpu.index} is gone from its bus"
            yield _found(AlertKind.GPU_LOST, Rung.REBOOT, gpu, seen, detail)
            continue
        yield from _asked_by_the_driver(gpu, seen)
        yield from _memory(gpu, seen)
        yield from _links(gpu, seen)
        yield from _throttled(gpu, seen)
        if is_over(gpu, expected.cap_w):
            yield _found(
                AlertKind.CAP_NOT_ENFORCED, Rung.OBSERVE, gpu, seen,
                f"{gpu.enforced_limit_w:.0f} W are enforced, {expected.cap_w:.0f} W allowed",
                asks=True, after_s=limits.GPU_CAP_GRACE_S,
            )  # fmt: skip


_ASKED = {
    RecoveryAction.RESET: Rung.RESET_GPU,
    RecoveryAction.REBOOT: Rung.REBOOT,
    RecoveryAction.DRAIN_P2P: Rung.DRAIN,
    RecoveryAction.DRAIN_AND_RESET: Rung.RESET_GPU,
    RecoveryAction.UNKNOWN: Rung.DRAIN,
}


def _asked_by_the_driver(gpu: GpuSeen, seen: NodeSeen) -> Iterator[_Found]:
    if gpu.recovery is None or gpu.recovery is RecoveryAction.NONE:
        return
    yield _found(
        AlertKind.RECOVERY_ACTION, _ASKED[gpu.recovery], gpu, seen,
        f"the driver asks for {gpu.recovery.value.replace('_', ' ')}",
        asks=gpu.recovery is RecoveryAction.UNKNOWN,
    )  # fmt: skip


def _memory(gpu: GpuSeen, seen: NodeSeen) -> Iterator[_Found]:
    if gpu.remap is not None and gpu.remap.failed:
        yield _found(
            AlertKind.REMAP_FAILED, Rung.REPAIR, gpu, seen, "no spare row is left", final=True
        )
    if gpu.remap is not None and gpu.remap.pending:
        yield _found(
            AlertKind.REMAP_PENDING,
            Rung.RESET_GPU,
            gpu,
            seen,
            "a row is remapped at the next reset",
        )
    if gpu.ecc_uncorrected:
        detail = f"{gpu.ecc_uncorrected} since the driver was loaded"
        yield _found(AlertKind.ECC_UNCORRECTED, Rung.OBSERVE, gpu, seen, detail)


def _links(gpu: GpuSeen, seen: NodeSeen) -> Iterator[_Found]:
    if gpu.links_down:
        named = ", ".join(map(str, gpu.links_down))
        yield _found(
            AlertKind.LINK_DOWN, Rung.RESET_GPU, gpu, seen, f"NVLinks {named} are down", asks=True
        )
    if gpu.fabric is not None and gpu.fabric != FABRIC_WELL:
        # Registration takes a while after a boot.
        yield _found(
            AlertKind.FABRIC, Rung.RELOAD_DRIVER, gpu, seen, f"fabric: {gpu.fabric}",
            asks=True, after_s=limits.GPU_FABRIC_GRACE_S,
        )  # fmt: skip


FABRIC_WELL = "completed"
_THERMAL = frozenset({"hw_slowdown", "sw_thermal", "hw_thermal"})


def _throttled(gpu: GpuSeen, seen: NodeSeen) -> Iterator[_Found]:
    reasons = gpu.throttled_by or frozenset()
    braked = "power_brake" in reasons
    for kind, is_so, detail in (
        (AlertKind.POWER_BRAKE, braked, "slowed by the power brake: look at feed and supplies"),
        # A hardware slowdown is told with the brake too; alone it is heat.
        (
            AlertKind.THERMAL,
            bool(reasons & (_THERMAL - {"hw_slowdown"} if braked else _THERMAL)),
            "slowed by heat",
        ),
    ):
        if is_so:
            yield _found(
                kind, Rung.OBSERVE, gpu, seen, detail,
                after_s=limits.GPU_THROTTLED_AFTER_S,
            )  # fmt: skip


_RUNG_OF_TROUBLE = {
    Trouble.NO_LIBRARY: (Rung.DRAIN, True),
    Trouble.NOT_LOADED: (Rung.RELOAD_DRIVER, False),
    Trouble.MISMATCH: (Rung.RELOAD_DRIVER, False),
    Trouble.BROKEN: (Rung.REBOOT, True),
    Trouble.HUNG: (Rung.REBOOT, True),
}


def _unreadable(trouble: Trouble, since_s: float, now_s: float) -> Iterator[_Found]:
    """A driver that is being upgraded is unreadable too: for a while it is only watched."""
    rung, asks = _RUNG_OF_TROUBLE[trouble]
    if now_s - since_s < limits.GPU_UNREADABLE_GRACE_S:
        rung, asks = Rung.OBSERVE, False
    yield _Found(
        alert=Alert(
            kind=AlertKind.UNREADABLE, rung=rung, since_s=since_s, detail=trouble.value, asks=asks
        )
    )


# --- what is told once ---------------------------------------------------------------------------------


def _xids(seen: NodeSeen) -> Iterator[Alert]:
    readable = {gpu.pci for gpu in seen.gpus if gpu.recovery is not None}
    for event in seen.xids:
        fact = fact_of(event.xid)
        if event.xid == RECOVERY_XID and event.gpu not in readable:
            yield _of_xid(event, Rung.DRAIN, "another recovery action, unreadable", asks=True)
        elif fact.weight is Weight.ACT:
            note = f"{fact.name}: {fact.note}" if fact.note else fact.name
            yield _of_xid(event, fact.rung, note, asks=fact.asks)


def _too_many(counted: tuple[XidEvent, ...], now_s: float) -> Iterator[Alert]:
    """A GPU that has many more of an Xid than its neighbours, on which the same work runs."""
    numbers = Counter((event.gpu, event.xid) for event in counted)
    latest = {(event.gpu, event.xid): event.at_s for event in counted}
    for (gpu, xid), number in numbers.items():
        # Only what came with this look: an alert that is older is remembered.
        if number < limits.XIDS_COUNTED_MAX or latest[gpu, xid] != now_s:
            continue
        elsewhere = max(
            (n for (other, x), n in numbers.items() if x == xid and other != gpu), default=0
        )
        if elsewhere * 2 <= number:
            fact = fact_of(xid)
            event = XidEvent(at_s=now_s, xid=xid, gpu=gpu)
            yield _of_xid(event, fact.rung, f"{fact.name}: {number} in a day", asks=fact.asks)


def _counted(before: tuple[XidEvent, ...], seen: NodeSeen) -> tuple[XidEvent, ...]:
    news = (
        # As of the look that told of it: one clock.
        msgspec.structs.replace(event, at_s=seen.at_s)
        for event in seen.xids
        if fact_of(event.xid).weight is Weight.COUNT
    )
    recent = [e for e in before if 0 <= seen.at_s - e.at_s < limits.XIDS_COUNTED_WITHIN_S]
    return tuple([*recent, *news][-limits.XIDS_REMEMBERED :])


def _is_over(alert: Alert, reset: frozenset[str], seen: NodeSeen) -> bool:
    """Whether what was told of a GPU, or of all of them, was ended by a reset."""
    if alert.gpu is not None:
        return alert.gpu in reset
    answering = {gpu.pci for gpu in seen.gpus if not gpu.lost}
    return bool(answering) and answering <= reset


def _is_old(alert: Alert, now_s: float) -> bool:
    """Whether it only asked for a look, a day ago: nothing else would ever end it."""
    return alert.rung is Rung.OBSERVE and now_s - alert.since_s >= limits.XIDS_COUNTED_WITHIN_S


def _of_xid(event: XidEvent, rung: Rung, detail: str, *, asks: bool) -> Alert:
    return Alert(
        kind=AlertKind.XID, rung=rung, since_s=event.at_s, gpu=event.gpu, xid=event.xid,
        detail=detail, asks=asks,
    )  # fmt: skip


# --- merging ---------------------------------------------------------------------------------------------


def _found(
    kind: AlertKind,
    rung: Rung,
    gpu: GpuSeen | None,
    seen: NodeSeen,
    detail: str,
    *,
    asks: bool = False,
    final: bool = False,
    after_s: float = 0.0,
) -> _Found:
    where = None if gpu is None else gpu.pci or f"GPU {gpu.index}"
    alert = Alert(
        kind=kind, rung=rung, since_s=seen.at_s, gpu=where, detail=detail, asks=asks, final=final
    )
    return _Found(alert=alert, after_s=after_s)


_LINGERS = {
    AlertKind.THERMAL: limits.GPU_THROTTLED_FOR_S,
    AlertKind.POWER_BRAKE: limits.GPU_THROTTLED_FOR_S,
}


def _watched(
    before: tuple[Watched, ...], found: Iterable[_Found], seen: NodeSeen
) -> dict[tuple[AlertKind, str | None], Watched]:
    """What is wrong now, and what was a moment ago, with its beginning."""
    now_s = seen.at_s
    old = {(one.kind, one.gpu): one for one in before}
    kept = {
        key: one
        for key, one in old.items()
        # With nothing read, what was being watched still is.
        if seen.trouble is not None or now_s - one.last_s <= _LINGERS.get(one.kind, -1.0)
    }
    for one in found:
        key = one.alert.kind, one.alert.gpu
        first_s = old[key].first_s if key in old else now_s
        kept[key] = Watched(kind=key[0], gpu=key[1], first_s=first_s, last_s=now_s)
    return kept


def _since(alert: Alert, first_s: float) -> Alert:
    """With when it began; each Xid of a GPU has its own beginning."""
    if alert.kind is AlertKind.XID:
        return alert
    return msgspec.structs.replace(alert, since_s=min(alert.since_s, first_s))


def _merged(alerts: Iterable[Alert], before: tuple[Alert, ...]) -> tuple[Alert, ...]:
    """One of each, with the rung and the words of the latest, and the beginning of the first."""
    since_s = {_key(alert): alert.since_s for alert in before}
    latest = {_key(alert): alert for alert in alerts}
    return tuple(
        msgspec.structs.replace(alert, since_s=min(alert.since_s, since_s.get(key, alert.since_s)))
        for key, alert in sorted(latest.items(), key=lambda item: _sortable(item[0]))
    )


def _key(alert: Alert) -> Key:
    return alert.kind, alert.gpu, alert.xid


def _sortable(key: Key) -> tuple[str, str, int]:
    return key[0].value, key[1] or "", key[2] or 0


def _first(before: HealthMemory, kind: AlertKind, now_s: float) -> float:
    return min((a.since_s for a in before.alerts if a.kind is kind), default=now_s)


def _energies(seen: NodeSeen) -> dict[str, float]:
    return {
        gpu.pci: gpu.energy_j
        for gpu in seen.gpus
        if gpu.pci is not None and gpu.energy_j is not None
    }
