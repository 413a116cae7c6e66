"""What the demo claims at its end, computed from what the simulated machines really are and received."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from control_plane.cli.workplace import Workplace
from control_plane.core.decision import Reason
from control_plane.core.fleet import Site
from control_plane.core.plan import Plan
from control_plane.engine.loop import Engine
from control_plane.simulator.control import ControlClient


class Stage(NamedTuple):
    """When the attack was, and whom it hit."""

    since_device_s: float
    wire_s: float
    """`time.monotonic()` of it."""
    held: tuple[str, ...]
    hijacked: tuple[str, ...]
    lowered: tuple[str, ...]
    rebooted: tuple[str, ...]

    def is_known_to(self, engine: Engine) -> bool:
        """Whether the engine has seen everything that was done, by its own looks alone."""
        slots = engine.slots

        def reasons(asset: str) -> set[Reason]:
            decision = slots[asset].decision if asset in slots else None
            return {held.reason for held in decision.held} if decision else set()

        managed = [a for a in (*self.held, *self.hijacked, *self.lowered) if a in slots]
        seen = [a for a in managed if slots[a].unseen is None and slots[a].seen is not None]
        return (
            all(Reason.HOLD in reasons(a) for a in self.held if a in seen)
            and all(Reason.MANUAL_OVERRIDE in reasons(a) for a in self.lowered if a in seen)
            and all(_is_repaired(engine, a) for a in self.hijacked if a in seen)
            and all(slots[a].unseen is None for a in self.rebooted if a in slots)
        )


def _is_repaired(engine: Engine, asset: str) -> bool:
    slot = engine.slots[asset]
    pools = slot.seen.settings.pools if slot.seen else None
    return asset in engine.reconciler.operations.written and pools == slot.device.desired().pools


class Proof(NamedTuple):
    """One claim, whether it held, and by which figure."""

    claim: str
    held: bool
    figure: str


_MAY_RAISE = frozenset({"start_mining", "set_power_mode", "set_power_limit"})


def _reasons_to_raise(place: Workplace) -> Mapping[str, set[str]]:
    """Asset → why the engine meant to write what may raise its power, by the audit."""
    reasons: dict[str, set[str]] = {}
    for record in place.audit.records():
        if record["kind"] == "intent" and record["change"]["type"] in _MAY_RAISE:
            reasons.setdefault(record["asset"], set()).add(record["why"])
    return reasons


def prove(
    stage: Stage, site: Site, place: Workplace, control: ControlClient, after: Plan
) -> list[Proof]:
    """Every claim of the demo. None of them is taken from what the engine believes."""
    machines: dict[str, Mapping[str, Any]] = {
        m["asset"]: m for m in control.request({"do": "truth"})["machines"]
    }
    everything = control.request({"do": "ledger"})["writes"]
    since = [w for w in everything if w["at_device_s"] >= stage.since_device_s]
    devices = {d.asset: d for d in site.devices}
    held = set(stage.held)

    def owned(asset: str) -> bool:
        own = {pool.url for pool in devices[asset].intent.pools}
        return all(url in own for url, _ in machines[asset]["pools"])

    managed = [a for a in machines if devices[a].is_managed]
    identities = {h.asset for h in after.held if h.reason is Reason.WRONG_IDENTITY}
    foreign = [a for a in managed if not owned(a) and a not in identities]
    strangers = [
        w for w in everything
        if w["pools"] and not set(w["pools"]) <= {p.url for p in devices[w["asset"]].intent.pools}
    ]  # fmt: skip
    meant = _reasons_to_raise(place)
    raised = [w for w in everything if w["direction"] == "raise"]
    unmeant = [w for w in raised if meant.get(w["asset"], set()) != {"rollout"}]
    lowered = [a for a in stage.lowered if devices[a].is_managed]
    overridden = {h.asset for h in after.held if h.reason is Reason.MANUAL_OVERRIDE}
    hijacked = [a for a in stage.hijacked if devices[a].is_managed]
    repaired = [a for a in hijacked if owned(a)]
    touched = Counter(w["asset"] for w in since)
    back = [a for a in stage.rebooted if machines[a]["hashrate_ths"] > 0 and not touched[a]]
    rebooted = [a for a in stage.rebooted if devices[a].is_managed]
    drawn_mw = sum(m["drawn_w"] for m in machines.values()) / 1e6
    tightest = min(after.headroom, key=lambda node: node.usable_w - node.after_w)
    left_w = tightest.usable_w - tightest.after_w
    records, broken = place.audit.verify()
    return [
        Proof(
            "the hijacked rack works for its owner again",
            repaired == hijacked,
            f"{len(repaired)} of {len(hijacked)} machines",
        ),
        Proof(
            "no write reached the held rack",
            not any(w["asset"] in held for w in since),
            f"{sum(w['asset'] in held for w in since)} writes to {len(held)} machines",
        ),
        Proof(
            "nobody works for a stranger, but under the hold",
            set(foreign) <= held,
            f"{len(set(foreign) - held)} of {len(managed):,}; {len(set(foreign) & held)} under it",
        ),
        Proof(
            "what the technician lowered stays lowered, and is shown",
            set(lowered) <= overridden and not any(touched[a] for a in lowered),
            f"{len(set(lowered) & overridden)} of {len(lowered)} overrides",
        ),
        Proof(
            "no repair raised power: every raise is the rollout's",
            not unmeant,
            f"{len(unmeant)} of {len(raised)} raising writes",
        ),
        Proof(
            "machines that rebooted hash again without a write",
            {a for a in rebooted if a in back} == set(rebooted),
            f"{len(back)} of {len(rebooted)}",
        ),
        Proof(
            "no pool was written that is not its owner's",
            not strangers,
            f"{len(strangers)} of {len(everything):,} writes",
        ),
        Proof(
            "no write reached a machine that is not the recorded one",
            not any(w["asset"] in identities for w in everything),
            f"{sum(w['asset'] in identities for w in everything)} to {len(identities)} such machines",
        ),
        Proof(
            "no feed is over its cap by nameplate",
            left_w >= 0,
            f"{tightest.node} has {left_w / 1e3:,.2f} kW left; {drawn_mw:.2f} MW are drawn",
        ),
        Proof(
            "the audit's chain is whole",
            broken is None and records > 0,
            f"{records:,} records",
        ),
        Proof(
            "zero actionable steps are left",
            after.actionable == 0,
            f"{after.actionable} steps, {after.effect.exceptions:,} known exceptions",
        ),
    ]
