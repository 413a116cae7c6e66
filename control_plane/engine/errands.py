"""What rotations change of machines, their passwords or their addresses: the only two differences are here.

An errand says which machines it is about, what stands in the way, how one of them is reached, and what is
remembered once that has changed. Waves, rounds, steps and locks are the same for both (`rotating`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeGuard

import msgspec

from control_plane.core.change import Outcome
from control_plane.core.errors import (
    AuthRejected,
    ControlPlaneError,
    Unreachable,
    WrongIdentity,
)
from control_plane.core.fleet import Device
from control_plane.core.memory import Memory, is_other
from control_plane.core.ports import Driver, PasswordKeeper, Permit, Readdresser, Secrets
from control_plane.core.renumbering import addresses_of, is_there, places_of
from control_plane.core.rotation import Probe, RotationEntry, Subject, refs_of, refs_to_try
from control_plane.core.rotation_rollout import (
    Aim,
    Password,
    Rotation,
    has_it,
    password_of,
)
from control_plane.engine.edges import Edges
from control_plane.engine.poller import target_by, target_of
from control_plane.engine.rotator import Way
from control_plane.engine.slots import Slot


class Errand(Protocol):
    """One of the two."""

    subject: Subject
    series: str
    """Of the numbers of its rotations."""
    prefix: str
    """Of their ids."""
    topic: str
    """Under which people read of it."""

    def aim_of(self, device: Device) -> Aim | None:
        """What a device is rotated to; `None` where its declaration names nothing before."""
        ...

    def needs(self, slot: Slot) -> bool:
        """Whether a machine does not have it yet, as far as is known."""
        ...

    def cannot(self, aim: Aim) -> str | None:
        """Why no machine can be given it, and what to do."""
        ...

    def in_the_way(self, slots: Iterable[Slot]) -> Mapping[str, str]:
        """Machines that have to wait for another one → why."""
        ...

    def entry(self, rotation: Rotation, slot: Slot) -> RotationEntry:
        """The entry of a machine that is to be begun."""
        ...

    def way(self, slot: Slot, permit: Permit) -> Way | None:
        """How a machine is reached; `None` where nobody can change it."""
        ...

    def remembered(self, memory: Memory, entry: RotationEntry) -> Memory:
        """What is remembered once an entry was verified."""
        ...

    def settle(self, slot: Slot, entry: RotationEntry) -> None:
        """Have looks go by what was verified."""
        ...


# --- passwords -----------------------------------------------------------------------------------------


class KeepingDriver(Driver, PasswordKeeper, Protocol):
    """A driver whose family's password can be changed."""


def keeps_passwords(driver: Driver | None) -> TypeGuard[KeepingDriver]:
    """Whether a driver changes passwords."""
    return driver is not None and driver.capabilities.passwords is not None


class PasswordErrand:
    """Other passwords."""

    subject = Subject.PASSWORD
    series, prefix, topic = "rotation", "c", "credentials"

    def __init__(self, edges: Edges) -> None:
        self._edges = edges

    def aim_of(self, device: Device) -> Aim | None:
        """See `Errand`."""
        return password_of(device)

    def needs(self, slot: Slot) -> bool:
        """See `Errand`."""
        return bool(slot.login) or not has_it(slot.device, slot.memory.login)

    def cannot(self, aim: Aim) -> str | None:
        """See `Errand`."""
        assert isinstance(aim, Password)  # noqa: S101 - of this errand
        if not keeps_passwords(self._edges.drivers.get(aim.family)):
            return (
                f"{aim.family} has no password that can be set over the network: "
                "take `previous` out of the profile"
            )
        for ref in (aim.secret_ref, *aim.previous):
            try:
                self._edges.secrets.resolve(ref)
            except ControlPlaneError:
                return f"secret reference {ref} leads nowhere: set it where gridplane runs"
        return None

    def in_the_way(self, slots: Iterable[Slot]) -> Mapping[str, str]:
        """See `Errand`."""
        del slots
        return {}

    def entry(self, rotation: Rotation, slot: Slot) -> RotationEntry:
        """See `Errand`."""
        assert isinstance(rotation.aim, Password)  # noqa: S101 - of this errand
        return RotationEntry(
            asset=slot.asset,
            rotation=rotation.id,
            wanted=rotation.aim.secret_ref,
            verified=slot.memory.login,
        )

    def way(self, slot: Slot, permit: Permit) -> Way | None:
        """See `Errand`."""
        driver = slot.driver
        return (
            _PasswordWay(driver, slot, self._edges.secrets, permit)
            if keeps_passwords(driver)
            else None
        )

    def remembered(self, memory: Memory, entry: RotationEntry) -> Memory:
        """See `Errand`."""
        return msgspec.structs.replace(memory, login=entry.verified)

    def settle(self, slot: Slot, entry: RotationEntry) -> None:
        """See `Errand`."""
        del entry
        slot.login = ""


class _PasswordWay:
    def __init__(self, driver: KeepingDriver, slot: Slot, secrets: Secrets, permit: Permit) -> None:
        self._driver, self._slot, self._secrets, self._permit = driver, slot, secrets, permit
        ways = driver.capabilities.passwords
        self.late_s = ways.late_s if ways else 0.0

    async def probe(self, entry: RotationEntry) -> Probe:
        """Try passwords in order until one logs in, or until it is not clear any more."""
        given = self._slot.device.intent.credentials
        tried: list[str] = []
        for ref in refs_to_try(entry, refs_of(given) if given else ()):
            try:
                target = target_by(self._slot, self._slot.address or "", ref, self._secrets)
                told = await self._driver.log_in(target)
                if is_other(target.pin, told):
                    raise WrongIdentity(f"{target.address}: another machine answers")
            except AuthRejected:
                tried.append(ref)
            except ControlPlaneError as error:
                return Probe(refused=tuple(tried), unclear=str(error))
            else:
                return Probe(accepted=ref, refused=tuple(tried))
        return Probe(refused=tuple(tried))

    async def change(self, entry: RotationEntry) -> Outcome:
        """Have the new password put in place of the one that just logged in."""
        assert entry.verified is not None  # noqa: S101 - it just logged in
        new = self._secrets.resolve(entry.wanted)
        target = target_by(self._slot, self._slot.address or "", entry.verified, self._secrets)
        return await self._driver.set_password(target, new, self._permit)


# --- addresses -----------------------------------------------------------------------------------------


class ReaddressingDriver(Driver, Readdresser, Protocol):
    """A driver whose family's network settings can be changed."""


def readdresses(driver: Driver | None) -> TypeGuard[ReaddressingDriver]:
    """Whether a driver changes network settings."""
    return driver is not None and driver.capabilities.network is not None


class AddressErrand:
    """Other addresses."""

    subject = Subject.ADDRESS
    series, prefix, topic = "renumbering", "n", "network"

    def __init__(self, edges: Edges) -> None:
        self._edges = edges

    def aim_of(self, device: Device) -> Aim | None:
        """See `Errand`."""
        return addresses_of(device)

    def needs(self, slot: Slot) -> bool:
        """See `Errand`."""
        if slot.seen is None or slot.unseen is not None:
            return not is_there(slot.device, slot.memory.located)
        return not is_there(slot.device, slot.address) or slot.seen.settings.addressing == "dhcp"

    def cannot(self, aim: Aim) -> str | None:
        """See `Errand`."""
        if readdresses(self._edges.drivers.get(aim.family)):
            return None
        return (
            f"{aim.family} cannot be given an address over the network: a person does that; then take "
            "`previous` out of the rack's addressing"
        )

    def in_the_way(self, slots: Iterable[Slot]) -> Mapping[str, str]:
        """Machines whose new address another one has, and those that a boot might wake.

        Of a row that moves up by one, the last goes first. Two that change places wait for each other, until
        a person moves one of them.
        """
        slots = list(slots)
        has = {slot.address: slot.asset for slot in slots if slot.address is not None}
        waits = {}
        for slot in slots:
            other = has.get(slot.device.address or "", slot.asset)
            if other != slot.asset:
                waits[slot.asset] = f"{other} still stands at its new address"
            elif _may_wake(slot):
                waits[slot.asset] = (
                    "it sleeps, and would boot for its new address: some wake with that"
                )
        return waits

    def entry(self, rotation: Rotation, slot: Slot) -> RotationEntry:
        """See `Errand`."""
        return RotationEntry(
            asset=slot.asset,
            rotation=rotation.id,
            subject=Subject.ADDRESS,
            wanted=slot.device.address or "",
            verified=slot.address,
        )

    def way(self, slot: Slot, permit: Permit) -> Way | None:
        """See `Errand`."""
        driver = slot.driver
        return (
            _AddressWay(driver, slot, self._edges.secrets, permit) if readdresses(driver) else None
        )

    def remembered(self, memory: Memory, entry: RotationEntry) -> Memory:
        """See `Errand`."""
        return msgspec.structs.replace(memory, located=entry.verified)

    def settle(self, slot: Slot, entry: RotationEntry) -> None:
        """See `Errand`."""
        slot.address = entry.verified


def _may_wake(slot: Slot) -> bool:
    ways = slot.capabilities.network if slot.capabilities else None
    sleeps = slot.seen is not None and slot.seen.settings.mining is not True
    return ways is not None and ways.reboots and sleeps


class _AddressWay:
    def __init__(
        self, driver: ReaddressingDriver, slot: Slot, secrets: Secrets, permit: Permit
    ) -> None:
        self._driver, self._slot, self._secrets, self._permit = driver, slot, secrets, permit
        ways = driver.capabilities.network
        self.late_s = ways.late_s if ways else 0.0

    async def probe(self, entry: RotationEntry) -> Probe:
        """Ask who answers at the new address, and where the machine was, until it is found.

        Whatever answers at the new address and is not the machine is in its way: with two at one address
        nobody knows which one a write would reach.
        """
        slot, why, is_taken = self._slot, "nobody answers", False
        places = places_of(slot.device, slot.memory.located)
        known = (entry.wanted, entry.verified, entry.before, slot.address, *places)
        for address in dict.fromkeys(place for place in known if place):
            try:
                told = await self._driver.identify(target_of(slot, address, self._secrets))
            except Unreachable as error:
                why = str(error)
                continue
            except ControlPlaneError as error:
                why = str(error)
                is_taken |= address == entry.wanted
                continue
            pin = slot.memory.pin
            if pin is not None and pin.matches(told):
                in_the_way = f"another machine answers at {entry.wanted}" if is_taken else ""
                return Probe(accepted=address, unclear=in_the_way)
            why = f"another machine answers at {address}"
            is_taken |= address == entry.wanted
        return Probe(unclear=why)

    async def change(self, entry: RotationEntry) -> Outcome:
        """Have it stand at its static address, told where it just answered."""
        moves = self._slot.device.renumbering
        assert entry.verified is not None  # noqa: S101 - it just answered there
        assert moves is not None  # noqa: S101 - its rack names one, else nothing is begun
        target = target_of(self._slot, entry.verified, self._secrets)
        return await self._driver.set_network(target, moves.network, self._permit)
