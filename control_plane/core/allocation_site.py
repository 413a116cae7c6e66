"""A site as the allocator reads it: its feed tree, what hangs there, and what pairs have to bear.

Caps are net of what no device of ours draws: unmanaged load of a node and of all nodes below it. Hosts
are loads that nobody may choose. Whatever is unknown, held, locked or not an owner's to give is fixed
at what it counts at (`power.counted_w`), so it takes room and gives none.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

import numpy as np

from control_plane.core.allocation_input import (
    NONE,
    Floats,
    Joint,
    Load,
    Participation,
    Terms,
    Tree,
    load_at,
    tree_of,
)
from control_plane.core.contingency import moved_sides, single_losses
from control_plane.core.fleet import Device, DeviceKind, Site
from control_plane.core.ladder import ModeLadder, ladder_of
from control_plane.core.observation import Settings
from control_plane.core.power import counted_w

BIAS_RANGE = (-0.1, 0.15)
"""Of a node's meter against the sum of its devices; beyond that the map or the meter is wrong (energy §7)."""


def site_tree(
    site: Site,
    *,
    guard: Mapping[str, float] | None = None,
    bias: Mapping[str, float] | None = None,
    lower_w: Mapping[str, float] | None = None,
) -> tuple[Tree, list[Joint]]:
    """The tree with caps net of everything unmanaged, and the joints of its pairs.

    By node: `guard` is a share of the derated rating that is left free, `bias` by how much the meter
    reads above the devices (clamped to `BIAS_RANGE`), `lower_w` what has to be drawn. After each loss of
    `core.contingency` a node bears `emergency_w`, else its rating without derate.
    """
    ids = list(site.feeds)
    number = {name: n for n, name in enumerate(ids)}
    nodes = list(site.feeds.values())
    parent = [NONE if node.parent is None else number[node.parent] for node in nodes]
    bare = tree_of(ids, parent, np.full(len(ids), np.inf))
    own_w = np.array([node.unmanaged_w for node in nodes])
    unmanaged_w = load_at(bare, np.arange(len(ids)), own_w)
    over = 1.0 + np.clip(_by_node(ids, bias), *BIAS_RANGE)
    rated_w = np.array([node.rating_w for node in nodes])
    derated_w = rated_w * np.array([node.derate for node in nodes])
    cap_w = (derated_w * (1.0 - _by_node(ids, guard)) - unmanaged_w) / over
    asked_w = _by_node(ids, lower_w)
    asked_w = np.where(asked_w > 0, np.maximum(0.0, asked_w - unmanaged_w) / over, 0.0)
    tree = tree_of(ids, parent, cap_w, asked_w)
    bears_w = np.array([node.emergency_w or node.rating_w for node in nodes])
    comes: dict[tuple[int, tuple[int, ...]], None] = {}
    """Node → sides whose load it has once they are dark, and has not before."""
    for loss in (*single_losses(site.feeds), *site.contingencies):
        at: dict[int, list[int]] = {}
        for side in moved_sides(site.feeds, loss):
            left = set(tree.path(number[side.id]))
            for onto in tree.path(number[str(side.pair)]):
                if onto not in left:
                    at.setdefault(onto, []).append(number[side.id])
        comes |= {(onto, tuple(lost)): None for onto, lost in at.items()}
    joints = []
    for onto, lost in comes:
        limit_w = (bears_w[onto] - unmanaged_w[[onto, *lost]].sum()) / over[onto]
        joints.append(Joint(lost=lost, onto=onto, limit_w=float(limit_w)))
    return tree, joints


def _by_node(ids: Iterable[str], given: Mapping[str, float] | None) -> Floats:
    return np.array([(given or {}).get(name, 0.0) for name in ids], dtype=np.float64)


def site_loads(
    site: Site,
    tree: Tree,
    known: Mapping[str, Settings],
    *,
    learned: Mapping[str, ModeLadder] | None = None,
    terms: Mapping[str, Terms] | None = None,
    told_s: float = 0.0,
    fixed: Container[str] = (),
) -> list[Load]:
    """Every device and host of the site, in the order of the declaration.

    `known` are settings that were read lately; a device without is fixed. `terms` are by owner, and
    `told_s` since when they know of it; without terms, what the declaration says. `fixed` are assets
    under a hold, a lock or an operation.
    """
    number = {name: n for n, name in enumerate(tree.ids)}
    contracts = {
        owner.id: Terms(participation=Participation(owner.participation))
        for owner in site.owners.values()
    } | dict(terms or {})
    loads = [
        Load(asset=f"host:{host.name}", feed=number[host.feed], standing_w=host.power_w)
        for host in site.hosts
    ]
    for device in site.devices:
        settings = known.get(device.asset)
        contract = contracts.get(device.intent.owner)
        is_free = (
            settings is not None
            and device.is_managed
            and device.type.kind is DeviceKind.MINER
            and device.asset not in fixed
            and contract is not None
            and contract.is_free(told_s=told_s)
        )
        if not is_free or settings is None:
            watts = counted_w(device, settings)
            ths = _hashes_at(device, settings)
            loads.append(
                Load(
                    asset=device.asset,
                    feed=number[device.feed],
                    standing_w=watts,
                    standing_ths=ths,
                )
            )
            continue
        ladder = ladder_of(device, (learned or {}).get(device.asset))
        loads.append(_free(device, ladder, settings, number[device.feed]))
    return loads


def _hashes_at(device: Device, settings: Settings | None) -> float:
    if settings is None or not settings.mining or device.type.kind is not DeviceKind.MINER:
        return 0.0
    return device.hashrate_at(settings.power_mode) if device.is_managed else 0.0


def _free(device: Device, ladder: ModeLadder, settings: Settings, feed: int) -> Load:
    """Runs now what its settings permit: all steps up to those watts."""
    hull = ladder.hull()
    runs_w = ladder.standby_w if settings.mining is False else counted_w(device, settings)
    return Load(
        asset=device.asset,
        feed=feed,
        standing_w=ladder.standby_w,
        hull=hull,
        current=sum(step.power_w <= runs_w for step in hull),
    )
