"""The grant of a firmware runner, and its journal: the spec and the status of a `DeviceOperation`.

The engine writes the spec before it opens a wave. The runner may write the status alone, so that it cannot
grant itself anything.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from control_plane.api.objects import (
    DeviceOperationSpec,
    DeviceOperationStatus,
    OperationEntry,
    OperationStep,
    PinPart,
)
from control_plane.core.cluster import Body, Cluster, Conflict, NotFound, Object
from control_plane.core.firmware_job import ROLLOUT_LABEL, SITE_LABEL
from control_plane.core.flashing import FlashEntry, FlashStep, Grant, Purpose
from control_plane.core.memory import Pin
from control_plane.engine.flash import Withdrawn
from control_plane.kube.kinds import DEVICE_OPERATION
from control_plane.kube.listing import get_or_none

MANAGER = "gridplane-firmware"
"""Who owns the journal's fields."""
_KIND: Final = "install_firmware"
_DETAIL_CHARS = 300


class Granted(msgspec.Struct, frozen=True):
    """A grant, and at which version of its object it was read."""

    grant: Grant
    version: str


def operation_of(job: str, index: int) -> str:
    """The name of the operation that grants an index of a Job."""
    return f"{job}-{index}"


def job_in(operation: str) -> str:
    """The Job that an operation is about, by its name."""
    return operation.rpartition("-")[0]


async def read_grant(cluster: Cluster, operation: str, *, namespace: str) -> Granted | None:
    """A grant; `None` where there is none for firmware.

    Raises:
        ClusterError: the API server did not answer, or says no.
    """
    found = await get_or_none(cluster, DEVICE_OPERATION, operation, namespace=namespace)
    grant = None if found is None else grant_in(found)
    if found is None or grant is None:
        return None
    return Granted(grant, found.metadata.resource_version)


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


def grant_body(grant: Grant, *, site: str, namespace: str, version: str = "") -> Body:
    """A grant as the engine sends it: the spec, and nothing of the journal.

    Args:
        grant: what is let go.
        site: its site.
        namespace: of the object.
        version: at which it was read; empty where it is made.
    """
    spec = DeviceOperationSpec(
        site=site,
        kind=_KIND,
        digest=grant.digest,
        fence=grant.fence,
        rollout=grant.rollout,
        purpose=grant.purpose.value,
        wave=grant.wave,
        round=grant.round,
        budget=grant.at_once,
        deadline=_time(grant.deadline_s),
        entries=tuple(_granted(grant, asset) for asset in sorted(grant.entries)),
    )
    labels = {SITE_LABEL: site, ROLLOUT_LABEL: grant.rollout}
    return _body(grant.operation, namespace, version, labels=labels, spec=msgspec.to_builtins(spec))


def journal_body(
    operation: str, entries: Mapping[str, FlashEntry], *, namespace: str, version: str
) -> Body:
    """A journal as it is sent: only onto the object as it was read."""
    ended = sum(1 for entry in entries.values() if entry.is_final)
    status = {
        "progress": f"{ended}/{len(entries)}",
        "entries": [msgspec.to_builtins(_step(entries[asset])) for asset in sorted(entries)],
    }
    return _body(operation, namespace, version, status=status)


def _body(
    operation: str, namespace: str, version: str, *, labels: Mapping[str, str] = {}, **parts: Any
) -> Body:
    metadata: dict[str, Any] = {"name": operation, "namespace": namespace}
    if labels:
        metadata["labels"] = dict(labels)
    if version:
        metadata["resourceVersion"] = version
    return {
        "apiVersion": DEVICE_OPERATION.api_version,
        "kind": DEVICE_OPERATION.kind,
        "metadata": metadata,
        **parts,
    }


def _granted(grant: Grant, asset: str) -> OperationEntry:
    pin = grant.pins.get(asset)
    return OperationEntry(
        asset=asset,
        address=grant.addresses.get(asset),
        pin=PinPart(mac=pin.mac, serial=pin.serial, source=pin.source) if pin else None,
    )


class OperationJournal:
    """A `FlashJournal` in the status of an operation. Those who keep at the same time share one write.

    Each write holds only for the object as it was read last. So it is refused where the engine has taken a
    device out of the grant since, and where a second pod of the same index has been at the device.
    """

    def __init__(self, cluster: Cluster, granted: Granted, *, namespace: str) -> None:
        """Begin with the grant as it was read."""
        self._cluster, self._namespace = cluster, namespace
        self._operation = granted.grant.operation
        self._grant, self._version = granted.grant, granted.version
        self._waiting: dict[str, tuple[FlashEntry, FlashEntry]] = {}
        """Asset → what it stands at, and what it is to."""
        self._turn = asyncio.Lock()
        self.writes = 0
        """To the API server, so far."""

    async def keep(self, entry: FlashEntry) -> None:
        """Keep an entry; see `engine.flash.FlashJournal`.

        Raises:
            Withdrawn: the device may not be begun: it is not granted any more, or somebody else was at it.
            ClusterError: the API server did not answer, or says no.
        """
        wanted = _as_kept(entry)
        before = self._grant.entries.get(entry.asset, FlashEntry(asset=entry.asset))
        self._waiting[entry.asset] = (before, wanted)
        try:
            async with self._turn:
                while not self._stands(wanted):
                    self._refuse(before, wanted)
                    await self._write()
        finally:
            # Nobody's later write may say that this came about.
            self._waiting.pop(entry.asset, None)

    def _stands(self, wanted: FlashEntry) -> bool:
        return self._grant.entries.get(wanted.asset) == wanted

    def _refuse(self, before: FlashEntry, wanted: FlashEntry) -> None:
        """Nothing, where a step may be kept.

        Raises:
            Withdrawn, ClusterError: as `keep`.
        """
        there = self._grant.entries.get(wanted.asset)
        begins = wanted.step is FlashStep.COMMITTING
        if there is None or (
            begins and (wanted.committed_at_s or 0.0) >= int(self._grant.deadline_s)
        ):
            raise Withdrawn("it was taken out of its grant")
        if there != before:
            what = f"{self._operation}: somebody else has {wanted.asset} at {there.step}"
            raise Withdrawn(what) if begins else Conflict(what)

    async def _write(self) -> None:
        entries = dict(self._grant.entries)
        for asset, (before, wanted) in self._waiting.items():
            if entries.get(asset) == before:
                entries[asset] = wanted
        body = journal_body(
            self._operation, entries, namespace=self._namespace, version=self._version
        )
        self.writes += 1
        try:
            made = await self._cluster.apply(
                DEVICE_OPERATION, body, manager=MANAGER, subresource="status"
            )
        except Conflict:
            await self._read()
            return
        self._grant = msgspec.structs.replace(self._grant, entries=entries)
        self._version = made.metadata.resource_version

    async def _read(self) -> None:
        granted = await read_grant(self._cluster, self._operation, namespace=self._namespace)
        if granted is None:
            # Whoever deleted it knows no more of what was begun: the devices go on by themselves.
            raise NotFound(f"{self._operation} is gone: nothing of it can be kept any more")
        self._grant, self._version = granted.grant, granted.version


def _as_kept(entry: FlashEntry) -> FlashEntry:
    """As it reads once it was written: whole seconds, two digits."""
    return _entry(_step(entry))


def _step(entry: FlashEntry) -> OperationStep:
    return OperationStep(
        asset=entry.asset,
        step=entry.step.value,
        attempt=entry.attempt,
        before=entry.before,
        after=entry.after,
        image=entry.image,
        hash_before_ths=_rounded(entry.hash_before_ths),
        hash_after_ths=_rounded(entry.hash_after_ths),
        power_before_w=_rounded(entry.power_before_w),
        power_after_w=_rounded(entry.power_after_w),
        committed_at=_time_or_none(entry.committed_at_s),
        booted_at=_time_or_none(entry.booted_at_s),
        detail=entry.detail[:_DETAIL_CHARS],
    )


def _entry(step: OperationStep) -> FlashEntry:
    return FlashEntry(
        asset=step.asset,
        step=FlashStep(step.step),
        attempt=step.attempt,
        before=step.before,
        after=step.after,
        image=step.image,
        hash_before_ths=step.hash_before_ths,
        hash_after_ths=step.hash_after_ths,
        power_before_w=step.power_before_w,
        power_after_w=step.power_after_w,
        committed_at_s=step.committed_at.timestamp() if step.committed_at else None,
        booted_at_s=step.booted_at.timestamp() if step.booted_at else None,
        detail=step.detail,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _time(seconds: float) -> dt.datetime:
    """Whole seconds: an object's times have no fractions."""
    return dt.datetime.fromtimestamp(int(seconds), dt.UTC)


def _time_or_none(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else _time(seconds)
