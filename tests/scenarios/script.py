"""What a seed makes happen: each class of fault is on with p = 0.5, at moments that the seed draws."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import msgspec

from control_plane.core.change import StopMining
from control_plane.core.decide import Why
from control_plane.core.observation import Settings
from control_plane.core.overlay import OverlayKind
from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.ledger import Write
from control_plane.simulator.network import Trouble
from control_plane.simulator.site import Target, pools_of
from tests.scenarios.declared import RACKS, Revision, foreign_revision, next_revision
from tests.scenarios.process import Process
from tests.scenarios.stage import Stage

SAFETY_S = 120.0
"""Wire seconds of the phase in which things go wrong."""
SILENCE_S = 12.0
"""A board is not swapped, and an address does not move, under a connection that is open: above any
deadline of an exchange."""

_CHANCE = {"foreign_revision": 0.1, "killer": 0.1, "rollback": 0.2}
"""A site of which every second revision kills its machines has no other troubles left to find."""

HEARD_S = 1.0
"""Wire seconds within which an engine has heard of a revision."""

Act = Callable[[Stage], Awaitable[None] | None]


class Event(msgspec.Struct, frozen=True):
    """One thing that happens."""

    at_s: float
    text: str
    act: Act


class Script:
    """All that happens in one seed."""

    def __init__(self, seed: int | str) -> None:
        self.rng = rng = random.Random(f"{seed}/script")
        self.seed = seed
        self.events: list[Event] = []
        self.scale = rng.choice([40.0, 60.0, 100.0])
        self.start = rng.choice(["stock", "stock", "converged"])
        self.classes = [name for name in CLASSES if rng.random() < _CHANCE.get(name, 0.5)]
        for name in self.classes:
            CLASSES[name](self)
        self.events.sort(key=lambda event: event.at_s)

    def at(self, text: str, act: Act, *, at_s: float | None = None) -> float:
        """Let something happen, at a moment that is drawn unless given."""
        moment = self.rng.uniform(0.0, SAFETY_S) if at_s is None else at_s
        self.events.append(Event(moment, text, act))
        return moment

    def asset(self) -> str:
        """Some machine of the site."""
        rack = self.rng.choice(RACKS)
        return f"{rack.id}-s{self.rng.randrange(1, rack.slots + 1)}"

    def node(self) -> str:
        """Something that a person may name."""
        return self.rng.choice(
            [
                self.asset(),
                self.asset(),
                self.rng.choice(RACKS).id,
                "pad-a",
                "pdu-4",
                "sw-pdu-2",
                "seed",
            ]
        )

    def fault(self, kind: FaultKind, **more: object) -> None:
        """A fault of the simulator's own menu, on one machine."""
        target = Target(asset=self.asset())
        fault = Fault(kind=kind, target=target, seed=self.rng.getrandbits(16), **more)  # type: ignore[arg-type]
        self.at(f"{kind} {target.asset}", lambda stage: hit(stage, fault))


def hit(stage: Stage, fault: Fault) -> None:
    """Inject a fault, if the machine is there."""
    if fault.target.asset is None or fault.target.asset in stage.sim.stations:
        inject(stage.sim, fault)


# --- the menu -----------------------------------------------------------------------------------------


def _loss(script: Script) -> None:
    share = script.rng.uniform(0.0, 0.3)
    script.at("loss", lambda stage: setattr(stage.noise, "loss", share))


def _mute(script: Script) -> None:
    share = script.rng.uniform(0.0, 0.2)
    script.at("mute", lambda stage: setattr(stage.noise, "mute", share))


def _write_mute(script: Script) -> None:
    """Applied, and the reply is lost."""
    share = script.rng.uniform(0.2, 1.0)
    script.at("write_mute", lambda stage: setattr(stage.noise, "write_mute", share), at_s=0.0)


def _delay(script: Script) -> None:
    share = script.rng.uniform(0.0, 0.5)
    script.at("delay", lambda stage: setattr(stage.noise, "delay", share))


def _mangle(script: Script) -> None:
    share = script.rng.uniform(0.0, 0.2)
    script.at("mangle", lambda stage: setattr(stage.noise, "mangle", share))


def _trouble(script: Script) -> None:
    for _ in range(script.rng.randint(1, 4)):
        asset, trouble = script.asset(), script.rng.choice(list(Trouble))
        fault = Fault(kind=FaultKind.TROUBLE, target=Target(asset=asset), trouble=trouble)
        began = script.at(f"{trouble} {asset}", lambda stage, fault=fault: hit(stage, fault))  # type: ignore[misc]
        script.at(
            f"{asset} is well again",
            lambda stage, asset=asset: _well(stage, asset),  # type: ignore[misc]
            at_s=began + script.rng.uniform(5.0, 60.0),
        )


def _well(stage: Stage, asset: str) -> None:
    if asset in stage.sim.stations:
        stage.sim.stations[asset].trouble = None


def _rack_lost(script: Script) -> None:
    """Swizzle: a rack goes dark one by one and comes back in another order."""
    rack = script.rng.choice(RACKS)
    assets = [f"{rack.id}-s{slot}" for slot in range(1, rack.slots + 1)]
    began = script.rng.uniform(0.0, SAFETY_S * 0.7)
    lost_s = script.rng.uniform(20.0, 60.0)
    back = script.rng.sample(assets, len(assets))
    gap = script.rng.uniform(0.0, 4.0)
    for index, asset in enumerate(assets):
        script.at(
            f"{asset} goes dark",
            lambda stage, asset=asset: stage.noise.dark.update([asset]),  # type: ignore[misc]
            at_s=began + gap * index,
        )
    for index, asset in enumerate(back):
        script.at(
            f"{asset} is back",
            lambda stage, asset=asset: stage.noise.dark.subtract([asset]),  # type: ignore[misc]
            at_s=began + lost_s + gap * index,
        )


def _reboot(script: Script) -> None:
    for _ in range(script.rng.randint(1, 4)):
        script.fault(FaultKind.REBOOT)


def _reboot_mid_command(script: Script) -> None:
    left = script.rng.randint(1, 3)

    def install(stage: Stage) -> None:
        stage.after_write.append(boot)
        script.stage = stage  # type: ignore[attr-defined]

    def boot(write: Write) -> None:
        nonlocal left
        if left > 0:
            left -= 1
            stage: Stage = script.stage  # type: ignore[attr-defined]
            stage.trace(f"{write.asset} reboots in the middle of it")
            inject(stage.sim, Fault(kind=FaultKind.REBOOT, target=Target(asset=write.asset)))

    script.at("reboot in the middle of a command", install)


def _hijack(script: Script) -> None:
    for _ in range(script.rng.randint(1, 2)):
        script.fault(FaultKind.HIJACK)


def _thief(script: Script) -> None:
    """Somebody who does not give up."""
    asset, left = script.asset(), script.rng.randint(3, 5)
    every_s = script.rng.uniform(8.0, 20.0)
    fault = Fault(kind=FaultKind.HIJACK, target=Target(asset=asset))

    def again(stage: Stage) -> None:
        nonlocal left
        if asset not in stage.sim.stations:
            return
        if not any("attacker" in url for url, _ in pools_of(stage.sim.device(asset))):
            left -= 1
            stage.trace(f"the thief is at {asset} again")
            hit(stage, fault)
        if left > 0:
            stage.faults.append(stage.loop.call_later(every_s, again, stage))

    script.at(f"thief at {asset}", again)


def _storm(script: Script) -> None:
    """All machines of an owner at once."""
    rack = script.rng.choice(["r1", "r2"])
    fault = Fault(kind=FaultKind.HIJACK, target=Target(rack=rack))
    script.at(f"storm on {rack}", lambda stage: hit(stage, fault))


def _lower(script: Script) -> None:
    for _ in range(script.rng.randint(1, 3)):
        script.fault(script.rng.choice([FaultKind.LOWER, FaultKind.STOP]))


def _raise(script: Script) -> None:
    script.fault(FaultKind.RAISE)


def _outlet(script: Script) -> None:
    """A host curtails: outlets go dark and come back."""
    for _ in range(script.rng.randint(1, 3)):
        asset = script.asset()
        off = Fault(kind=FaultKind.POWER_OFF, target=Target(asset=asset))
        on = Fault(kind=FaultKind.POWER_ON, target=Target(asset=asset))
        began = script.at(f"{asset} loses its outlet", lambda stage, off=off: hit(stage, off))  # type: ignore[misc]
        script.at(
            f"{asset} has its outlet back",
            lambda stage, on=on: hit(stage, on),  # type: ignore[misc]
            at_s=began + script.rng.uniform(5.0, 50.0),
        )


def _dead_board(script: Script) -> None:
    script.fault(FaultKind.DEAD_BOARD, slot=script.rng.randrange(3))


def _stranger(script: Script) -> None:
    """Another control board is put in, with the pools of where it came from."""
    asset = script.asset()
    pools = Fault(
        kind=FaultKind.HIJACK,
        target=Target(asset=asset),
        url="stratum+tcp://stranger.pool:3333",
        worker="stranger.1",
    )
    fault = Fault(
        kind=FaultKind.WRONG_IDENTITY, target=Target(asset=asset), seed=script.rng.getrandbits(16)
    )

    off = Fault(kind=FaultKind.POWER_OFF, target=Target(asset=asset))
    on = Fault(kind=FaultKind.POWER_ON, target=Target(asset=asset))

    def swap(stage: Stage) -> None:
        hit(stage, fault)
        hit(stage, pools)
        hit(stage, on)

    began = script.at(f"{asset} is opened", lambda stage: hit(stage, off))
    script.at(f"{asset} has a stranger's board", swap, at_s=began + SILENCE_S)


def _reshuffle(script: Script) -> None:
    """DHCP deals anew; meanwhile nobody of the subnet has an address."""
    assets = [f"r2-s{slot}" for slot in range(1, 6)]
    fault = Fault(kind=FaultKind.RESHUFFLE, seed=script.rng.getrandbits(16))

    def deal(stage: Stage) -> None:
        inject(stage.sim, fault)
        stage.noise.dark.subtract(assets)

    began = script.at("DHCP forgets its leases", lambda stage: stage.noise.dark.update(assets))
    script.at("DHCP has dealt anew", deal, at_s=began + SILENCE_S)


def _password(script: Script) -> None:
    script.fault(FaultKind.PASSWORD)


def _writes_off(script: Script) -> None:
    script.fault(FaultKind.WRITES_OFF)


def _disobey(script: Script) -> None:
    script.fault(FaultKind.DISOBEY)
    script.fault(FaultKind.DISOBEY)


def _crash(script: Script) -> None:
    rng, left = script.rng, script.rng.randint(1, 3)
    points = [(rng.randrange(1, 250), rng.random() < 0.5) for _ in range(left)]

    def configure(process: Process) -> None:
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

    began = script.at("a revision that is regretted", change, at_s=script.rng.uniform(5.0, 70.0))
    script.at(
        "the one before it again",
        lambda stage: stage.accept(before[0]),
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
        if slot is None or not slot.assigned or not heard:
            return  # It still gets what the revision before declared, which harms nobody.
        revision = stage.revision.digest
        killed.add((revision, write.asset))
        stage.trace(f"{write.asset} does not survive that")
        hit(stage, Fault(kind=FaultKind.DIE, target=Target(asset=write.asset)))
        lost = [asset for digest, asset in killed if digest == revision]
        allowed = at_risk.setdefault(revision, stage.reach() or len(stage.sim.stations))
        if len(lost) > allowed:
            stage.oracle.violate("gate", f"{sorted(lost)} were lost before a gate stopped it")

    script.at("a revision that kills", change, at_s=script.rng.uniform(0.0, 60.0))


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


CLASSES: dict[str, Callable[[Script], None]] = {
    "loss": _loss,
    "mute": _mute,
    "write_mute": _write_mute,
    "delay": _delay,
    "mangle": _mangle,
    "trouble": _trouble,
    "rack_lost": _rack_lost,
    "reboot": _reboot,
    "reboot_mid_command": _reboot_mid_command,
    "hijack": _hijack,
    "thief": _thief,
    "storm": _storm,
    "lower": _lower,
    "raise": _raise,
    "outlet": _outlet,
    "dead_board": _dead_board,
    "stranger": _stranger,
    "reshuffle": _reshuffle,
    "password": _password,
    "writes_off": _writes_off,
    "disobey": _disobey,
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
