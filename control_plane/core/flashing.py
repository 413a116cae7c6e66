"""One device on its way to another firmware: the steps, and what a look says about them. Pure.

Each step is kept before what follows from it is done, so that whoever takes over knows the worst that may
have happened:

    pending → committing → rebooting → verifying → done | rolled_back | quarantined

`committing` is kept before the first byte of an image: from then on this operation never sends one again,
whatever is found. A device that ends `quarantined` has a sentence that says why; a person, or a new
operation, goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from control_plane.core import limits
from control_plane.core.memory import Pin
from control_plane.core.units import j_per_th


class FlashStep(StrEnum):
    """How far it has come; the words of `DeviceOperation`."""

    PENDING = "pending"
    """Nothing has left for it."""
    COMMITTING = "committing"
    """The image leaves, or left: it may be on the device, in whole, in part, or not at all."""
    REBOOTING = "rebooting"
    """It left, and the device writes it and boots."""
    VERIFYING = "verifying"
    """The device tells the new version; whether it hashes is to be seen."""
    DONE = "done"
    ROLLED_BACK = "rolled_back"
    QUARANTINED = "quarantined"


FINAL: Final = frozenset({FlashStep.DONE, FlashStep.ROLLED_BACK, FlashStep.QUARANTINED})
COMMITTED: Final = frozenset({FlashStep.COMMITTING, FlashStep.REBOOTING, FlashStep.VERIFYING})
"""Between the first byte and the end: nobody may cut the device's power or write anything else to it."""


class FlashEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One device of an operation."""

    asset: str
    step: FlashStep = FlashStep.PENDING
    attempt: int = 0
    """How often an image left for it: 0 or 1."""
    before: str | None = None
    """The version that it told before."""
    image: str | None = None
    """SHA-256 (hex) of what left for it."""
    hash_before_ths: float | None = None
    power_before_w: float | None = None
    """As the machine told it: many estimate."""
    detail: str = ""
    committed_at_s: float | None = None
    """When the first byte was about to leave, in policy seconds since the epoch."""
    booted_at_s: float | None = None
    """When it first told the new version."""
    after: str | None = None
    """The version that it tells since."""
    hash_after_ths: float | None = None
    """What it hashed when it was found well."""
    power_after_w: float | None = None
    """What it drew then, as it told."""

    @property
    def is_final(self) -> bool:
        """Whether this operation has nothing more to do to it."""
        return self.step in FINAL

    @property
    def j_per_th_before(self) -> float | None:
        """Joules per terahash before, at the device."""
        return _efficiency(self.power_before_w, self.hash_before_ths)

    @property
    def j_per_th_after(self) -> float | None:
        """Joules per terahash when it was found well, at the device."""
        return _efficiency(self.power_after_w, self.hash_after_ths)


class Purpose(StrEnum):
    """What a grant is for."""

    WAVE = "wave"
    """Machines of a wave, by the Job that was declared for it."""
    SWEEP_UP = "sweep_up"
    """Machines that were not fit at their turn, or more of a wave than one round may take."""
    ROLL_BACK = "roll_back"
    """Machines of a round that failed, to the firmware that they ran before."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine lets somebody work on, and until when; the steps of each device are its journal."""

    operation: str
    rollout: str
    """Id of the firmware rollout that it belongs to."""
    purpose: Purpose = Purpose.WAVE
    wave: int = 0
    """Of the rollout, from 0."""
    round: int = 0
    """Of the wave, from 0."""
    digest: str
    """Of the bundle that it holds for."""
    fence: int
    """Under which it was made."""
    entries: Mapping[str, FlashEntry]
    """Asset → how far it has come."""
    pins: Mapping[str, Pin] = {}
    """Asset → who it is, where the engine knows better than the declaration."""
    addresses: Mapping[str, str] = {}
    """Asset → where it is, likewise."""
    at_once: int
    """Devices that may be down together."""
    deadline_s: float
    """Seconds since the epoch: nothing is begun after it."""

    def locked(self, now_s: float) -> frozenset[str]:
        """Devices that nobody else may write to, or cut the power of.

        Those that may be begun count: whoever works on the grant may do so this very moment.
        """
        may_begin = now_s < self.deadline_s
        return frozenset(
            asset
            for asset, entry in self.entries.items()
            if entry.step in COMMITTED or (may_begin and entry.step is FlashStep.PENDING)
        )


def after_boot(
    entry: FlashEntry, told: str | None, *, wanted: str, waited_s: float, flash_s: float
) -> FlashEntry:
    """The entry after a look at a device that an image has left for.

    Args:
        entry: in `committing` or `rebooting`.
        told: the version that it tells; `None` where it does not answer.
        wanted: the release's.
        waited_s: since the image began to leave.
        flash_s: after which it has to be back.
    """
    if told == wanted:
        return msgspec.structs.replace(entry, step=FlashStep.VERIFYING, after=told, detail="")
    if waited_s < flash_s:
        # It answers until it boots, and then not for a while.
        return entry
    if told is None:
        why = f"it has not answered for {waited_s / 60:.0f} min since an image left for it"
    elif told == entry.before:
        why = f"it still runs {told}: the image did not take"
    else:
        why = f"it runs {told}, which is neither what it ran nor {wanted}"
    return quarantined(entry, why)


def after_settling(
    entry: FlashEntry,
    told: str | None,
    hashrate_ths: float | None,
    power_w: float | None,
    *,
    wanted: str,
    is_over: bool,
) -> FlashEntry:
    """The entry after a look at a device that told the new version once; the same where it has to go on.

    Args:
        entry: in `verifying`.
        told: the version that it tells; `None` where it does not answer.
        hashrate_ths: what it hashes. One that hashed nothing before has nothing to prove.
        power_w: what it draws, as it tells.
        wanted: the release's.
        is_over: whether its time is.
    """
    if told is None:
        why = "it told the new version once, and does not answer since"
        return quarantined(entry, why) if is_over else entry
    if told == wanted:
        needed_ths = (entry.hash_before_ths or 0.0) * limits.FAILURE_HASH_SHARE
        if (hashrate_ths or 0.0) < needed_ths:
            return entry
        return msgspec.structs.replace(
            entry,
            step=FlashStep.DONE,
            hash_after_ths=hashrate_ths,
            power_after_w=power_w,
            detail="",
        )
    if told == entry.before:
        why = f"it went back to {told}"
        return msgspec.structs.replace(entry, step=FlashStep.ROLLED_BACK, after=told, detail=why)
    return quarantined(entry, f"it runs {told}, which is neither what it ran nor {wanted}")


def _efficiency(power_w: float | None, hashrate_ths: float | None) -> float | None:
    if power_w is None or hashrate_ths is None:
        return None
    return j_per_th(power_w=power_w, hashrate_ths=hashrate_ths)


def quarantined(entry: FlashEntry, why: str) -> FlashEntry:
    """The entry of a device that this operation leaves as it is, for a person to look at."""
    return msgspec.structs.replace(entry, step=FlashStep.QUARANTINED, detail=why)
