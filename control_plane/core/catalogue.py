"""Firmware that may be installed: releases, their images, and whether one of them fits a machine. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_DATE: Final = re.compile(
    r"^[A-Za-z]{3} ([A-Za-z]{3}) +([0-9]{1,2}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) [A-Z+0-9]{1,5} ([0-9]{4})$"
)
"""How stock Antminer prints its version: `Fri Aug 25 17:28:38 CST 2023`, the time of its build."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One file that a machine takes."""

    file: str
    """Its name in a store: for people, and for whoever looks there first. The digest decides."""
    sha256: str
    """Hex."""
    size_bytes: int
    control_boards: tuple[str, ...] = ()
    """As machines print them, in lower case; empty: any."""
    hardware_revisions: tuple[str, ...] = ()
    """As above."""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a family, as the catalogue has it."""

    id: str
    family: str
    version: str
    """As a machine that runs it prints it."""
    types: frozenset[str]
    """Device types that it was approved for."""
    images: tuple[Image, ...]
    min_from_version: str | None = None
    """It is not installed over an older one."""
    flash_s: float
    """Device seconds from the first byte until the machine answers again, at the longest."""
    settle_s: float
    """Device seconds until its hash speaks for or against it: the gate's soak."""
    can_roll_back: bool
    voids_warranty: bool
    note: str = ""
    """On warranty and whatever else people should read."""
    by_hand: tuple[str, ...] = ()
    """What a person does, step by step, to install it where another family runs."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine tells of itself before it is given an image; `None` where it tells nothing."""

    version: str | None
    model: str | None
    control_board: str | None = None
    hardware_revision: str | None = None


class Unfit(msgspec.Struct, frozen=True):
    """Why no image of a release may be given to a machine, in words: a person acts."""

    reason: str


Releases = Mapping[tuple[str, str, str], Release]
"""By device type, family and version."""


def version_key(version: str) -> tuple[int, ...] | None:
    """By what versions of one family are ordered; `None` where a text cannot be put in order.

    A build time where it is one, else the numbers in the text.

    >>> version_key("20231103.18.REL")
    (20231103, 18)
    >>> version_key("Fri Aug 25 17:28:38 CST 2023")
    (2023, 8, 25, 17, 28, 38)
    """
    dated = _DATE.match(version.strip())
    if dated and (month := _MONTHS.get(dated[1].lower())):
        day, hour, minute, second, year = (int(dated[group]) for group in (2, 3, 4, 5, 6))
        return (year, month, day, hour, minute, second)
    found = tuple(int(digits) for digits in re.findall(r"[0-9]{1,18}", version))
    return found or None


def image_for(
    images: tuple[Image, ...],
    facts: Facts,
    *,
    models: tuple[str, ...],
    min_from_version: str | None,
) -> Image | Unfit:
    """The one image that a machine may be given.

    Args:
        images: of the release for its family and device type.
        facts: what the machine told just now. What it did not tell fits nothing that asks for it.
        models: how its device type prints its model, in lower case; empty: any.
        min_from_version: of the release.
    """
    if models and (facts.model or "").casefold() not in models:
        return Unfit(
            f"it says {facts.model or 'no model'}, and the release is for {', '.join(models)}"
        )
    if min_from_version is not None:
        least, now = version_key(min_from_version), version_key(facts.version or "")
        if least is None or now is None:
            return Unfit(
                f"it runs {facts.version or 'a version it does not tell'}, which has no order"
            )
        if now < least:
            return Unfit(f"it runs {facts.version}, older than {min_from_version}")
    fitting = [image for image in images if _fits(image, facts)]
    if len(fitting) == 1:
        return fitting[0]
    board = facts.control_board or "unknown"
    revision = facts.hardware_revision or "unknown"
    return Unfit(
        f"{'several images fit' if fitting else 'no image fits'}: control board {board}, hardware "
        f"revision {revision}"
    )


def _fits(image: Image, facts: Facts) -> bool:
    board, revision = facts.control_board or "", facts.hardware_revision or ""
    return (not image.control_boards or board.casefold() in image.control_boards) and (
        not image.hardware_revisions or revision.casefold() in image.hardware_revisions
    )
