"""The lab: from `up` to ready in both forms with everything built, and what it holds in memory then.

Nobody stands beside it: tools that bring up a cluster on one machine want a container engine and prebuilt
images, which the machines that these figures come from do not have.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from bench.figures import ROOT, Figure, run_python
from control_plane.cli.workplace import load_declared
from control_plane.lab import probe
from control_plane.lab.api import ApiLab
from control_plane.lab.cluster import ClusterLab, seed_of
from control_plane.lab.labs import Lab

_SETTLE_S = 10.0
_INVENTORY = ROOT / "inventory"
_MIB = 1024**2


def measure() -> list[Figure]:
    """Wall seconds, resident MiB, and the size of what `render` prints."""
    with tempfile.TemporaryDirectory(prefix="gridplane-bench-") as made:
        figures = [*_api(Path(made) / "api"), *_render()]
        lacking = probe.missing()
        if lacking:
            sys.stderr.write(f"lab: no cluster, {'; '.join(lacking)}\n")
            return figures
        return figures + _cluster(Path(made) / "cluster")


def _api(folder: Path) -> list[Figure]:
    lab = ApiLab(folder)
    try:
        began = time.perf_counter()
        lab.up()
        ready_s = time.perf_counter() - began
        return [
            Figure(name="lab up, api, to ready", value=ready_s, unit="s", target=10.0),
            Figure(name="memory of the same", value=_held_mib(lab), unit="MiB", target=600.0),
        ]
    finally:
        lab.down()


def _cluster(folder: Path) -> list[Figure]:
    site = load_declared(_INVENTORY, "lab").site
    seed_of(ROOT)
    lab = ClusterLab(folder)
    try:
        began = time.perf_counter()
        lab.up(site, _INVENTORY, checkout=ROOT)
        ready_s = time.perf_counter() - began
        held_mib = _held_mib(lab)
        began = time.perf_counter()
        lab.up(site, _INVENTORY, checkout=ROOT)
        again_s = time.perf_counter() - began
    finally:
        began = time.perf_counter()
        lab.down()
    return [
        Figure(
            name="lab up, cluster of a server and two agents, to ready",
            value=ready_s,
            unit="s",
            target=90.0,
            note=f"a second up {again_s:.1f} s, down {time.perf_counter() - began:.1f} s",
        ),
        Figure(name="memory of the same", value=held_mib, unit="MiB", note="simulator included"),
    ]


def _held_mib(lab: Lab) -> float:
    time.sleep(_SETTLE_S)
    return sum(process.rss_bytes for process in lab.running().values()) / _MIB


def _render() -> list[Figure]:
    used = run_python(["-m", "control_plane.cli", "render", "ga-macon"])
    return [
        Figure(name="render ga-macon", value=used.wall_s, unit="s", target=1.0),
        Figure(
            name="what it prints", value=len(used.stdout.encode()) / 1024, unit="KiB", target=900.0
        ),
    ]
