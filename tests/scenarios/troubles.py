"""What lines, machines and strangers do to a site."""

from __future__ import annotations

from collections.abc import Callable

from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.ledger import Write
from control_plane.simulator.network import Trouble
from control_plane.simulator.site import Target, pools_of
from tests.scenarios.declared import RACKS
from tests.scenarios.scene import Scene
from tests.scenarios.script import SAFETY_S, Script, hit

SILENCE_S = 12.0
"""A board is not swapped, and an address does not move, under a connection that is open: above any
deadline of an exchange."""


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


def _well(stage: Scene, asset: str) -> None:
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

    def boot(stage: Scene, write: Write) -> None:
        nonlocal left
        if left > 0:
            left -= 1
            stage.trace(f"{write.asset} reboots in the middle of it")
            hit(stage, Fault(kind=FaultKind.REBOOT, target=Target(asset=write.asset)))

    script.at(
        "reboot in the middle of a command",
        lambda stage: stage.after_write.append(lambda write: boot(stage, write)),
    )


def _hijack(script: Script) -> None:
    for _ in range(script.rng.randint(1, 2)):
        script.fault(FaultKind.HIJACK)


def _thief(script: Script) -> None:
    """Somebody who does not give up."""
    asset, left = script.asset(), script.rng.randint(3, 5)
    every_s = script.rng.uniform(8.0, 20.0)
    fault = Fault(kind=FaultKind.HIJACK, target=Target(asset=asset))

    def again(stage: Scene) -> None:
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

    def swap(stage: Scene) -> None:
        hit(stage, fault)
        hit(stage, pools)
        hit(stage, on)

    began = script.at(f"{asset} is opened", lambda stage: hit(stage, off))
    script.at(f"{asset} has a stranger's board", swap, at_s=began + SILENCE_S)


def _reshuffle(script: Script) -> None:
    """DHCP deals anew; meanwhile nobody of the subnet has an address."""
    assets = [f"r2-s{slot}" for slot in range(1, 6)]
    fault = Fault(kind=FaultKind.RESHUFFLE, seed=script.rng.getrandbits(16))

    def deal(stage: Scene) -> None:
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


TROUBLES: dict[str, Callable[[Script], None]] = {
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
}
