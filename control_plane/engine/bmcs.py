"""The BMCs of a site as the driver is handed them: which there are, and how each is known."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from control_plane.core.fleet import BmcAccess, Site
from control_plane.core.memory import Pin
from control_plane.core.ports import BmcTarget, Secrets
from control_plane.core.tls import TlsPin


class BmcPlace(msgspec.Struct, frozen=True, kw_only=True):
    """One BMC, as it is declared."""

    asset: str
    """The GPU node, or host, that it belongs to."""
    rack: str | None
    """`None` of a host."""
    address: str
    sha256: str | None
    """Of its certificate; `None`: the site's authority signs it, or nothing is sent to it."""
    serial: str | None
    """Of the machine behind it, where the placement record has it."""


def bmcs_of(site: Site) -> Iterator[BmcPlace]:
    """Every BMC of a site, those of GPU nodes first."""
    for device in site.devices:
        if device.bmc is not None and device.is_managed:
            yield BmcPlace(
                asset=device.asset,
                rack=device.rack,
                address=device.bmc,
                sha256=device.bmc_sha256,
                serial=device.serial,
            )
    for host in site.hosts:
        if host.bmc is not None:
            yield BmcPlace(
                asset=host.name, rack=None, address=host.bmc, sha256=host.bmc_sha256, serial=None
            )


def target_of(access: BmcAccess, place: BmcPlace, secrets: Secrets) -> BmcTarget:
    """What the driver is handed. Its own certificate counts before the authority.

    Raises:
        DeclarationError: the password is not where the declaration says; the operator of this host acts.
    """
    credentials = access.credentials
    pin = Pin(mac=None, serial=place.serial, source="placement") if place.serial else None
    return BmcTarget(
        asset=place.asset,
        address=place.address,
        user=credentials.user,
        password=secrets.resolve(credentials.secret_ref),
        tls=_tls(access, place),
        pin=pin,
        port=access.port,
    )


def _tls(access: BmcAccess, place: BmcPlace) -> TlsPin | None:
    if place.sha256 is not None:
        return TlsPin(sha256=place.sha256)
    return TlsPin(ca_pem=access.authority_pem) if access.authority_pem else None
