"""Two declarations of one site compared, without a device: what a pull request would do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import msgspec

from control_plane.core import limits
from control_plane.core.decision import Danger
from control_plane.core.diff import nameplate_ths, permitted_w
from control_plane.core.fleet import Device, DeviceKind, GpuIntent, Site
from control_plane.core.gpu import ClockRange, GpuSettings
from control_plane.core.gpu_software import branch_of, is_step_back
from control_plane.core.observation import Field, Settings
from control_plane.core.overlay import path_above
from control_plane.core.power import gpu_node_w
from control_plane.core.rollout import wave_sizes
from control_plane.core.work_order import Speaks, WorkOrder, work_orders


class FieldChange(msgspec.Struct, frozen=True, kw_only=True):
    """One field of one device that would be declared differently."""

    asset: str
    field: str
    """A `Field`, or `owner`, `family`, `feed`, `state`."""
    before: str
    after: str


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """What one declaration amounts to, by nameplate."""

    devices: int
    managed: int
    power_w: float
    miners_w: float
    """The part of it that hashes: what stands against `hashrate_ths`."""
    hashrate_ths: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What would change."""

    site: str
    before: Total | None
    """`None`: the site is new."""
    after: Total
    added: tuple[str, ...]
    removed: tuple[str, ...]
    retired: tuple[str, ...]
    """Still declared, and managed no more: out of service, in repair, vacant."""
    changes: tuple[FieldChange, ...]
    subjects: int
    """Devices that a rollout would have to reach."""
    waves: tuple[int, ...]
    power_changed_w: float
    """Sum of the absolute changes of permitted watts."""
    shrunk: str = ""
    """Of which domain so much leaves that somebody has to say that it is meant."""
    danger: Danger
    steps_back: tuple[str, ...] = ()
    """Drivers that would go back a branch: refused, unless their waves are still under way."""
    work_orders: tuple[WorkOrder, ...] = ()
    """Machines that would be declared of another firmware family: a person's work, no wave."""


def compare(before: Site | None, after: Site) -> Comparison:
    """What the second declaration changes in the first."""
    old = {device.asset: device for device in before.devices} if before else {}
    new = {device.asset: device for device in after.devices}
    changes = [
        change
        for asset, device in new.items()
        if asset in old
        for change in _changes(old[asset], device)
    ]
    added = tuple(asset for asset, d in new.items() if asset not in old and d.is_managed)
    removed, retired = removed_assets(before, after), retired_assets(before, after)
    subjects = {c.asset for c in changes if c.field in _WRITTEN and new[c.asset].is_managed}
    count = len(subjects | set(added))
    moved_w = sum(abs(_declared_w(new[a]) - _declared_w(old[a])) for a in subjects)
    domain = shrunk(before, {*removed, *retired})
    return Comparison(
        site=after.id,
        before=_total(before) if before else None,
        after=_total(after),
        added=added,
        removed=removed,
        retired=retired,
        changes=tuple(changes),
        subjects=count,
        waves=wave_sizes(count, after.strategy.cohorts),
        power_changed_w=moved_w,
        shrunk=domain,
        danger=_danger(changes, (*removed, *retired), domain, moved_w, after),
        steps_back=steps_back(before, after),
        work_orders=work_orders(after, _declared(old)),
    )


def _declared(old: Mapping[str, Device]) -> dict[str, Speaks]:
    """What machines speak as far as a declaration knows."""
    return {
        asset: Speaks(device.intent.family, device.intent.firmware)
        for asset, device in old.items()
        if device.is_managed
    }


def removed_assets(before: Site | None, after: Site) -> tuple[str, ...]:
    """Managed assets that the new declaration no longer has."""
    if before is None:
        return ()
    kept = {device.asset for device in after.devices}
    return tuple(sorted(d.asset for d in before.devices if d.is_managed and d.asset not in kept))


def retired_assets(before: Site | None, after: Site) -> tuple[str, ...]:
    """Managed assets that the new declaration has, and manages no more."""
    if before is None:
        return ()
    managed = {device.asset for device in before.devices if device.is_managed}
    return tuple(d.asset for d in after.devices if not d.is_managed and d.asset in managed)


def shrunk(before: Site | None, leaving: Collection[str]) -> str:
    """Of which domain so much leaves that somebody has to say that it is meant; empty: of none.

    Args:
        before: the declaration in force.
        leaving: its managed assets that are removed or retired.
    """
    if before is None or not leaving:
        return ""
    gone = [device for device in before.devices if device.asset in leaving]
    lost = Counter(node for device in gone for node in path_above(before, device))
    had: Counter[str] = Counter()
    for device in before.devices:
        if device.is_managed:
            had[before.id] += 1
            had.update(node for node in path_above(before, device) if node in lost)
    if len(gone) > limits.SHRINK_MAX_SHARE * had[before.id]:
        return f"{len(gone)} of the {had[before.id]} of {before.id}"
    for node, count in sorted(lost.items(), key=lambda each: (-each[1], each[0])):
        if count >= limits.SHRINK_DOMAIN_FLOOR and count > limits.SHRINK_DOMAIN_SHARE * had[node]:
            return f"{count} of the {had[node]} of {node}"
    return ""


def steps_back(
    before: Site | None, after: Site, *, under_way: Collection[str] = ()
) -> tuple[str, ...]:
    """Where a driver would go back to an older branch, in words; nowhere: empty.

    Within a branch it may. And the way back from one whose waves have not ended is the roll-back: most nodes
    run what is declared again.

    Args:
        before: the declaration in force.
        after: the other one.
        under_way: profiles whose waves have not ended.
    """
    old = {device.asset: device for device in before.devices} if before else {}
    found: Counter[tuple[str, str, str]] = Counter()
    for device in after.devices:
        was = old[device.asset].intent.gpu if device.asset in old else None
        now = device.intent.gpu
        if was is None or now is None or was.driver is None or now.driver is None:
            continue
        if device.intent.profile not in under_way and is_step_back(was.driver, now.driver):
            found[device.intent.profile, was.driver, now.driver] += 1
    return tuple(
        f"profile {profile}: driver {was} -> {now} goes back to branch {branch_of(now)} on {count} nodes"
        for (profile, was, now), count in sorted(found.items())
    )


_WRITTEN = frozenset(
    {
        *(field.value for field in Field),
        "family",
        *(f"gpu_{field}" for field in ("driver", *GpuSettings.__struct_fields__)),
    }
)


_SOFTWARE = {False: "leave", True: "waves"}
_REMEDIES = {False: "tell", True: "act"}
"""As profiles say it."""


def _settings(device: Device) -> Mapping[str, object]:
    return msgspec.structs.asdict(device.desired())


def _changes(old: Device, new: Device) -> list[FieldChange]:
    if old.intent is new.intent and old.state is new.state and old.feed == new.feed:
        return []
    pairs: list[tuple[str, object, object]] = [
        (field, value, _settings(new)[field]) for field, value in _settings(old).items()
    ]
    pairs += [
        ("owner", old.intent.owner, new.intent.owner),
        ("family", old.intent.family, new.intent.family),
        ("feed", old.feed, new.feed),
        ("state", old.state, new.state),
        *_gpu_pairs(old, new),
    ]
    return [
        FieldChange(asset=new.asset, field=field, before=_text(was), after=_text(now))
        for field, was, now in pairs
        if was != now
    ]


def _gpu_pairs(old: Device, new: Device) -> list[tuple[str, object, object]]:
    """What profiles say of GPUs, part by part."""
    was, now = old.intent.gpu or GpuIntent(), new.intent.gpu or GpuIntent()
    if was == now:
        return []
    parts: list[tuple[str, object, object]] = [
        ("gpu_driver", was.driver, now.driver),
        ("gpu_mig", was.mig, now.mig),
        ("gpu_remedies", _REMEDIES[was.acts], _REMEDIES[now.acts]),
        ("gpu_software", _SOFTWARE[was.waves], _SOFTWARE[now.waves]),
    ]
    declared = msgspec.structs.asdict(was.settings)
    for name, value in msgspec.structs.asdict(now.settings).items():
        if name != "mig":
            parts.append((f"gpu_{name}", declared[name], value))
    return parts


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, ClockRange):
        return f"{value.min_mhz}-{value.max_mhz} MHz"
    if isinstance(value, tuple):
        return ", ".join(f"{pool.worker}@{pool.url}" for pool in value)
    return str(value)


def _declared_w(device: Device) -> float:
    if device.type.kind is DeviceKind.GPU_NODE:
        gpu = device.intent.gpu
        return gpu_node_w(device, gpu.settings.power_limit_w if gpu else None)
    desired = device.desired()
    return permitted_w(device.type, _with_nominal_mode(device, desired))


def _with_nominal_mode(device: Device, desired: Settings) -> Settings:
    """A mode that the declaration leaves to the device counts as the nameplate's."""
    if desired.power_mode is not None:
        return desired
    return msgspec.structs.replace(desired, power_mode=device.type.nominal_mode)


def _total(site: Site) -> Total:
    managed = [device for device in site.devices if device.is_managed]
    miners = [device for device in managed if device.type.kind is DeviceKind.MINER]
    return Total(
        devices=len(site.devices),
        managed=len(managed),
        power_w=sum(map(_declared_w, managed)),
        miners_w=sum(map(_declared_w, miners)),
        hashrate_ths=sum(nameplate_ths(d, d.desired()) for d in miners),
    )


def _danger(
    changes: list[FieldChange],
    leaving: Collection[str],
    domain: str,
    moved_w: float,
    after: Site,
) -> Danger:
    if domain:
        return Danger.D5
    if any(change.field == "family" for change in changes):
        return Danger.D4
    total_w = sum(map(_declared_w, (d for d in after.devices if d.is_managed)))
    if moved_w > limits.D3_SHARE * max(1.0, total_w):
        return Danger.D3
    if any(change.field in {"pools", "owner"} for change in changes):
        return Danger.D2
    return Danger.D1 if changes or leaving else Danger.D0
