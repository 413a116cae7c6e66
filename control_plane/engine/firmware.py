"""What a firmware Job's pod does with its shard: under its grant, each device to the bundle's firmware."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from control_plane.core.errors import DeclarationError
from control_plane.core.firmware import About, Shard, ShardDevice
from control_plane.core.flashing import COMMITTED, FlashEntry, FlashStep, Grant
from control_plane.core.memory import Pin
from control_plane.core.ports import Secrets, Target
from control_plane.core.secret import Secret
from control_plane.engine.flash import Flasher, flash_all


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is said of one device."""

    asset: str
    step: str
    before: str | None = None
    after: str | None = None
    detail: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it is under way."""
        return self.step not in COMMITTED


NOT_GRANTED = "not_granted"
"""In the shard and not in the grant: not asked anything."""


def why_not(grant: Grant, about: About, *, now_s: float) -> str | None:
    """Why a grant permits nothing to be begun; `None` where it does."""
    if grant.digest != about.digest:
        return f"{grant.operation} is about {grant.digest}, and this bundle is {about.digest}"
    if now_s >= grant.deadline_s:
        return f"{grant.operation} ran out {now_s - grant.deadline_s:.0f} s ago"
    return None


async def flash_shard(
    shard: Shard,
    about: About,
    grant: Grant,
    flasher: Flasher,
    *,
    secrets: Secrets,
    say: Callable[[Line], None],
) -> tuple[Line, ...]:
    """Work on each device of a shard that is in the grant, as many at a time as it says.

    Args:
        shard: the devices.
        about: the bundle.
        grant: which of them, how far each has come, and until when.
        flasher: of the operation.
        secrets: where passwords are.
        say: told of each device as soon as it ended.

    Raises:
        ControlPlaneError: the journal did not take a step. What had begun is taken up by whoever runs next.
    """
    lines: list[Line] = []

    def tell(line: Line) -> None:
        lines.append(line)
        say(line)

    work: list[tuple[FlashEntry, Target]] = []
    for device in shard.devices:
        entry = grant.entries.get(device.asset)
        if entry is None:
            tell(Line(asset=device.asset, step=NOT_GRANTED))
            continue
        target = _target(device, about, grant, secrets)
        if isinstance(target, Target):
            work.append((entry, target))
        else:
            tell(Line(asset=device.asset, step=FlashStep.PENDING, detail=target))
    await flash_all(flasher, work, at_once=grant.at_once, say=lambda ended: tell(_line(ended)))
    return tuple(lines)


def _target(device: ShardDevice, about: About, grant: Grant, secrets: Secrets) -> Target | str:
    """Where and as whom a device is found, or why it is not."""
    address = grant.addresses.get(device.asset, device.address)
    if address is None:
        return "on DHCP, and the grant does not say where it was found"
    pin = grant.pins.get(device.asset)
    if pin is None:
        if device.mac is None and device.serial is None:
            return "nobody said who it is: run `gridplane trust`"
        pin = Pin(mac=device.mac, serial=device.serial, source="placement")
    credentials = about.bundle.credentials
    try:
        password = secrets.resolve(credentials.secret_ref) if credentials else Secret("")
    except DeclarationError as error:
        return error.findings[0].what
    return Target(
        asset=device.asset,
        address=address,
        user=credentials.user if credentials else "",
        password=password,
        pin=pin,
    )


def _line(entry: FlashEntry) -> Line:
    return Line(
        asset=entry.asset,
        step=entry.step,
        before=entry.before,
        after=entry.after,
        detail=entry.detail,
    )


def counted(lines: Collection[Line]) -> dict[str, int]:
    """How many devices ended how."""
    found: dict[str, int] = {}
    for line in lines:
        found[line.step] = found.get(line.step, 0) + 1
    return dict(sorted(found.items()))
