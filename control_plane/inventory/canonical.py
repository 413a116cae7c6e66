"""The digest of a site's declaration: equal meaning, equal digest, however the files are laid out.

The form is versioned: a release that resolves the same files differently must also digest differently.
Not in it: comments, order, line numbers, and the wording of descriptions and sources.
"""

from __future__ import annotations

from typing import Final

import msgspec

from control_plane.core.catalogue import Release
from control_plane.core.digest import digest_of
from control_plane.core.fleet import Intent, Site

FORM: Final = "gridplane.dev/site/1"


def digest_of_site(site: Site) -> str:
    """SHA-256 (hex) over the canonical form."""
    intents: dict[int, int] = {}
    resolved: list[object] = []
    for device in site.devices:
        if id(device.intent) not in intents:
            intents[id(device.intent)] = -1
            resolved.append(device.intent)
    # Equal intents of different racks are one: how racks are grouped says nothing about devices.
    forms = {id(i): digest_of(_bare(i)) for i in resolved if isinstance(i, Intent)}
    return digest_of(
        FORM,
        (site.id, site.name, site.tenure, site.time_zone, site.clusters),
        (site.budgets, site.strategy),
        [_bare(node) for _, node in sorted(site.feeds.items())],
        [_bare(rack) for _, rack in sorted(site.racks.items())],
        sorted((host.name, digest_of(_bare(host))) for host in site.hosts),
        sorted((name, owner) for name, owner in site.owners.items() if name in _owners(site)),
        sorted((d.id, digest_of(_bare(d))) for d in {id(d.type): d.type for d in site.devices}.values()),
        [
            (
                d.asset, d.rack, d.slot, d.type.id, forms[id(d.intent)], d.address, d.subnet, d.mac,
                d.serial, d.bin_ths, d.state, d.state_reason, d.missing_boards, d.since, d.ticket,
                *((d.renumbering,) if d.renumbering else ()), *((d.bmc,) if d.bmc else ()),
                *((d.bmc_sha256,) if d.bmc_sha256 else ()),
            )
            for d in site.devices
        ],
        # Last and only where there is one: a declaration without is what it was.
        *([sorted((key, _release(one)) for key, one in site.releases.items())] if site.releases else ()),
        *((site.bmc,) if site.bmc else ()),
        *((site.contingencies,) if site.contingencies else ()),
        *([[_bare(meter) for _, meter in sorted(site.meters.items())]] if site.meters else ()),
    )  # fmt: skip


def _release(release: Release) -> dict[str, object]:
    return {
        name: value
        for name, value in _bare(release).items()
        if name not in {"id", "note", "by_hand"}
    }


def _owners(site: Site) -> set[str]:
    return {device.intent.owner for device in site.devices}


_LATER: Final = frozenset({"gpu", "bmc_sha256", "emergency_w", "breaker"})
"""Fields that the form got later: a declaration without them is what it was."""


def _bare(value: msgspec.Struct) -> dict[str, object]:
    """A value without where it was written, and whose word it is."""
    return {
        name: found
        for name in value.__struct_fields__
        if name not in {"where", "origins", "source"}
        and ((found := getattr(value, name)) is not None or name not in _LATER)
    }
