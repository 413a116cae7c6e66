"""What must hold of a site's BMCs: each that is to be spoken to is known by a certificate."""

from __future__ import annotations

from control_plane.inventory import errors
from control_plane.inventory.expand import gpu_sources
from control_plane.inventory.problems import Problems
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
