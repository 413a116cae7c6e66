"""A synthetic site for the allocator: mixed machines with their published ladders, on a tree that binds.

Ladders of the S19k Pro, S19 XP and S19j Pro are as devices reported them (energy §2). Those of the S21
and the S21 Pro are the S19 XP's curve scaled to their nameplate: no full one is published. Units vary by
3 % in hash and 2 % in watts. Every machine has eight modes, or as many as its ladder gives.
"""

from __future__ import annotations

import msgspec
import numpy as np

from control_plane.core.allocation_input import Devices, Floats, Ints, Tree, load_at, tree_of

S19_XP = ((80, 1_700), (100, 2_200), (120, 2_700), (142, 3_350), (154, 3_850), (169, 4_400))


def _scaled(ths: float, watts: float) -> tuple[tuple[float, float], ...]:
    return tuple((t / 142 * ths, w / 3_350 * watts) for t, w in S19_XP)


class Model(msgspec.Struct, frozen=True):
    """A machine: points of TH/s and watts, and what its nameplate says."""

    points: tuple[tuple[float, float], ...]
    nominal: int
    share: float
    """Of the site's machines."""


MODELS = (
    Model(
        ((39.2, 784), (54.7, 1_080), (70.2, 1_414), (90.8, 1_916), (106.3, 2_336), (121.8, 2_794),
         (137.3, 3_288)), 5, 0.25,
    ),
    Model(S19_XP, 3, 0.25),
    Model(
        ((65, 1_740), (76, 1_850), (80, 2_000), (83, 2_150), (87, 2_300), (92, 2_500), (96, 2_700)),
        6, 0.2,
    ),
    Model(_scaled(200, 3_500), 3, 0.2),
    Model(_scaled(234, 3_510), 3, 0.1),
)  # fmt: skip
STANDBY_W = 25.0
MODES = 8
"""Standby and up to seven steps."""


class Fleet(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """All machines: what the policies are compared on, and the allocator's arrays of the same."""

    devices: Devices
    power_w: Floats
    """machines × modes; mode 0 is standby, missing modes repeat the last one."""
    hashrate_ths: Floats
    nominal: Ints
    """The mode of each machine's nameplate."""


def fleet(machines: int, feeds: Ints, seed: int) -> Fleet:
    """Machines drawn by share, spread over the feeds in blocks as racks are."""
    rng = np.random.default_rng(seed)
    model = rng.choice(len(MODELS), machines, p=[m.share for m in MODELS])
    watts = np.zeros((len(MODELS), MODES))
    ths = np.zeros((len(MODELS), MODES))
    for i, one in enumerate(MODELS):
        for mode in range(MODES):
            point = (0.0, STANDBY_W) if mode == 0 else one.points[min(mode, len(one.points)) - 1]
            ths[i, mode], watts[i, mode] = point
    better = np.clip(rng.normal(1.0, 0.03, machines), 0.9, 1.1)[:, None]
    hungrier = np.clip(rng.normal(1.0, 0.02, machines), 0.94, 1.06)[:, None]
    power_w = watts[model] * hungrier
    power_w[:, 0] = STANDBY_W
    hashrate_ths = ths[model] * better
    feed = feeds[np.arange(machines) * len(feeds) // machines]
    nominal = np.array([one.nominal + 1 for one in MODELS])[model]
    return Fleet(
        devices=hulls(power_w, hashrate_ths, feed),
        power_w=power_w,
        hashrate_ths=hashrate_ths,
        nominal=nominal,
    )


def up_to_nominal(machinery: Fleet) -> Devices:
    """The same machines without the modes above their nameplate."""
    most = np.minimum(np.arange(MODES)[None, :], machinery.nominal[:, None])
    rows = np.arange(len(machinery.nominal))[:, None]
    points = machinery.power_w[rows, most], machinery.hashrate_ths[rows, most]
    return hulls(*points, machinery.devices.feed)


def hulls(power_w: Floats, ths: Floats, feed: Ints) -> Devices:
    """The hulls of all machines at once; `ModeLadder.hull` is the same for one."""
    machines, modes = power_w.shape
    at = np.zeros(machines, dtype=np.int64)
    rows = np.arange(machines)
    found: list[tuple[Ints, Floats, Floats]] = []
    for _ in range(modes):
        extra = power_w - power_w[rows, at][:, None]
        gain = ths - ths[rows, at][:, None]
        slope = np.where((extra > 0) & (gain > 0), gain / np.where(extra > 0, extra, 1.0), -1.0)
        best = slope.argmax(axis=1)
        on = np.flatnonzero(slope[rows, best] > 0)
        if not len(on):
            break
        found.append((on, extra[on, best[on]], gain[on, best[on]]))
        at[on] = best[on]
    of = np.concatenate([step[0] for step in found])
    order = np.argsort(of, kind="stable")
    width = np.concatenate([step[1] for step in found])[order]
    added = np.concatenate([step[2] for step in found])[order]
    return Devices(
        assets=[f"m{i}" for i in range(machines)],
        feed=feed,
        standing_w=power_w[:, 0].copy(),
        standing_ths=np.zeros(machines),
        current=np.zeros(machines, dtype=np.int64),
        first=np.concatenate(([0], np.cumsum(np.bincount(of, minlength=machines)))),
        width_w=width,
        gain_ths=added,
        gain_usd_per_hour=np.zeros(len(width)),
    )


def site(machines: int, *, cap_share: float, seed: int = 1, scale: int = 1) -> tuple[Tree, Fleet]:
    """Site, 20 transformers, 200 containers, 700 PDUs (each times `scale`), the root at a share.

    Below the root, ratings are what machines draw by nameplate, times 0.88 to 1.12: some bind, most do not.
    """
    rng = np.random.default_rng(seed + 1_000)
    counts = (1, 20 * scale, 200 * scale, 700 * scale)
    parents, begins = [np.array([-1])], np.cumsum((0, *counts))
    for level in range(1, 4):
        mine = np.arange(counts[level]) * counts[level - 1] // counts[level]
        parents.append(begins[level - 1] + mine)
    parent = np.concatenate(parents)
    machinery = fleet(machines, np.arange(begins[3], begins[4]), seed)
    nominal_w = machinery.power_w[np.arange(machines), machinery.nominal]
    ids = [f"n{i}" for i in range(len(parent))]
    bare = tree_of(ids, parent, np.full(len(parent), np.inf))
    cap_w = load_at(bare, machinery.devices.feed, nominal_w) * rng.uniform(0.88, 1.12, len(parent))
    cap_w[0] = nominal_w.sum() * cap_share
    return tree_of(ids, parent, cap_w), machinery
