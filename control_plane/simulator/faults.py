"""What goes wrong on a floor: thieves, technicians, hosts, broken parts and bad cables.

With hosts that have a BMC: `node_faults`.

A fault happens to machines, not through their network interface: it leaves no line in the ledger,
which holds only what clients sent.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Literal

import msgspec
from msgspec.structs import replace

from control_plane.simulator import (
    antminer_conf,
    luxos_unit,
    node_faults,
    vnish_conf,
    whatsminer_unit,
)
from control_plane.simulator.antminer import Antminer
from control_plane.simulator.antminer_builds import NORMAL, SLEEP
from control_plane.simulator.build import deal
from control_plane.simulator.luxos import LuxOs
from control_plane.simulator.luxos_profiles import step_of
from control_plane.simulator.machine import seed_of
from control_plane.simulator.network import Trouble
from control_plane.simulator.nodes import SimNode
from control_plane.simulator.site import SimDevice, SimSite, Target
from control_plane.simulator.vnish import Vnish
from control_plane.simulator.whatsminer import WhatsMiner
from control_plane.simulator.whatsminer_unit import WriteApi


class FaultKind(StrEnum):
    """The menu."""

    HIJACK = "hijack"
    """Somebody points the machine at a pool of his own (`url`, `worker`)."""
    REBOOT = "reboot"
    LOWER = "lower"
    """A technician lowers the mode by one step, or to `mode`."""
    RAISE = "raise"
    """A technician raises the mode by one step, or to `mode`."""
    STOP = "stop"
    """A technician puts the machine to sleep."""
    POWER_OFF = "power_off"
    """The outlet goes dark: a host curtails, a breaker trips."""
    POWER_ON = "power_on"
    DIE = "die"
    """The control board never answers again."""
    DEAD_BOARD = "dead_board"
    """The hash board in `slot` stops."""
    DEAD_POOL = "dead_pool"
    """The pool is lost: full draw, no work."""
    WRONG_IDENTITY = "wrong_identity"
    """Another control board: a stranger's MAC and serial number."""
    PASSWORD = "password"  # noqa: S105 — the name of a fault
    """Somebody changed the administrator's password."""
    SLOW_PASSWORD = "slow_password"  # noqa: S105 — the name of a fault
    """Acknowledges a new password, and takes it 90 seconds later."""
    MUTE_PASSWORD = "mute_password"  # noqa: S105 — the name of a fault
    """Takes a new password, and never says so."""
    MUTE_NETWORK = "mute_network"
    """Takes new network settings, and never says so."""
    WRITES_OFF = "writes_off"
    """Somebody switched the write interface off (WhatsMiner)."""
    DISOBEY = "disobey"
    """Acknowledges writes and ignores them."""
    RESHUFFLE = "reshuffle"
    """The DHCP server forgets its leases and deals anew, in every subnet of the target."""
    FALL_OFF = "fall_off"
    """A GPU falls off its bus (Xid 79): `gpu`, and what `mends` it."""
    XID = "xid"
    """The GPU driver reports error `xid` of `gpu`."""
    HANG = "hang"
    """The kernel of a GPU node hangs; its BMC is well, its power button is not heard."""
    STUCK_BOOT = "stuck_boot"
    """Boots that begin from now on never end."""
    SLOW_TASK = "slow_task"
    """Tasks of a BMC take twenty times as long."""
    STUCK_TASK = "stuck_task"
    """Tasks of a BMC stand still at 90 per cent."""
    LOCKOUT = "lockout"
    """A BMC answers 401 to every login, and ends all sessions."""
    TROUBLE = "trouble"
    """The line is in `trouble`."""
    CLEAR = "clear"
    """Line, obedience, identity, boards, pool and outlet are well again; settings stay."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault, and whom it hits."""

    kind: FaultKind
    target: Target = Target()
    url: str = "stratum+tcp://pool.attacker.example:3333"
    worker: str = "thief.1"
    mode: str | None = None
    slot: int = 0
    trouble: Trouble = Trouble.BLACK_HOLE
    gpu: int = 0
    mends: Literal["reset", "reboot", "power_cycle", "never"] = "reboot"
    xid: int = 48
    seed: int = 0


def inject(site: SimSite, fault: Fault) -> tuple[str, ...]:
    """Let it happen; the assets that it hit.

    Raises:
        NoSuchTarget: it would hit nobody.
    """
    assets = site.pick(fault.target, lambda asset: _takes(site, asset, fault))
    if fault.kind is FaultKind.RESHUFFLE:
        return _reshuffle(site, assets, fault)
    for asset in assets:
        if asset in site.nodes:
            _NODE_HANDS[fault.kind](site.nodes[asset], fault)
        elif fault.kind is FaultKind.TROUBLE:
            site.stations[asset].trouble = fault.trouble
        elif fault.kind is FaultKind.CLEAR:
            _clear(site, asset)
        else:
            _HANDS[fault.kind](site.device(asset), fault)
    return assets


def _takes(site: SimSite, asset: str, fault: Fault) -> bool:
    """Whether such a thing can happen to it."""
    node, kind = site.nodes.get(asset), fault.kind
    if node is None:
        return kind in _OF_MINERS
    gpus = len(node.host.gpus.gpus) if node.host else 0
    return kind in _NODE_HANDS and (kind not in _OF_GPUS or 0 <= fault.gpu < gpus)


def _hijack(device: SimDevice, fault: Fault) -> None:
    if isinstance(device, Antminer):
        pool = antminer_conf.Pool(fault.url, fault.worker, "x")
        blank = antminer_conf.BLANK
        device.unit.write(replace(device.unit.conf, pools=(pool, blank, blank)))
    elif isinstance(device, Vnish):
        url = fault.url.removeprefix("stratum+tcp://")
        slots = (vnish_conf.Pool(url, fault.worker, "x"), vnish_conf.Pool(), vnish_conf.Pool())
        device.unit.save(replace(device.unit.conf, pools=slots))
        if device.unit.needs_restart:
            device.unit.restart()
    elif isinstance(device, LuxOs):
        device.unit.set_pools((luxos_unit.Pool(fault.url, fault.worker, "x"),))
    else:
        device.unit.set_pools((whatsminer_unit.Pool(fault.url, fault.worker, "x"),))


def _reboot(device: SimDevice, _: Fault) -> None:
    if isinstance(device, WhatsMiner):
        device.unit.reboot()
    else:
        device.machine.reboot()


def _step(device: SimDevice, fault: Fault) -> None:
    machine = device.machine
    if isinstance(device, LuxOs):
        _step_luxos(device, fault)
        return
    names = [step.name for step in machine.model.ladder]
    here = names.index(machine.step.name)
    by = 1 if fault.kind is FaultKind.RAISE else -1
    mode = fault.mode or names[min(len(names) - 1, max(0, here + by))]
    if isinstance(device, Antminer):
        unit = device.unit
        nominal = names.index(machine.model.nominal)
        place = names.index(mode) if mode in names else nominal
        code = unit.build.code_of(mode, nominal_index=nominal, index=place)
        unit.write(replace(unit.conf, mode=code if mode in names else NORMAL))
    elif isinstance(device, Vnish):
        device.unit.save(replace(device.unit.conf, preset=mode))
    else:
        device.unit.set_mode(mode)
        device.unit.move(restart=True)


def _step_luxos(device: LuxOs, fault: Fault) -> None:
    """To the step of its type's ladder that is next in watts, or to `mode`, whatever the ladder."""
    unit = device.unit
    ladder = [
        step
        for step in map(step_of, (s.name for s in device.machine.model.ladder))
        if step is not None
    ]
    here = unit.kept.step
    above = [step for step in ladder if step > here]
    below = [step for step in ladder if step < here]
    next_one = (
        min(above, default=here) if fault.kind is FaultKind.RAISE else max(below, default=here)
    )
    meant = step_of(fault.mode) if fault.mode else next_one
    if meant is not None and meant in unit.profiles:
        unit.set_profile(meant)


def _stop(device: SimDevice, _: Fault) -> None:
    if isinstance(device, Antminer):
        device.unit.write(replace(device.unit.conf, mode=SLEEP))
    elif isinstance(device, Vnish):
        device.unit.stop()
    elif isinstance(device, LuxOs):
        device.unit.sleep()
    else:
        device.unit.power_off()


def _power_off(device: SimDevice, _: Fault) -> None:
    device.machine.power_off()


def _power_on(device: SimDevice, _: Fault) -> None:
    device.machine.power_on()


def _die(device: SimDevice, _: Fault) -> None:
    device.machine.is_dead = True


def _dead_board(device: SimDevice, fault: Fault) -> None:
    device.machine.kill_board(fault.slot)


def _dead_pool(device: SimDevice, _: Fault) -> None:
    device.machine.has_work = False


def _wrong_identity(device: SimDevice, fault: Fault) -> None:
    machine = device.machine
    stranger = seed_of(f"stranger/{fault.seed}/{machine.asset}")
    machine.mac = "06:" + ":".join(f"{b:02x}" for b in stranger.to_bytes(8, "big")[:5])
    machine.serial = f"STR{stranger % 10**12:012d}"


def _password(device: SimDevice, _: Fault) -> None:
    machine = device.machine
    if machine.lost_password is None:
        machine.lost_password = machine.password
    machine.password = "changed1"  # noqa: S105 — made up


def _slow_password(device: SimDevice, _: Fault) -> None:
    device.machine.password_late_s = _LATE_S


def _mute_password(device: SimDevice, _: Fault) -> None:
    device.machine.loses_password_answer = True


def _mute_network(device: SimDevice, _: Fault) -> None:
    device.machine.loses_network_answer = True


_LATE_S = 90.0


def _writes_off(device: SimDevice, _: Fault) -> None:
    if isinstance(device, WhatsMiner):
        device.unit.write_api = WriteApi.DISABLED


def _disobey(device: SimDevice, _: Fault) -> None:
    device.machine.obeys = False


_HANDS: Mapping[FaultKind, Callable[[SimDevice, Fault], None]] = {
    FaultKind.HIJACK: _hijack,
    FaultKind.REBOOT: _reboot,
    FaultKind.LOWER: _step,
    FaultKind.RAISE: _step,
    FaultKind.STOP: _stop,
    FaultKind.POWER_OFF: _power_off,
    FaultKind.POWER_ON: _power_on,
    FaultKind.DIE: _die,
    FaultKind.DEAD_BOARD: _dead_board,
    FaultKind.DEAD_POOL: _dead_pool,
    FaultKind.WRONG_IDENTITY: _wrong_identity,
    FaultKind.PASSWORD: _password,
    FaultKind.SLOW_PASSWORD: _slow_password,
    FaultKind.MUTE_PASSWORD: _mute_password,
    FaultKind.MUTE_NETWORK: _mute_network,
    FaultKind.WRITES_OFF: _writes_off,
    FaultKind.DISOBEY: _disobey,
}


_NODE_HANDS: Mapping[FaultKind, Callable[[SimNode, Fault], None]] = {
    FaultKind.FALL_OFF: node_faults.fall_off,
    FaultKind.XID: node_faults.xid,
    FaultKind.HANG: node_faults.hang,
    FaultKind.STUCK_BOOT: node_faults.stuck_boot,
    FaultKind.SLOW_TASK: node_faults.slow_task,
    FaultKind.STUCK_TASK: node_faults.stuck_task,
    FaultKind.LOCKOUT: node_faults.lockout,
    FaultKind.REBOOT: node_faults.reboot,
    FaultKind.POWER_OFF: node_faults.power_off,
    FaultKind.POWER_ON: node_faults.power_on,
    FaultKind.DIE: node_faults.die,
    FaultKind.DISOBEY: node_faults.disobey,
    FaultKind.WRONG_IDENTITY: node_faults.wrong_identity,
    FaultKind.PASSWORD: node_faults.password,
    FaultKind.TROUBLE: node_faults.trouble,
    FaultKind.CLEAR: node_faults.clear,
}
_OF_GPUS = frozenset({FaultKind.FALL_OFF, FaultKind.XID, FaultKind.HANG})
_OF_MINERS = frozenset({*_HANDS, FaultKind.RESHUFFLE, FaultKind.TROUBLE, FaultKind.CLEAR})


def _clear(site: SimSite, asset: str) -> None:
    station, machine = site.stations[asset], site.machine(asset)
    station.trouble = None
    born = site.born[asset]
    machine.mac, machine.serial = born.mac, born.serial
    if machine.lost_password is not None:
        machine.password, machine.lost_password = machine.lost_password, None
    machine.obeys, machine.password_late_s = True, 0.0
    machine.loses_password_answer = machine.loses_network_answer = False
    if not machine.has_work:
        machine.has_work = bool(site.truth(asset).pools)
    if machine.dead_boards or machine.is_dead:
        machine.mend()
    machine.power_on()


def _reshuffle(site: SimSite, assets: Sequence[str], fault: Fault) -> tuple[str, ...]:
    subnets = sorted({site.leases[asset] for asset in assets if asset in site.leases})
    hit: list[str] = []
    for subnet in subnets:
        moving = sorted(asset for asset, lease in site.leases.items() if lease == subnet)
        old = {asset: site.stations[asset].address for asset in moving}
        taken = {station.address for station in site.network} - set(old.values())
        new = deal(subnet, moving, taken, random.Random(f"{fault.seed}/reshuffle/{subnet}"))
        site.network.move((site.stations[asset], new[asset]) for asset in moving)
        for asset in moving:
            unit = site.device(asset).unit
            unit.network = replace(unit.network, ip=new[asset])
        hit += moving
    return tuple(hit)
