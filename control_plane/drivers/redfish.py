"""Redfish towards any maker's BMC: the port `Bmc` (DSP0266; resources as in DSP8010).

Paths are found by following links from the service root, never guessed from a maker's name; what makers do
otherwise is data (`core.bmc_quirks`). Where things are is kept between calls, until something is not there.
One command at a time to each BMC: bursts hang them (gpu-nodes reference, §11).

Tried on: the simulator, and sushy-tools' emulator as far as it goes; no live BMC. `docs/reference/bmc.md`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, assert_never

import msgspec

from control_plane.core import limits
from control_plane.core.bmc import (
    BmcChange,
    BmcSeen,
    BootOnce,
    EjectMedia,
    InsertMedia,
    Locate,
    Part,
    PowerCycle,
    PowerOff,
    PowerOn,
    Restart,
    Sent,
    SetBios,
    SetPowerCap,
    TaskSeen,
    TaskState,
    UpdateFirmware,
)
from control_plane.core.bmc_quirks import QUIRKS
from control_plane.core.change import Failed
from control_plane.core.errors import (
    AuthRejected,
    ControlPlaneError,
    UnexpectedReply,
    Unreachable,
    WrongIdentity,
)
from control_plane.drivers.driver import (
    Reply,
    check_identity,
    clean,
    decode_reply,
    maybe_written,
    not_written,
    text_of,
)
from control_plane.drivers.redfish_parts import Parts, Place
from control_plane.drivers.redfish_reads import (
    identity_from,
    maker_from,
    media_in,
    reset_of,
    resets_in,
    seen_from,
    task_in,
)
from control_plane.drivers.redfish_session import (
    ROOT,
    NoSuchResource,
    Seat,
    link,
    members,
    message_of,
    path_of,
)
from control_plane.drivers.redfish_writes import CHECK_S, Around, told, write_of

if TYPE_CHECKING:
    from control_plane.core.observation import Identity
    from control_plane.core.ports import BmcTarget, Clock, Net, Permit

_OTHER_SYSTEMS: Final = tuple(
    prefix for quirks in QUIRKS.values() for prefix in quirks.other_systems
)
_OK: Final = 200
_ACCEPTED: Final = 202
_NO_CONTENT: Final = 204
_ABSENT: Final = frozenset({404, 410})


class RedfishBmc:
    """The port `Bmc`."""

    def __init__(self, net: Net, clock: Clock) -> None:
        self._net, self._clock = net, clock
        self._seats: dict[str, Seat] = {}
        self._places: dict[str, Place] = {}

    # -- reads -----------------------------------------------------------------------------------

    async def identify(self, target: BmcTarget) -> Identity:
        """See `core.ports.Bmc`."""
        seat = self._seat(target)
        async with seat.lock:
            self._take(seat, target)
            place, system = await self._system(seat)
            return identity_from(system, place.maker)

    async def look(self, target: BmcTarget, parts: frozenset[Part]) -> BmcSeen:
        """See `core.ports.Bmc`."""
        seat = self._seat(target)
        async with seat.lock:
            self._take(seat, target)
            place, system = await self._system(seat)
            read = Parts(seat, place)
            seen = seen_from(system, place.maker, _resets(place, system))
            found: dict[str, Any] = {}
            manager: Reply | None = None
            if parts & {Part.FIRMWARE, Part.LOG, Part.MEDIA}:
                manager = await read.manager()
            if manager is not None:
                found["bmc_version"] = text_of(manager.get("FirmwareVersion"))
            if parts & {Part.DRAW, Part.SENSORS}:
                found |= await read.readings(parts)
            if Part.FIRMWARE in parts:
                found["firmware"] = await read.firmware()
            if Part.BIOS in parts:
                found |= await read.bios(system)
            if Part.LOG in parts:
                found["log"] = await read.log(manager, system)
            if Part.MEDIA in parts:
                drive = await read.drive(manager, system)
                found["media"] = None if drive is None else media_in(drive)
            return msgspec.structs.replace(seen, **found, unread=tuple(read.unread))

    # -- writes ----------------------------------------------------------------------------------

    async def apply(self, target: BmcTarget, change: BmcChange, permit: Permit) -> Sent:
        """See `core.ports.Bmc`."""
        seat = self._seat(target)
        async with seat.lock:
            self._take(seat, target)
            try:
                around = await self._around(seat, change)
                write = write_of(change, around)
                if isinstance(write, Failed):
                    return Sent(outcome=write)
                await seat.ready()
            except ControlPlaneError as error:
                return Sent(outcome=not_written(error))
            refusal = permit()
            if refusal is not None:
                return Sent(outcome=Failed(refusal, retryable=True))
            try:
                page = await seat.send(write.method, write.path, write.body, etag=write.etag)
            except AuthRejected as error:
                return Sent(outcome=not_written(error))
            except ControlPlaneError as error:
                outcome = maybe_written(error, check_after_s=CHECK_S)
                return Sent(outcome=outcome, pending=write.pending)
            return told(page, write, target.address)

    async def follow(self, target: BmcTarget, task: str, *, within_s: float) -> TaskSeen:
        """See `core.ports.Bmc`."""
        end_s = self._clock.wall_s() + within_s
        seen = TaskSeen(state=TaskState.RUNNING)
        while True:
            try:
                seen = await self._task(target, task)
            except (AuthRejected, WrongIdentity):
                raise
            except ControlPlaneError:
                pass  # It may be restarting, for this very task.
            if seen.state is not TaskState.RUNNING:
                return seen
            left_s = end_s - self._clock.wall_s()
            if left_s <= 0.0:
                return msgspec.structs.replace(seen, state=TaskState.STUCK)
            await self._clock.sleep(min(limits.BMC_TASK_EVERY_S, left_s))

    async def close(self) -> None:
        """See `core.ports.Bmc`."""
        # All at once: one that is gone holds up nobody else.
        await asyncio.gather(*map(_leave, self._seats.values()))

    # -- where things are ------------------------------------------------------------------------

    def _seat(self, target: BmcTarget) -> Seat:
        seat = self._seats.get(target.asset)
        if seat is None:
            seat = self._seats[target.asset] = Seat(self._net, self._clock, target)
        return seat

    def _take(self, seat: Seat, target: BmcTarget) -> None:
        if seat.take(target):
            self._places.pop(target.asset, None)

    async def _system(self, seat: Seat) -> tuple[Place, Reply]:
        """Where things are, and the host, read now."""
        asset = seat.target.asset
        place = self._places.get(asset)
        if place is not None:
            try:
                return place, await seat.get(place.system)
            except NoSuchResource:
                del self._places[asset]
        root = await seat.get(ROOT)
        path, system = await self._host(seat, root)
        address = seat.target.address
        links = system.get("Links")
        info = path_of(reset_of(system).get("@Redfish.ActionInfo"), address)
        place = Place(
            maker=maker_from(root, system),
            system=path,
            chassis=link(links, "Chassis", address) or await self._first(seat, root, "Chassis"),
            manager=link(links, "ManagedBy", address) or await self._first(seat, root, "Managers"),
            update=link(root, "UpdateService", address),
            reset_info=await _maybe(seat, info),
        )
        self._places[asset] = place
        return place, system

    async def _host(self, seat: Seat, root: Reply) -> tuple[str, Reply]:
        """The system that is the host: not a board with a BMC of its own behind this one."""
        target = seat.target
        path = link(root, "Systems", target.address)
        if path is None:
            raise UnexpectedReply(f"{target.address}: a service without systems")
        found = []
        for member, _ in members(await seat.get(path), target.address):
            if not member.rstrip("/").rpartition("/")[2].startswith(_OTHER_SYSTEMS):
                found.append(member)
        if len(found) == 1:
            return found[0], await seat.get(found[0])
        for member in found:
            system = await seat.get(member)
            identity = identity_from(system, maker_from(root, system))
            if target.pin is not None and target.pin.matches(identity):
                return member, system
        raise UnexpectedReply(
            f"{target.address}: tells {len(found)} systems, and none has the pinned serial"
        )

    async def _first(self, seat: Seat, root: Reply, name: str) -> str | None:
        collection = await _maybe(seat, link(root, name, seat.target.address))
        found = members(collection or {}, seat.target.address)
        return found[0][0] if found else None

    async def _around(self, seat: Seat, change: BmcChange) -> Around:
        """What a write hangs on, and at last the host itself, held against the pin.

        Raises: as `look`; nothing was written.
        """
        place, system = await self._system(seat)
        read = Parts(seat, place)
        found: dict[str, Any] = {}
        match change:
            case SetBios():
                found["bios"] = await read.settings(system)
            case SetPowerCap():
                found["cap"] = await read.cap()
            case InsertMedia() | EjectMedia():
                found["drive"] = await read.drive(await read.manager(), system)
            case UpdateFirmware():
                found = await read.update()
            case PowerOn() | PowerOff() | PowerCycle() | Restart() | BootOnce() | Locate():
                pass
            case _:
                assert_never(change)
        if found:
            place, system = await self._system(seat)
        check_identity(seat.target, identity_from(system, place.maker))
        return Around(
            system_path=place.system,
            system=system,
            quirks=QUIRKS[place.maker],
            resets=_resets(place, system),
            address=seat.target.address,
            **found,
        )

    # -- tasks -----------------------------------------------------------------------------------

    async def _task(self, target: BmcTarget, task: str) -> TaskSeen:
        """One look at a task or its monitor (DSP0266 §12.2: 202 while it runs, then what came of it)."""
        path = path_of(task, target.address)
        if path is None:
            raise UnexpectedReply(f"{target.address}: {clean(task)!r} is no path of it")
        seat = self._seat(target)
        async with seat.lock:
            self._take(seat, target)
            page = await seat.get_page(path)
        if page.status in _ABSENT:
            return TaskSeen(state=TaskState.GONE)
        body: Reply = {}
        if page.body and page.status in (_OK, _ACCEPTED):
            body = decode_reply(page.body, f"{target.address}{path}")
        seen = task_in(body)
        if seen is not None:
            return seen
        if page.status == _ACCEPTED:
            return TaskSeen(state=TaskState.RUNNING)
        if page.status in (_OK, _NO_CONTENT):
            return TaskSeen(state=TaskState.DONE)
        if page.status >= 500:  # noqa: PLR2004 — the server's own trouble, and not the task's
            raise Unreachable(f"{target.address}{path}: status {page.status}")
        return TaskSeen(state=TaskState.FAILED, messages=(message_of(page.body),))


async def _leave(seat: Seat) -> None:
    async with seat.lock:
        await seat.log_out()


async def _maybe(seat: Seat, path: str | None) -> Reply | None:
    """What a BMC may be without: of what cannot be understood nothing is known."""
    try:
        return None if path is None else await seat.get(path)
    except UnexpectedReply:
        return None


def _resets(place: Place, system: Reply) -> frozenset[str] | None:
    return resets_in(reset_of(system), place.reset_info)
