"""What a site keeps with less power, by policy. Simulated machines, no cap below the site's binds.

Each policy chooses one mode for each machine, within a share of what all draw by nameplate:
machines off at random; off by J/TH, worst first; every machine at one share of its nameplate watts; and
the allocator, for hash alone.
"""

from __future__ import annotations

import msgspec
import numpy as np

from bench.power_site import Fleet, up_to_nominal
from control_plane.core.allocation import allocate
from control_plane.core.allocation_input import Devices, Floats, Ints, tree_of
from control_plane.core.ladder import Economics

HASH_ALONE = Economics(hashprice_usd_per_ph_day=45.0, energy_usd_per_mwh=0.0)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy makes of a site."""

    kept: float
    """Of the hash by nameplate."""
    power: float
    """Of the watts by nameplate."""
    j_per_th: float


def outcomes(fleet: Fleet, share: float, *, seed: int = 1) -> dict[str, Outcome]:
    """Policy → what it keeps at a share of nameplate watts."""
    rows = np.arange(len(fleet.nominal))
    on_w = fleet.power_w[rows, fleet.nominal]
    limit_w = float(on_w.sum()) * share
    j_per_th = on_w / fleet.hashrate_ths[rows, fleet.nominal]
    rng = np.random.default_rng(seed)
    modes = {
        "random off": _off(fleet, rng.permutation(len(rows)), limit_w),
        "worst J/TH first": _off(fleet, np.argsort(j_per_th, kind="stable"), limit_w),
        "uniform": _uniform(fleet, limit_w),
    }
    found = {
        name: _outcome(fleet, fleet.power_w[rows, mode], fleet.hashrate_ths[rows, mode])
        for name, mode in modes.items()
    }
    for name, devices in (("allocator", up_to_nominal(fleet)), ("overclocked", fleet.devices)):
        steps = _allocated(devices, limit_w, HASH_ALONE)
        found[name] = _outcome(fleet, devices.watts(steps), devices.hashrate(steps))
    return found


def _outcome(fleet: Fleet, watts: Floats, ths: Floats) -> Outcome:
    rows = np.arange(len(fleet.nominal))
    return Outcome(
        kept=float(ths.sum() / fleet.hashrate_ths[rows, fleet.nominal].sum()),
        power=float(watts.sum() / fleet.power_w[rows, fleet.nominal].sum()),
        j_per_th=float(watts.sum() / ths.sum()),
    )


def _off(fleet: Fleet, best_first: Ints, limit_w: float) -> Ints:
    """At nameplate as many as fit, in that order; all others asleep."""
    rows = np.arange(len(best_first))
    asleep_w = fleet.power_w[:, 0]
    extra = (fleet.power_w[rows, fleet.nominal] - asleep_w)[best_first]
    runs = np.zeros(len(rows), dtype=np.int64)
    fits = np.cumsum(extra) + asleep_w.sum() <= limit_w
    runs[best_first[fits]] = fleet.nominal[best_first[fits]]
    return runs


def _uniform(fleet: Fleet, limit_w: float) -> Ints:
    """The highest mode of each within one share of its nameplate watts, the largest that fits."""
    rows = np.arange(len(fleet.nominal))
    ratio = fleet.power_w / fleet.power_w[rows, fleet.nominal][:, None]
    modes = np.arange(ratio.shape[1])
    low, high = 0.0, 1.0
    for _ in range(40):
        share = (low + high) / 2
        mode = np.where(ratio <= share + 1e-9, modes, 0).max(axis=1)
        mode = np.minimum(mode, fleet.nominal)
        low, high = (share, high) if fleet.power_w[rows, mode].sum() <= limit_w else (low, share)
    chosen: Ints = np.minimum(np.where(ratio <= low + 1e-9, modes, 0).max(axis=1), fleet.nominal)
    return chosen


def _allocated(devices: Devices, limit_w: float, economics: Economics) -> Ints:
    one = tree_of(["site"], [-1], [limit_w])
    whole = msgspec.structs.replace(devices, feed=np.zeros(len(devices.feed), dtype=np.int64))
    return allocate(one, whole, economics).steps


def profits(fleet: Fleet, economics: Economics) -> dict[str, float]:
    """USD/h with power enough for all: each machine on or off by its own average, or by its modes."""
    rows = np.arange(len(fleet.nominal))

    def value(mode: Ints) -> Floats:
        earned = fleet.hashrate_ths[rows, mode] * economics.usd_per_ths_hour
        worth: Floats = earned - fleet.power_w[rows, mode] * economics.usd_per_w_hour
        return worth

    asleep = value(np.zeros(len(rows), dtype=np.int64))
    found = {"on or off": float(np.maximum(asleep, value(fleet.nominal)).sum())}
    for name, devices in (("allocator", up_to_nominal(fleet)), ("overclocked", fleet.devices)):
        one = tree_of(["site"], [-1], [np.inf])
        whole = msgspec.structs.replace(devices, feed=np.zeros(len(devices.feed), dtype=np.int64))
        found[name] = allocate(one, whole, economics).usd_per_hour
    return found
