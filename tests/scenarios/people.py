"""What people decide, and what happens to the processes that act for them."""

from __future__ import annotations

from collections.abc import Callable

from control_plane.core.change import StopMining
from control_plane.core.decision import Why
from control_plane.core.observation import Settings
from control_plane.core.overlay import OverlayKind
from control_plane.simulator.faults import Fault, FaultKind
from control_plane.simulator.ledger import Write
from control_plane.simulator.site import Target
from tests.scenarios.declared import Revision, foreign_revision, is_foreign, next_revision
from tests.scenarios.process import EngineProcess
from tests.scenarios.script import SAFETY_S, Script, hit
from tests.scenarios.stage import Stage

HEARD_S = 1.0
"""Wire seconds within which an engine has heard of a revision."""


def _crash(script: Script) -> None:
    rng, left = script.rng, script.rng.randint(1, 3)
    points = [(rng.randrange(1, 250), rng.random() < 0.5) for _ in range(left)]

    def configure(process: EngineProcess) -> None:
        if points:
            process.kill_at = points.pop()

    script.at("crashes", lambda stage: setattr(stage, "configure", configure), at_s=-1.0)
    for _ in range(rng.randint(0, 2)):
        script.at("kill", lambda stage: stage.process.kill() if stage.process else None)


def _take_over_now(stage: Stage) -> None:
    stage.start()


def _take_over(script: Script) -> None:
    for _ in range(script.rng.randint(1, 2)):
        script.at("a second engine takes over", _take_over_now)


def _disk_full(script: Script) -> None:
    began = script.at("the disk is full", lambda stage: setattr(stage, "disk_full", True))
    script.at(
        "the disk has room",
        lambda stage: setattr(stage, "disk_full", False),
        at_s=began + script.rng.uniform(0.5, 10.0),
    )


def _revision(script: Script) -> None:
    def change(stage: Stage) -> None:
        stage.accept(next_revision(stage.revision, script.rng))

    script.at("a revision", change, at_s=script.rng.uniform(0.2, 0.9) * SAFETY_S)


def _rollback(script: Script) -> None:
    """A revision, and after a while the one before it again."""
    before: list[Revision] = []

    def change(stage: Stage) -> None:
        before.append(stage.revision)
        stage.accept(next_revision(stage.revision, script.rng))

    def go_back(stage: Stage) -> None:
        if not is_foreign(before[0]):  # That one would stay, and machines of Beta's with it.
            stage.accept(before[0])

    began = script.at("a revision that is regretted", change, at_s=script.rng.uniform(5.0, 70.0))
    script.at(
        "the one before it again",
        go_back,
        at_s=began + script.rng.uniform(1.0, 49.0),
    )


def _foreign_revision(script: Script) -> None:
    """Pools of another owner slip past every check of the declaration."""
    before: list[Revision] = []

    def slip(stage: Stage) -> None:
        before.append(stage.revision)
        stage.accept(foreign_revision(stage.revision))

    began = script.at("foreign pools are declared", slip, at_s=script.rng.uniform(5.0, 90.0))
    script.at(
        "somebody notices",
        lambda stage: stage.accept(before[0]),
        at_s=began + script.rng.uniform(10.0, 59.0),
    )


def _killer(script: Script) -> None:
    """A revision that no machine survives."""

    def change(stage: Stage) -> None:
        stage.accept(next_revision(stage.revision, script.rng))
        stage.after_write.append(lambda write: die(stage, write))

    killed: set[tuple[str, str]] = set()
    at_risk: dict[str, int] = {}
    """By revision: how many the wave may reach that the first loss is in; its gate stops the rest."""

    def die(stage: Stage, write: Write) -> None:
        sent = stage.oracle.sent.get(write.asset)
        if sent is None or write.asset not in stage.oracle.latches.subjects:
            return
        if sent.operation.why != Why.ROLLOUT or isinstance(sent.operation.change, StopMining):
            return
        slot = stage.engine.slots.get(write.asset) if stage.engine else None
        heard = sent.at_s > stage.accepted_s + HEARD_S
        if slot is None or not slot.assigned or not heard or not stage.changes(write.asset):
            return  # It still gets what a revision before declared, which harms nobody.
        revision = stage.revision.digest
        killed.add((revision, write.asset))
        stage.trace(f"{write.asset} does not survive that")
        hit(stage, Fault(kind=FaultKind.DIE, target=Target(asset=write.asset)))
        lost = [asset for digest, asset in killed if digest == revision]
        allowed = at_risk.setdefault(revision, stage.reach() or len(stage.sim.stations))
        if len(lost) > allowed:
            stage.oracle.violate("gate", f"{sorted(lost)} were lost before a gate stopped it")

    script.at("a revision that kills", change, at_s=script.rng.uniform(0.0, 20.0))


def _hold(script: Script) -> None:
    for _ in range(script.rng.randint(1, 3)):
        _overlay(
            script,
            script.rng.choice([OverlayKind.SAFETY_HOLD, OverlayKind.MAINTENANCE_HOLD]),
            script.node(),
        )


def _freeze(script: Script) -> None:
    _overlay(script, OverlayKind.FREEZE, script.node())


def _curtail(script: Script) -> None:
    _overlay(script, OverlayKind.CURTAILMENT, script.node(), Settings(mining=False))


def _overlay(script: Script, kind: OverlayKind, node: str, fields: Settings | None = None) -> None:
    lasts_s = script.rng.uniform(3.0, 60.0)

    def put(stage: Stage) -> None:
        overlay = stage.set_overlay(kind, node, fields)
        stage.faults.append(stage.loop.call_later(lasts_s, stage.drop_overlay, overlay))

    script.at(f"{kind} on {node}", put)


def _hold_in_time(script: Script) -> None:
    """Somebody sets a hold in the very moment before a write asks the gate."""
    left, chance = script.rng.randint(1, 4), script.rng.uniform(0.1, 0.6)
    kind = script.rng.choice([OverlayKind.SAFETY_HOLD, OverlayKind.FREEZE])

    def install(stage: Stage) -> None:
        def before(intents: object) -> None:
            nonlocal left
            for intent in intents:  # type: ignore[attr-defined]
                if left > 0 and script.rng.random() < chance:
                    if isinstance(intent.step.change, StopMining):
                        continue
                    left -= 1
                    overlay = stage.set_overlay(kind, script.rng.choice(sorted(intent.slot.nodes)))
                    stage.faults.append(stage.loop.call_later(9.0, stage.drop_overlay, overlay))

        stage.before_intents.append(before)

    script.at(f"{kind} in the last moment", install, at_s=script.rng.uniform(0.0, 60.0))


def _hold_in_flight(script: Script) -> None:
    """Somebody sets a hold while a write that has passed the gate is still being prepared."""
    left, chance = script.rng.randint(1, 4), script.rng.uniform(0.1, 0.6)

    def install(stage: Stage) -> None:
        def about_to(asset: str) -> None:
            nonlocal left
            if left > 0 and script.rng.random() < chance:
                left -= 1
                overlay = stage.set_overlay(OverlayKind.SAFETY_HOLD, asset)
                stage.faults.append(stage.loop.call_later(9.0, stage.drop_overlay, overlay))

        stage.before_sends.append(about_to)

    script.at("holds in flight", install, at_s=script.rng.uniform(0.0, 60.0))


PEOPLE: dict[str, Callable[[Script], None]] = {
    "crash": _crash,
    "take_over": _take_over,
    "disk_full": _disk_full,
    "revision": _revision,
    "rollback": _rollback,
    "foreign_revision": _foreign_revision,
    "killer": _killer,
    "hold": _hold,
    "freeze": _freeze,
    "curtail": _curtail,
    "hold_in_time": _hold_in_time,
    "hold_in_flight": _hold_in_flight,
}
