"""The guard's two files: what it was given, and what it remembers. Each is replaced as a whole.

What it was given is the bundle and the ways to machines and meters: the engine, or `gridplane guard give`,
puts it there. References to passwords are in it, passwords are not.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from control_plane.core.errors import StoreError
from control_plane.core.fleet import DeviceType
from control_plane.core.guard_bundle import Bundle, BundleError, Rung, checked
from control_plane.core.guard_state import Decision, State
from control_plane.core.memory import Pin
from control_plane.core.meter import Meter
from control_plane.engine.durable import replace_file

GIVEN: Final = "given.json"
KEPT: Final = "kept.json"
SHOWN: Final = "shown.json"
KEPT_VERSION: Final = 1


class Way(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one machine is reached."""

    address: str
    family: str
    type: str
    """Of `Given.types`: what its modes draw."""
    pin: Pin
    """Without one nothing is written to it."""
    user: str = ""
    secret_ref: str | None = None
    write_enabled: bool | None = None


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """All that a guard is given."""

    bundle: Bundle
    ways: Mapping[str, Way]
    """By asset. A machine without one is counted, and nobody lowers it."""
    types: Mapping[str, DeviceType]
    """By id."""
    meters: tuple[Meter, ...]
    caps_w: Mapping[str, float] = {}
    """By node, what a person allowed, where that is less than its rating gives. It is in the bundle, too."""


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    sha256: str
    given: msgspec.Raw


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What outlives the process."""

    version: int = KEPT_VERSION
    state: State = State()


class Lowered(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine was told to come down to, and when first."""

    rung: Rung
    at_s: float


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What people and the engine may know of it: written after each look that changed anything."""

    at_s: float
    site: str
    revision: str
    decision: Decision
    lowered: Mapping[str, Lowered]
    """By asset."""


def give(folder: Path, given: Given) -> None:
    """Have it on the disk when this returns; a guard that runs takes it up at its next look.

    Raises:
        BundleError: no guard could follow it; what was there stays.
        StoreError: the disk did not take it; what was there stays.
    """
    checked(given.bundle)
    body = msgspec.json.encode(given)
    digest = hashlib.sha256(body).hexdigest()
    replace_file(
        folder / GIVEN, msgspec.json.encode(_Envelope(sha256=digest, given=msgspec.Raw(body)))
    )


def given_in(folder: Path) -> Given:
    """What the guard was given.

    Raises:
        BundleError: there is nothing, or it is damaged, or of a newer release; who gave it acts.
    """
    path = folder / GIVEN
    try:
        envelope = msgspec.json.decode(path.read_bytes(), type=_Envelope)
        if hashlib.sha256(envelope.given).hexdigest() != envelope.sha256:
            raise BundleError(f"{path} is damaged: its digest is another; give it anew")
        given = msgspec.json.decode(envelope.given, type=Given)
    except FileNotFoundError:
        raise BundleError(f"{path} is not there: run `gridplane guard give`") from None
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise BundleError(f"{path} cannot be read: {error}; give it anew") from error
    checked(given.bundle)
    return given


def keep(folder: Path, state: State) -> None:
    """Have the state on the disk when this returns.

    Raises:
        StoreError: the disk did not take it.
    """
    replace_file(folder / KEPT, msgspec.json.encode(Kept(state=state)))


def kept_in(folder: Path) -> State:
    """What the guard before remembered; nothing where there was none, or a damaged one, which is put aside.

    Without it machines are told again and breakers count as cold: what is above its cap is shed in any case.

    Raises:
        StoreError: it is of a newer release.
    """
    path = folder / KEPT
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return State()
    except (OSError, msgspec.DecodeError):
        with contextlib.suppress(OSError):
            path.replace(path.with_suffix(".damaged"))
        return State()
    if kept.version > KEPT_VERSION:
        raise StoreError(f"{path} is of a newer release (version {kept.version}): use that")
    return kept.state


def show(folder: Path, shown: Shown) -> None:
    """Let others know. Not durable: it is told again."""
    replace_file(folder / SHOWN, msgspec.json.encode(shown), is_durable=False)


def shown_in(folder: Path) -> Shown | None:
    """What the guard let others know; `None` where it never did."""
    try:
        return msgspec.json.decode((folder / SHOWN).read_bytes(), type=Shown)
    except (OSError, msgspec.DecodeError):
        return None
