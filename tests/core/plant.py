"""A site for a guard to keep: machines that ramp, obey late or never, and meters, some of them missing."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from control_plane.core.guard import Guard
from control_plane.core.guard_bundle import Bundle, GuardDevice, GuardNode, Rung, paths_of
from control_plane.core.guard_state import Decision, Reading


@dataclass
class Unit:
    """One machine as it is, not as it is counted."""

    draws_w: float
    goal_w: float
    """Where its settings let it ramp."""
    bias: float
    obeys: bool
    obeys_at_s: float | None = None
    told: Rung | None = None
    lowest_told_w: float = float("inf")


@dataclass
class Plant:
    """Runs in steps of `dt_s`; the guard sees it through meters alone."""

    bundle: Bundle
    units: dict[str, Unit]
    rng: random.Random
    unmanaged_w: dict[str, float]
    dt_s: float = 2.0
    now_s: float = 1000.0
    heat: dict[str, float] = field(default_factory=dict)
    worst: dict[str, float] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    raised: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.paths = paths_of(self.bundle.nodes)

    def loads(self) -> dict[str, float]:
        sums = dict.fromkeys((n.id for n in self.bundle.nodes), 0.0)
        for device in self.bundle.devices:
            for node in self.paths[device.feed]:
                sums[node] += self.units[device.asset].draws_w
        for name, watts in self.unmanaged_w.items():
            for node in self.paths[name]:
                sums[node] += watts
        return sums

    def step(self, guard: Guard) -> Decision:
        loads = self.loads()
        for node in self.bundle.nodes:
            if node.meter is not None and node.id not in self.silent:
                noisy = loads[node.id] * self.rng.gauss(1.0, 0.002)
                guard.read(node.id, Reading(power_w=noisy, at_s=self.now_s))
        decision = guard.look(self.now_s)
        for order in decision.orders:
            unit = self.units[order.asset]
            if order.rung.power_w > unit.lowest_told_w:
                self.raised.append(order.asset)
            unit.lowest_told_w = order.rung.power_w
            unit.told = order.rung
            if unit.obeys:
                unit.obeys_at_s = self.now_s + self.rng.uniform(0.1, 0.9) * order.rung.shows_in_s
        self.now_s += self.dt_s
        for asset, unit in self.units.items():
            if unit.obeys_at_s is not None and self.now_s >= unit.obeys_at_s and unit.told:
                unit.goal_w = min(unit.goal_w, unit.told.power_w * (1 + unit.bias))
                unit.draws_w = min(unit.draws_w, unit.goal_w)
                unit.obeys_at_s = None
                guard.done(asset, unit.told.power_w)
            ramp_w = 3500.0 / 40 * self.dt_s
            unit.draws_w += max(0.0, min(ramp_w, unit.goal_w - unit.draws_w))
        after = self.loads()
        for node in self.bundle.nodes:
            ratio = after[node.id] / node.rating_w
            heat = node.curve.add(self.heat.get(node.id, 0.0), ratio, self.dt_s)
            self.heat[node.id] = heat
            self.worst[node.id] = max(self.worst.get(node.id, 0.0), heat)
        return decision

    def floor_w(self) -> dict[str, float]:
        """What each node carries when all that obeys is as low as it goes."""
        sums = dict.fromkeys((n.id for n in self.bundle.nodes), 0.0)
        for device in self.bundle.devices:
            unit = self.units[device.asset]
            low_w = device.permitted_w
            if unit.obeys and device.rungs and device.locked_until_s == 0:
                low_w = device.rungs[-1].power_w
            for node in self.paths[device.feed]:
                sums[node] += low_w * (1 + unit.bias)
        for name, watts in self.unmanaged_w.items():
            for node in self.paths[name]:
                sums[node] += watts
        return sums


def device(
    asset: str, feed: str, permitted_w: float = 3500.0, *, shows_in_s: float = 20.0
) -> GuardDevice:
    rungs = (
        Rung(mode="low", power_w=2400.0, shows_in_s=shows_in_s),
        Rung(power_w=40.0, shows_in_s=shows_in_s),
    )
    return GuardDevice(asset=asset, feed=feed, permitted_w=permitted_w, rungs=rungs)


def node(
    name: str,
    parent: str | None,
    cap_w: float,
    rating_w: float | None = None,
    *,
    meter: bool = True,
) -> GuardNode:
    return GuardNode(
        id=name, parent=parent, cap_w=cap_w, rating_w=rating_w or cap_w / 0.9,
        meter=f"m-{name}" if meter else None, bias=0.0 if meter else 0.03,
    )  # fmt: skip


def bundle(nodes: list[GuardNode], devices: list[GuardDevice], *, made_at_s: float = 0.0) -> Bundle:
    order = [(i, 0) for i, d in enumerate(devices) if d.rungs]
    order += [(i, 1) for i, d in enumerate(devices) if len(d.rungs) > 1]
    return Bundle(
        site="t", revision="r", made_at_s=made_at_s, nodes=tuple(nodes), devices=tuple(devices),
        order=tuple(order),
    )  # fmt: skip


def a_site(seed: int, *, missing: float, deaf: float) -> Plant:
    """One with too much permitted almost everywhere: 2 transformers, 6 containers, 18 PDUs, 216 machines."""
    rng = random.Random(seed)
    nodes, devices = [node("grid", None, 216 * 2900.0)], []
    for t in range(2):
        nodes.append(node(f"t{t}", "grid", 108 * rng.uniform(2700, 3300)))
        for c in range(3):
            box = f"t{t}c{c}"
            nodes.append(node(box, f"t{t}", 36 * rng.uniform(2600, 3600)))
            for p in range(3):
                pdu = f"{box}p{p}"
                cap_w = 12 * rng.uniform(2600, 3900)
                nodes.append(node(pdu, box, cap_w, meter=rng.random() < 0.5))
                shows_in_s = rng.choice([5.0, 20.0, 60.0])
                devices += [device(f"{pdu}d{i}", pdu, shows_in_s=shows_in_s) for i in range(12)]
    keep = {n.id for n in nodes if n.meter and rng.random() >= missing}
    nodes = [
        n if n.id in keep else node(n.id, n.parent, n.cap_w, n.rating_w, meter=False) for n in nodes
    ]
    made = bundle(nodes, devices)
    units = {}
    for d in devices:
        bias = rng.gauss(0.01, 0.02)
        units[d.asset] = Unit(
            draws_w=rng.uniform(0, 3500.0), goal_w=d.permitted_w * (1 + bias), bias=bias,
            obeys=rng.random() >= deaf,
        )  # fmt: skip
    return Plant(bundle=made, units=units, rng=rng, unmanaged_w={})
