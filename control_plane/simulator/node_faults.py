"""What goes wrong with hosts that have a BMC: with the BMC, with the host behind it, with its GPUs."""

from __future__ import annotations

from typing import Protocol

from control_plane.simulator.bmc_parts import BmcFaults
from control_plane.simulator.gpu_host import Mends
from control_plane.simulator.machine import seed_of
from control_plane.simulator.network import Trouble
from control_plane.simulator.nodes import SimNode

SLOWER = 20.0
"""Times that a slow BMC's task takes as long."""
STUCK_AT = 90
"""Per cent at which one stands still."""


class Details(Protocol):
    """What a fault says beside its kind."""

    @property
    def gpu(self) -> int:
        """Index of the GPU."""
        ...

    @property
    def mends(self) -> str:
        """The least that brings it back: a name of `Mends`, in small letters."""
        ...

    @property
    def xid(self) -> int:
        """The error's number."""
        ...

    @property
    def trouble(self) -> Trouble:
        """What is wrong with the line."""
        ...

    @property
    def seed(self) -> int:
        """Chooses what is left to chance."""
        ...


def fall_off(node: SimNode, fault: Details) -> None:
    """A GPU falls off its bus."""
    if node.host is not None:
        node.host.fall_off(fault.gpu, mends=Mends[fault.mends.upper()])


def xid(node: SimNode, fault: Details) -> None:
    """The driver reports an error."""
    if node.host is not None:
        node.host.xid(fault.gpu, fault.xid)


def hang(node: SimNode, _: Details) -> None:
    """The kernel hangs."""
    if node.host is not None:
        node.host.hang()


def stuck_boot(node: SimNode, _: Details) -> None:
    """The next boot never ends."""
    node.bmc.faults.stuck_post = True


def slow_task(node: SimNode, _: Details) -> None:
    """Tasks that begin now take long."""
    node.bmc.faults.task_slower = SLOWER


def stuck_task(node: SimNode, _: Details) -> None:
    """Tasks stand still shortly before their end."""
    node.bmc.faults.task_stuck_at = STUCK_AT


def lockout(node: SimNode, _: Details) -> None:
    """Nobody is let in, and nobody is in any more."""
    node.bmc.faults.lockout = True
    node.bmc.sessions.clear()


def reboot(node: SimNode, _: Details) -> None:
    """Somebody restarts it, from its own prompt."""
    bmc = node.bmc
    bmc.settle()
    if bmc.chassis.is_on and bmc.chassis.hears_button:
        bmc.restart_host(after_s=bmc.profile.shutdown_s)


def power_off(node: SimNode, _: Details) -> None:
    """The feed of host and BMC goes dark."""
    node.bmc.lose_feed()


def power_on(node: SimNode, _: Details) -> None:
    """It is back, and with it the host if it ran."""
    node.bmc.regain_feed()


def die(node: SimNode, _: Details) -> None:
    """The BMC never answers again; its host runs on."""
    node.bmc.faults.dead = True


def disobey(node: SimNode, _: Details) -> None:
    """The BMC acknowledges resets and does nothing."""
    node.bmc.faults.ignores_resets = True


def wrong_identity(node: SimNode, fault: Details) -> None:
    """The BMC tells a stranger's serial number."""
    stranger = seed_of(f"stranger/{fault.seed}/{node.asset}")
    node.bmc.faults.serial = f"STR{stranger % 10**12:012d}"


def password(node: SimNode, _: Details) -> None:
    """Somebody changed the BMC's password."""
    if node.lost_password is None:
        node.lost_password = node.bmc.password
    node.bmc.password = "changed1"  # noqa: S105 - made up
    node.bmc.sessions.clear()


def trouble(node: SimNode, fault: Details) -> None:
    """The line to the BMC is in trouble."""
    node.station.trouble = fault.trouble


def clear(node: SimNode, _: Details) -> None:
    """All of it is well again. What hangs, or is off its bus, comes back with the next reset or boot."""
    bmc = node.bmc
    bmc.regain_feed()
    bmc.faults = BmcFaults()
    node.station.trouble = None
    if node.lost_password is not None:
        bmc.password, node.lost_password = node.lost_password, None
    if node.host is not None:
        node.host.mend()
