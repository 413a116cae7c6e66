"""The BMCs of a site's GPU nodes, for whoever remedies them: a look that may fail, and two restarts."""

from __future__ import annotations

import msgspec

from control_plane.core.bmc import (
    BmcChange,
    BmcSeen,
    Part,
    Power,
    PowerCycle,
    PowerOff,
    PowerOn,
    Restart,
    is_same_board,
)
from control_plane.core.change import Failed, RefusedByDevice
from control_plane.core.errors import AuthRejected, ControlPlaneError, Unreachable, WrongIdentity
from control_plane.core.fleet import Device, Site
from control_plane.core.memory import Pin
from control_plane.core.ports import Bmc, BmcTarget, Permit, Secrets
from control_plane.core.remedy_case import Action, Outcome
from control_plane.engine.bmcs import bmcs_of, target_of
from control_plane.engine.log import Say
from control_plane.kube.gpu_logins import Logins
from control_plane.kube.gpu_view import NodeFacts


class Bmcs:
    """Those that are declared, with what their commands need. What goes wrong with one is said, once."""

    def __init__(
        self, bmc: Bmc | None, secrets: Secrets, logins: Logins | None = None, *, say: Say
    ) -> None:
        """Nothing is asked before a method is.

        Args:
            bmc: the driver of all of them; `None`: this process commands none.
            secrets: of these.
            logins: what they refused, and any process before this one heard; `None`: that is not known.
            say: told of what goes wrong.
        """
        self._bmc, self._secrets, self._logins, self._say = bmc, secrets, logins, say
        self._said: dict[str, str] = {}

    def reaches(self, site: Site, device: Device) -> bool:
        """Whether commands can be given to a node's BMC."""
        return self._bmc is not None and site.bmc is not None and device.bmc is not None

    async def look(
        self, site: Site, device: Device, parts: frozenset[Part] = frozenset()
    ) -> BmcSeen | None:
        """Power, health and what else is asked; `None` where nothing is known, which is not "off"."""
        if self._bmc is None or not self.reaches(site, device):
            return None
        try:
            _, seen = await self._looked(self._bmc, site, device, parts)
        except ControlPlaneError as error:
            self._trouble(device, str(error))
            return None
        self._said.pop(device.asset, None)
        return seen

    async def _looked(
        self, bmc: Bmc, site: Site, device: Device, parts: frozenset[Part] = frozenset()
    ) -> tuple[BmcTarget, BmcSeen]:
        """One look; what is refused is kept before anybody hears of it.

        Raises:
            ControlPlaneError: as the port `Bmc`.
        """
        target = self._target(site, device)
        try:
            seen = await bmc.look(target, parts)
        except AuthRejected:
            if self._logins is not None:
                self._logins.refused(target)
            raise
        if self._logins is not None:
            self._logins.taken(target)
        return target, seen

    async def act(
        self, site: Site, device: Device, action: Action, *, facts: NodeFacts, permit: Permit
    ) -> Outcome:
        """Restart a node, once. That it took place, another boot id tells.

        Args:
            site: of the node.
            device: the node.
            action: `REBOOT`, `POWER_CYCLE` or `POWER_OFF`.
            facts: of its `Node`: only a kubelet that is ready is asked to end by itself, and what is
                restarted is the board that it runs on.
            permit: asked right before the write.
        """
        try:
            target, seen = await self._identified(site, device, facts.board)
        except ControlPlaneError as error:
            self._trouble(device, str(error))
            return Outcome.FAILED
        change: BmcChange
        match action:
            case Action.REBOOT:
                change = Restart(forced=not facts.is_ready)
            case Action.POWER_CYCLE if cycles_by_itself(seen):
                change = PowerCycle()
            case Action.POWER_CYCLE | Action.POWER_OFF:
                change = PowerOff(forced=True)
            case _:
                return Outcome.FAILED
        return await self._sent(device, target, change, action.value, permit)

    async def power_on(
        self, site: Site, device: Device, *, facts: NodeFacts, permit: Permit
    ) -> None:
        """The second half of a power cycle, of a BMC that has none: asked for again while it is off.

        Args:
            site: of the node.
            device: the node.
            facts: of its `Node`, as it was known before its power went.
            permit: asked right before the write.
        """
        try:
            target, seen = await self._identified(site, device, facts.board)
        except ControlPlaneError as error:
            self._trouble(device, str(error))
            return
        if seen.power is Power.OFF:
            await self._sent(device, target, PowerOn(), "power on", permit)

    async def _sent(
        self, device: Device, target: BmcTarget, change: BmcChange, what: str, permit: Permit
    ) -> Outcome:
        assert self._bmc is not None  # noqa: S101 - `_identified` looked
        sent = (await self._bmc.apply(target, change, permit)).outcome
        if isinstance(sent, RefusedByDevice | Failed):
            self._trouble(device, f"{what} was not carried out: {sent.reason}")
            return Outcome.FAILED
        return Outcome.OPEN

    async def close(self) -> None:
        """Log out everywhere."""
        if self._bmc is not None:
            await self._bmc.close()

    async def _identified(
        self, site: Site, device: Device, board: str
    ) -> tuple[BmcTarget, BmcSeen]:
        """The BMC of the very machine that the `Node` is, with the serial that a write is held against.

        An address in a declaration may be another rack's. Recorded serials settle it; where there is none,
        kubelet and BMC have to name the same board.

        Raises:
            WrongIdentity: they do not.
            Unreachable: it does not answer, or this process commands none.
        """
        if self._bmc is None:
            raise Unreachable("this process commands no BMC")
        target, seen = await self._looked(self._bmc, site, device)
        if target.pin is not None:
            return target, seen
        if seen.serial is None or seen.uuid is None or not is_same_board(seen.uuid, board):
            raise WrongIdentity(
                f"{target.address} is of the board {seen.uuid or 'without a UUID'}, and the kubelet of "
                f"{device.asset} runs on {board or 'one that it does not name'}: is `first_bmc` of its "
                "rack right?"
            )
        pin = Pin(mac=None, serial=seen.serial, source="the board that its kubelet names")
        return msgspec.structs.replace(target, pin=pin), seen

    def _target(self, site: Site, device: Device) -> BmcTarget:
        place = next(one for one in bmcs_of(site) if one.asset == device.asset)
        assert site.bmc is not None  # noqa: S101 - `reaches` looked
        target = target_of(site.bmc, place, self._secrets)
        return target if self._logins is None else self._logins.known(target)

    def _trouble(self, device: Device, words: str) -> None:
        if self._said.get(device.asset) != words:
            self._say(f"BMC of {device.asset}: {words}", kind="remedy", level="warning")
        self._said[device.asset] = words


def cycles_by_itself(seen: BmcSeen) -> bool:
    """Whether a BMC takes power and gives it back by one command; not all makers' do."""
    return seen.resets is None or "PowerCycle" in seen.resets
