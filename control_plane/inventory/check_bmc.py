"""What must hold of a site's BMCs: each that is to be spoken to, or to act, is known by a certificate."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.api.v1alpha1 import GpuRackDoc, ProfileDoc, SiteDoc
from control_plane.inventory import errors
from control_plane.inventory.expand import gpu_sources
from control_plane.inventory.problems import Problems
from control_plane.inventory.shape import File
from control_plane.inventory.source import quoted
from control_plane.inventory.tree import SiteTree


def check_bmcs(tree: SiteTree, problems: Problems) -> None:
    """Check certificates against the BMCs that they are of."""
    for gpu in gpu_sources(tree):
        listed, nodes = len(gpu.rack.bmc_certificates), gpu.rack.nodes
        if listed and listed != nodes:
            what = (
                f"rack {quoted(gpu.rack.id)} has {nodes} nodes, and certificates of {listed} BMCs"
            )
            spot = gpu.spot("bmc_certificates")
            fix = "list one of each node, in their order"
            problems.add(errors.OUT_OF_RANGE, gpu.doc, spot, what, fix=fix)
    for file in tree.hosts:
        for index, host in enumerate(file.data.hosts):
            if host.bmc_certificate and not host.bmc:
                what = f"host {quoted(host.name)} has the certificate of a BMC, and no BMC"
                spot = file.doc.spot("hosts", index, "bmc_certificate")
                problems.add(
                    errors.OUT_OF_RANGE, file.doc, spot, what, fix="name its address: `bmc`"
                )


def check_remedies(
    tree: SiteTree, profiles: Mapping[str, File[ProfileDoc]], problems: Problems
) -> None:
    """Warn of GPU nodes for which remedies act, and whose BMCs are sent nothing."""
    if tree.site is None:
        return
    for gpu in gpu_sources(tree):
        profile = profiles.get(gpu.rack.profile)
        asks = profile.data.gpu if profile else None
        missing = _unreached(tree.site.data, gpu.rack)
        if asks is None or asks.remedies != "act" or not missing:
            continue
        what = (
            f"remedies act on rack {quoted(gpu.rack.id)} by its profile {quoted(gpu.rack.profile)}, "
            f"and {missing}: its nodes can only be drained and kept out of service"
        )
        problems.add(errors.REMEDIES_BY_HAND, gpu.doc, gpu.spot("profile"), what)


def _unreached(site: SiteDoc, rack: GpuRackDoc) -> str:
    """Why nothing is sent to the BMCs of a rack; empty: they are reached."""
    if site.bmc is None:
        return "site.yaml does not say how BMCs are reached"
    if not rack.bmc_certificates and site.bmc.authority is None:
        return "nobody says by which certificates its BMCs are known"
    return ""
