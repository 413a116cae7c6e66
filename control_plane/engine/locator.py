"""Finds devices on DHCP by their pinned MAC or serial: an address there is a hint, never an identity."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable, Mapping

import msgspec

from control_plane.core.decision import Reason
from control_plane.core.errors import AuthRejected, ControlPlaneError
from control_plane.core.observation import Identity, UnseenReason
from control_plane.core.ports import Clock, Secrets
from control_plane.core.rotation import refs_of
from control_plane.engine.poller import target_by
from control_plane.engine.slots import Slot

_CONCURRENCY = 200
_FIRST_PAUSE_S = 5.0
_MAX_PAUSE_S = 300.0
"""Wire seconds between sweeps of the same network: doubles while a sweep finds nothing new."""


class Locator:
    """Sweeps the networks of DHCP devices that are not where they were."""

    def __init__(
        self,
        *,
        clock: Clock,
        secrets: Secrets,
        found: Callable[[Slot, str], None],
        failed: Callable[[Slot, Exception], None],
    ) -> None:
        """`failed` is told of a bug that a device met; the sweep goes on."""
        self._clock = clock
        self._secrets = secrets
        self._found = found
        self._failed = failed
        self._pause_s = _FIRST_PAUSE_S
        self._next_wire_s = float("-inf")

    def missing(self, slots: Iterable[Slot]) -> list[Slot]:
        """DHCP devices that nobody knows an address of, or that another machine answers for."""
        return [slot for slot in slots if slot.device.searched is not None and _is_missing(slot)]

    async def sweep_if_due(self, slots: Iterable[Slot]) -> int:
        """One sweep for what is missing, at most as often as the pauses allow; how many were found."""
        slots = list(slots)
        wanted = self.missing(slots)
        if not wanted or self._clock.wire_s() < self._next_wire_s:
            return 0
        count = await self.sweep(wanted, slots)
        self._pause_s = _FIRST_PAUSE_S if count else min(self._pause_s * 2, _MAX_PAUSE_S)
        self._next_wire_s = self._clock.wire_s() + self._pause_s
        return count

    async def sweep(self, wanted: Iterable[Slot], slots: Iterable[Slot]) -> int:
        """Ask every address of the wanted devices' networks who it is."""
        by_mac: dict[str, Slot] = {}
        by_serial: dict[str, Slot] = {}
        probes: dict[tuple[str, str], Slot] = {}
        settled = {s.address for s in slots if s.address is not None and not _is_missing(s)}
        for slot in wanted:
            pin = slot.memory.pin
            if pin is not None and pin.mac:
                by_mac[pin.mac] = slot
            if pin is not None and pin.serial:
                by_serial[pin.serial] = slot
            if slot.device.searched is not None:
                probes.setdefault((slot.device.searched, slot.device.intent.family), slot)
        pending = [
            (address, probe)
            for (subnet, _), probe in probes.items()
            for address in _hosts(subnet)
            if address not in settled
        ]
        found = 0
        queue = iter(pending)

        async def work() -> None:
            nonlocal found
            for address, probe in queue:
                slot = _match(await self._ask(probe, address), by_mac, by_serial)
                if slot is not None and slot.address != address:
                    found += 1
                    self._take(slot, address)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_CONCURRENCY, len(pending))):
                group.create_task(work())
        return found

    async def _ask(self, probe: Slot, address: str) -> Identity | None:
        driver, given = probe.driver, probe.device.intent.credentials
        if driver is None:
            return None
        # A machine that forgot its address has forgotten its password too, as likely as not.
        refs = (probe.secret_ref, *(refs_of(given) if given else ()))
        for ref in dict.fromkeys(refs):
            try:
                return await driver.identify(target_by(probe, address, ref, self._secrets))
            except AuthRejected:
                continue
            except ControlPlaneError:
                break  # Nobody there, or not one of ours: a sweep expects both.
            except Exception as bug:  # noqa: BLE001 - the bug of one family is not the others' trouble
                self._failed(probe, bug)
                break
        return None

    def _take(self, slot: Slot, address: str) -> None:
        slot.address = address
        slot.memory = msgspec.structs.replace(slot.memory, located=address)
        self._found(slot, address)


def _hosts(subnet: str) -> list[str]:
    return [str(address) for address in ipaddress.ip_network(subnet).hosts()]


def _is_missing(slot: Slot) -> bool:
    if slot.driver is None or (
        slot.unseen is not None and slot.unseen.reason is UnseenReason.SECRET_MISSING
    ):
        return False  # Without its password nobody can be asked who it is.
    if slot.address is None:
        return True
    if slot.unseen is not None:
        return slot.unseen.reason in {
            UnseenReason.UNREACHABLE,
            UnseenReason.UNEXPECTED_REPLY,
            UnseenReason.WRONG_IDENTITY,
            UnseenReason.AUTH_REJECTED,
            # Perhaps it stands there; perhaps another machine has its address, and it is elsewhere.
            UnseenReason.OTHER_FAMILY,
        }
    decision = slot.decision
    return decision is not None and any(
        h.reason in {Reason.WRONG_IDENTITY, Reason.WRONG_MODEL} for h in decision.held
    )


def _match(
    identity: Identity | None, by_mac: Mapping[str, Slot], by_serial: Mapping[str, Slot]
) -> Slot | None:
    if identity is None:
        return None
    return by_mac.get(identity.mac or "") or by_serial.get(identity.serial or "")
