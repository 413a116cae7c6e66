"""One `BmcChange` as one Redfish request, and what its answer means. Pure.

A write is made from what was just read; where something that it hangs on is not known, there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

import msgspec

from control_plane.core import limits
from control_plane.core.bmc import (
    BmcChange,
    BootOnce,
    EjectMedia,
    InsertMedia,
    Locate,
    Power,
    PowerCycle,
    PowerOff,
    PowerOn,
    Restart,
    Sent,
    SetBios,
    SetPowerCap,
    UpdateFirmware,
)
from control_plane.core.bmc_quirks import Quirks
from control_plane.core.change import Applied, Failed, InProgress, Outcome, RefusedByDevice
from control_plane.core.errors import UnexpectedReply
from control_plane.drivers.driver import Reply, decode_reply
from control_plane.drivers.redfish_reads import TARGETS, power_of
from control_plane.drivers.redfish_session import message_of, path_of

if TYPE_CHECKING:
    from control_plane.drivers.http_framing import Page

CHECK_S: Final = 30.0
"""Device seconds after which a look may tell what became of a write whose fate is not known."""
_ACCEPTED: Final = 202


class Around(msgspec.Struct, frozen=True, kw_only=True):
    """What was read for a write, freshly. `None`: not needed for it, or not there."""

    system_path: str
    system: Reply
    quirks: Quirks
    resets: frozenset[str] | None = None
    bios: tuple[str, Reply] | None = None
    """Path of the settings object, and what stands there."""
    cap: tuple[str, Reply] | None = None
    """`Power` or `EnvironmentMetrics`, whichever has the cap."""
    drive: Reply | None = None
    update: Reply | None = None
    inventory: dict[str, str] = {}
    """Firmware id → path."""
    address: str = ""


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """One request that changes something."""

    method: str
    path: str
    body: Reply
    etag: str | None = None
    pending: bool = False
    """Takes effect at the next reset."""


def write_of(change: BmcChange, around: Around) -> Write | Failed:
    """The request, or why there is none."""
    match change:
        case PowerOn() | PowerOff() | PowerCycle() | Restart():
            return _reset(change, around)
        case BootOnce(target=target):
            if target not in TARGETS:
                return Failed(f"nothing boots from {target}", retryable=False)
            boot = {
                "BootSourceOverrideEnabled": "Once",
                "BootSourceOverrideTarget": TARGETS[target],
                "BootSourceOverrideMode": "UEFI",
            }
            return _patch(around, around.system_path, around.system, {"Boot": boot})
        case Locate(lit=lit):
            return _locate(around, lit=lit)
        case SetBios():
            return _set_bios(change, around)
        case SetPowerCap(watts=watts):
            return _set_cap(watts, around)
        case InsertMedia(image_uri=uri):
            body = {"Image": uri, "Inserted": True, "WriteProtected": True}
            return _media(around, "InsertMedia", body)
        case EjectMedia():
            return _media(around, "EjectMedia", {})
        case UpdateFirmware():
            return _update(change, around)
        case _:
            assert_never(change)


def told(page: Page, write: Write, address: str) -> Sent:
    """What an answer means. That it was done, only a look afterwards tells."""
    status, words = page.status, message_of(page.body) if page.body else ""
    what = f"status {status}" + (f": {words}" if words else "")
    outcome: Outcome
    if status == _ACCEPTED:
        task = _task(page, address)
        if write.pending:
            return Sent(outcome=Applied(what), task=task, pending=True)
        return Sent(outcome=InProgress(limits.BMC_TASK_EVERY_S, what), task=task)
    if 200 <= status < 300:  # noqa: PLR2004 — what HTTP calls success
        return Sent(outcome=Applied(what), task=_task(page, address), pending=write.pending)
    if status in (429, 503):
        outcome = Failed(f"the BMC is busy ({what})", retryable=True)
    elif status == 501 or 300 <= status < 500:  # noqa: PLR2004 — not there, elsewhere, or refused
        outcome = RefusedByDevice(what)
    else:
        outcome = InProgress(CHECK_S, what)
    return Sent(outcome=outcome)


# ----------------------------------------------------------------------------------------------------


def _reset(change: PowerOn | PowerOff | PowerCycle | Restart, around: Around) -> Write | Failed:
    target = _action(around.system, "#ComputerSystem.Reset", around.address)
    if target is None:
        return Failed("this system cannot be reset", retryable=False)
    takes = around.resets or around.quirks.resets
    wanted: tuple[str, ...]
    match change:
        case PowerOn():
            wanted = ("On", "ForceOn")
        case PowerOff(forced=False):
            wanted = ("GracefulShutdown",)
        case PowerOff():
            wanted = ("ForceOff",)
        case PowerCycle():
            wanted = ("PowerCycle",)
        case Restart(forced=False):
            wanted = ("GracefulRestart",)
        case Restart():
            forced = around.quirks.forced_restart
            if forced is None:
                return Failed(
                    "a forced restart hangs this maker's hosts: off, wait, on", retryable=False
                )
            wanted = (forced,)
        case _:
            assert_never(change)
    # What a BMC tells of itself goes before what we know of its maker; where neither says, it is asked.
    for kind in wanted:
        if not takes or kind in takes:
            return Write(method="POST", path=target, body={"ResetType": kind})
    return Failed(f"this BMC takes no {wanted[0]}: {', '.join(sorted(takes))}", retryable=False)


def _locate(around: Around, *, lit: bool) -> Write | Failed:
    if "LocationIndicatorActive" in around.system:
        body: Reply = {"LocationIndicatorActive": lit}
    elif "IndicatorLED" in around.system:
        body = {"IndicatorLED": "Lit" if lit else "Off"}
    else:
        return Failed("this system tells no locate light", retryable=False)
    return _patch(around, around.system_path, around.system, body)


def _set_bios(change: SetBios, around: Around) -> Write | Failed:
    if around.bios is None:
        return Failed("this system has no BIOS settings", retryable=False)
    if not change.attributes:
        return Failed("no attribute to set", retryable=False)
    body: Reply = {"Attributes": dict(change.attributes)}
    if around.quirks.bios_apply_time:
        body["@Redfish.SettingsApplyTime"] = {"ApplyTime": "OnReset"}
    path, settings = around.bios
    write = _patch(around, path, settings, body)
    return msgspec.structs.replace(write, pending=True)


def _set_cap(watts: int | None, around: Around) -> Write | Failed:
    if around.cap is None:
        return Failed("this BMC has no power cap", retryable=False)
    path, resource = around.cap
    if "PowerLimitWatts" in resource:
        limit: Reply = {"ControlMode": "Disabled"}
        if watts is not None:
            limit = {"SetPoint": watts, "ControlMode": "Automatic"}
        body: Reply = {"PowerLimitWatts": limit}
    else:
        # A PATCH of an array names its members by place (DSP0266 §7.7.3); the first is the whole host.
        body = {"PowerControl": [{"PowerLimit": {"LimitInWatts": watts}}]}
    return _patch(around, path, resource, body)


def _media(around: Around, action: str, body: Reply) -> Write | Failed:
    if around.drive is None:
        return Failed("this BMC has no virtual drive for CDs", retryable=False)
    target = _action(around.drive, f"#VirtualMedia.{action}", around.address)
    if target is None:
        return Failed(f"its virtual drive has no {action}", retryable=False)
    return Write(method="POST", path=target, body=body)


def _update(change: UpdateFirmware, around: Around) -> Write | Failed:
    power = power_of(around.system)
    if power not in (Power.ON, Power.OFF):
        state = "unknown" if power is None else power.value
        return Failed(f"no image is written while the host's power is {state}", retryable=True)
    target = _action(around.update or {}, "#UpdateService.SimpleUpdate", around.address)
    if target is None:
        return Failed("this BMC fetches no image (SimpleUpdate)", retryable=False)
    missing = [id_ for id_ in change.targets if id_ not in around.inventory]
    if missing:
        return Failed(f"its firmware inventory has no {', '.join(missing)}", retryable=False)
    body: Reply = {"ImageURI": change.image_uri}
    if change.targets:
        body["Targets"] = [around.inventory[id_] for id_ in change.targets]
    return Write(method="POST", path=target, body=body)


def _patch(around: Around, path: str, resource: Reply, body: Reply) -> Write:
    etag = resource.get("@odata.etag") if around.quirks.needs_etag else None
    return Write(method="PATCH", path=path, body=body, etag=etag if isinstance(etag, str) else None)


def _action(resource: Reply, name: str, address: str) -> str | None:
    actions = resource.get("Actions")
    action = actions.get(name) if isinstance(actions, dict) else None
    return path_of(action.get("target"), address) if isinstance(action, dict) else None


def _task(page: Page, address: str) -> str | None:
    """Where the task is: the body is one, or `Location` leads to its monitor."""
    try:
        body = decode_reply(page.body, "") if page.body else {}
    except UnexpectedReply:
        body = {}
    if "TaskState" in body:
        path = path_of(body.get("@odata.id"), address)
        if path is not None:
            return path
    return path_of(page.headers.get("location"), address)
