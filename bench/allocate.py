"""The allocator on a synthetic site, beside HiGHS on the same arrays in the same process.

The site and its machines are those of `bench/power_site.py`: simulated, with ladders as devices reported
them. Allocation is prices and caps in, one whole mode for each machine out, checked against every cap;
the arrays are made before, as they are once for each change of a ladder. HiGHS solves the relaxation with
mixed modes, whose value is the bound; its model is made before, too. Neither uses a second core.
Gap is what whole modes earn less than that bound. Policies are in `bench/power_policies.py`; a row's value is
hash lost of what the nameplates say, a peer's that of switching off the worst J/TH first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import numpy as np

from bench.figures import Figure, median
from bench.oracle import model, solved
from bench.power_policies import outcomes, profits
from bench.power_site import Fleet, site
from control_plane.core.allocation import Allocation, allocate
from control_plane.core.allocation_input import Tree
from control_plane.core.ladder import Economics
from control_plane.core.shed_curve import ShedCurves, timings_of, value_curve

PRICES = Economics(hashprice_usd_per_ph_day=45.0, energy_usd_per_mwh=55.0)
_MACHINES, _FLEET = 14_000, 300_000
_CAPS = (1.0, 0.9, 0.75, 0.5, 0.25)
_SEEDS = 5
_PROFITS = ((45.0, 50.0), (45.0, 70.0), (45.0, 90.0), (39.5, 50.0), (39.5, 70.0), (39.5, 90.0))


def measure() -> Sequence[Figure]:
    """All figures."""
    return [
        *_one_site(),
        *_all_caps(),
        _churn(),
        _whole_fleet(),
        *_curves(),
        *_policies(),
        *_profits(),
    ]


def _timed(tree: Tree, fleet: Fleet, times: int = 7) -> tuple[float, Allocation]:
    """Median seconds of CPU, and the answer."""
    took = []
    for _ in range(times):
        began = time.process_time()
        allocate(tree, fleet.devices, PRICES)
        took.append(time.process_time() - began)
    return median(took), allocate(tree, fleet.devices, PRICES)


def _above(tree: Tree, found: Allocation) -> int:
    return int(np.count_nonzero(found.load_w > tree.cap_w))


def _one_site() -> list[Figure]:
    tree, fleet = site(_MACHINES, cap_share=0.75)
    took_s, found = _timed(tree, fleet)
    problem = model(tree, fleet.devices, PRICES)
    began = time.process_time()
    answer = solved(problem, "simplex")
    oracle_s = time.process_time() - began
    assert answer is not None, "HiGHS finds nothing on a site that is feasible"
    oracle = fleet.devices.standing_value(PRICES) + answer[0]
    name = f"{_MACHINES:,} machines × 8 modes, {len(tree.ids)} nodes, site at 75 %"
    apart = abs(found.bound_usd_per_hour - oracle) / oracle * 100
    return [
        Figure(
            name=f"{name}: allocation",
            value=took_s * 1e3,
            unit="ms CPU",
            target=100.0,
            peer="HiGHS, simplex, mixed modes",
            peer_value=oracle_s * 1e3,
            note=f"{len(fleet.devices.width_w):,} hull steps, median of 7",
        ),
        Figure(
            name="its mixed modes against HiGHS's optimum",
            value=apart,
            unit="% apart",
            target=1e-4,
            note=f"{found.bound_usd_per_hour:,.6f} and {oracle:,.6f} USD/h",
        ),
    ]


def _all_caps() -> list[Figure]:
    gaps, above = [], 0
    for share in _CAPS:
        for seed in range(1, _SEEDS + 1):
            tree, fleet = site(_MACHINES, cap_share=share, seed=seed)
            found = allocate(tree, fleet.devices, PRICES)
            gaps.append(found.gap * 100)
            above += _above(tree, found)
    name = f"{_SEEDS} sites × caps of {', '.join(f'{share:.0%}' for share in _CAPS)}"
    return [
        Figure(
            name=f"{name}: worst gap to the bound",
            value=max(gaps),
            unit="%",
            target=0.05,
            note=f"mean {sum(gaps) / len(gaps):.4f} %",
        ),
        Figure(name="nodes above their cap in all of them", value=above, unit="nodes", target=0.0),
    ]


def _churn() -> Figure:
    """The price wavers by 2 USD/MWh: who changes mode, and changes back."""
    tree, fleet = site(_MACHINES, cap_share=1.0)
    running = allocate(tree, fleet.devices, PRICES).steps
    devices = msgspec.structs.replace(fleet.devices, current=running)
    dearer = msgspec.structs.replace(PRICES, energy_usd_per_mwh=PRICES.energy_usd_per_mwh + 2)
    changed = [
        int(np.count_nonzero(allocate(tree, devices, dearer, keep_usd_per_mwh=k).steps != running))
        for k in (4.0, 0.0)
    ]
    return Figure(
        name="machines that change mode as energy goes up by 2 USD/MWh, dead-band of 4",
        value=changed[0],
        unit="machines",
        peer="without dead-band",
        peer_value=changed[1],
        note="site at 100 %",
    )


def _whole_fleet() -> Figure:
    tree, fleet = site(_FLEET, cap_share=0.75, scale=20)
    took_s, found = _timed(tree, fleet, times=3)
    return Figure(
        name=f"{_FLEET:,} machines, {len(tree.ids):,} nodes: allocation",
        value=took_s,
        unit="s CPU",
        target=8.0,
        note=f"gap {found.gap * 100:.4f} %, {_above(tree, found)} nodes above their cap",
    )


def _curves() -> list[Figure]:
    tree, fleet = site(_MACHINES, cap_share=0.75)
    found = allocate(tree, fleet.devices, PRICES)
    began = time.process_time()
    value_curve(tree, fleet.devices, PRICES, 0)
    value_s = time.process_time() - began
    families = [
        ("luxos", "vnish", "whatsminer_v2", "antminer_stock")[n % 4] for n in range(_MACHINES)
    ]
    sleep_s, mode_s = timings_of(families)
    curves = ShedCurves(tree, fleet.devices, PRICES, found.steps, sleep_s=sleep_s, mode_s=mode_s)
    began = time.process_time()
    within = {within_s: curves.at(0, within_s) for within_s in (10.0, 60.0, 600.0)}
    curves_s = (time.process_time() - began) / len(within)
    began = time.process_time()
    shed = within[60.0].shed(10e6)
    shed_s = time.process_time() - began
    most = ", ".join(f"{c.most_w / 1e6:.1f} MW in {s:g} s" for s, c in within.items())
    return [
        Figure(name="value against MW, all targets at once", value=value_s * 1e3, unit="ms CPU"),
        Figure(
            name="a shed curve of the whole site",
            value=curves_s * 1e3,
            unit="ms CPU",
            note=f"a quarter of machines each of four firmwares, as assumed: {most}",
        ),
        Figure(
            name="10 MW within 60 s from it: who is told what",
            value=shed_s * 1e3,
            unit="ms CPU",
            note=f"{shed.watts / 1e6:.4f} MW of {len(shed.steps):,} machines",
        ),
    ]


def _policies() -> list[Figure]:
    figures = []
    _, fleet = site(_MACHINES, cap_share=1.0)
    for share in (0.9, 0.75, 0.5, 0.25):
        found = outcomes(fleet, share)
        lost = {name: (1 - outcome.kept) * 100 for name, outcome in found.items()}
        kept = "; ".join(
            f"{name} {o.kept * 100:.1f} % at {o.j_per_th:.1f} J/TH"
            + (f" with {o.power * 100:.0f} % power" if o.power < share - 0.01 else "")
            for name, o in found.items()
        )
        figures.append(
            Figure(
                name=f"hash lost at {share:.0%} site power (simulation)",
                value=lost["allocator"],
                unit="%",
                peer="worst J/TH first",
                peer_value=lost["worst J/TH first"],
                note=f"kept: {kept}",
            )
        )
    return figures


def _profits() -> list[Figure]:
    figures = []
    _, fleet = site(_MACHINES, cap_share=1.0)
    for hashprice, energy in _PROFITS:
        economics = Economics(hashprice_usd_per_ph_day=hashprice, energy_usd_per_mwh=energy)
        found = profits(fleet, economics)
        more = {name: (usd / found["on or off"] - 1) * 100 for name, usd in found.items()}
        figures.append(
            Figure(
                name=f"profit over on or off, {hashprice:g} USD/PH/d, {energy:g} USD/MWh (simulation)",
                value=more["allocator"],
                unit="% more",
                note=f"{found['on or off']:,.0f} USD/h on or off, {found['allocator']:,.0f} by modes, "
                f"{found['overclocked']:,.0f} with modes above nameplate (wear unpriced)",
            )
        )
    return figures
