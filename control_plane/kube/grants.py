"""The grant of a firmware runner, and its journal: the spec and the status of a `DeviceOperation`.

The engine writes the spec before it opens a wave. The runner may write the status alone, so that it cannot
grant itself anything.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping

import msgspec

from control_plane.api.objects import DeviceOperationSpec, DeviceOperationStatus, OperationStep
from control_plane.core.cluster import Cluster, Object
from control_plane.core.flashing import FlashEntry, FlashStep, Grant, Purpose
from control_plane.core.memory import Pin
from control_plane.kube.kinds import DEVICE_OPERATION
from control_plane.kube.listing import get_or_none

MANAGER = "gridplane-firmware"
"""Who owns the journal's fields."""
_KIND = "install_firmware"
_DETAIL_CHARS = 300


def operation_of(job: str, index: int) -> str:
    """The name of the operation that grants an index of a Job."""
    return f"{job}-{index}"


async def read_grant(cluster: Cluster, job: str, index: int, *, namespace: str) -> Grant | None:
    """The grant of an index; `None` where there is none for firmware.

    Raises:
        ClusterError: the API server did not answer, or says no.
    """
    name = operation_of(job, index)
    found = await get_or_none(cluster, DEVICE_OPERATION, name, namespace=namespace)
    return None if found is None else grant_in(found)


def grant_in(found: Object) -> Grant | None:
    """The grant in an object; `None` where it is about something else, or of another release."""
    try:
        spec = msgspec.json.decode(found.spec, type=DeviceOperationSpec)
        status = msgspec.json.decode(found.status, type=DeviceOperationStatus | None)
    except msgspec.MsgspecError:
        # Whoever does not understand it may do nothing.
        return None
    if spec.kind != _KIND:
        return None
    kept = {step.asset: _entry(step) for step in (status.entries if status else ())}
    return Grant(
        operation=found.metadata.name,
        rollout=spec.rollout,
        purpose=Purpose(spec.purpose),
        wave=spec.wave,
        round=spec.round,
        fence=spec.fence,
        digest=spec.digest,
        entries={e.asset: kept.get(e.asset) or FlashEntry(asset=e.asset) for e in spec.entries},
        pins={
            e.asset: Pin(mac=e.pin.mac, serial=e.pin.serial, source=e.pin.source)
            for e in spec.entries
            if e.pin
        },
        addresses={e.asset: e.address for e in spec.entries if e.address},
        at_once=spec.budget,
        deadline_s=spec.deadline.timestamp(),
    )


class OperationJournal:
    """A `FlashJournal` in the status of an operation. Those who keep at the same time share one write."""

    def __init__(
        self,
        cluster: Cluster,
        operation: str,
        entries: Mapping[str, FlashEntry],
        *,
        namespace: str,
    ) -> None:
        """`entries` are all devices of the operation, as its status has them."""
        self._cluster, self._operation, self._namespace = cluster, operation, namespace
        self._entries = dict(entries)
        self._turn = asyncio.Lock()
        self._noted = self._written = 0
        self.writes = 0
        """To the API server, so far."""

    async def keep(self, entry: FlashEntry) -> None:
        """Keep an entry; see `engine.flash.FlashJournal`.

        Raises:
            ClusterError: the API server did not answer, or says no.
        """
        before = self._entries[entry.asset]
        self._entries[entry.asset] = entry
        self._noted += 1
        mine = self._noted
        async with self._turn:
            if self._written >= mine:
                return
            noted = self._noted
            body = _body(self._operation, self._namespace, self._entries)
            self.writes += 1
            try:
                await self._cluster.apply(
                    DEVICE_OPERATION, body, manager=MANAGER, subresource="status"
                )
            except BaseException:
                # Nobody's later write may say that this came about.
                self._entries[entry.asset] = before
                raise
            self._written = noted


def _body(operation: str, namespace: str, entries: Mapping[str, FlashEntry]) -> dict[str, object]:
    ended = sum(1 for entry in entries.values() if entry.is_final)
    steps = [_step(entry) for entry in entries.values()]
    return {
        "apiVersion": DEVICE_OPERATION.api_version,
        "kind": DEVICE_OPERATION.kind,
        "metadata": {"name": operation, "namespace": namespace},
        "status": {
            "progress": f"{ended}/{len(entries)}",
            "entries": msgspec.to_builtins(steps),
        },
    }


def _step(entry: FlashEntry) -> OperationStep:
    return OperationStep(
        asset=entry.asset,
        step=entry.step.value,
        attempt=entry.attempt,
        before=entry.before,
        after=entry.after,
        hash_before_ths=_rounded(entry.hash_before_ths),
        hash_after_ths=_rounded(entry.hash_after_ths),
        committed_at=_time(entry.committed_at_s),
        booted_at=_time(entry.booted_at_s),
        detail=entry.detail[:_DETAIL_CHARS],
    )


def _entry(step: OperationStep) -> FlashEntry:
    return FlashEntry(
        asset=step.asset,
        step=FlashStep(step.step),
        attempt=step.attempt,
        before=step.before,
        after=step.after,
        hash_before_ths=step.hash_before_ths,
        hash_after_ths=step.hash_after_ths,
        committed_at_s=step.committed_at.timestamp() if step.committed_at else None,
        booted_at_s=step.booted_at.timestamp() if step.booted_at else None,
        detail=step.detail,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _time(seconds: float | None) -> dt.datetime | None:
    """Whole seconds: an object's times have no fractions."""
    return None if seconds is None else dt.datetime.fromtimestamp(int(seconds), dt.UTC)
