"""The network settings of VNish: the part `network` of `/settings`. Pure.

Its members are `hostname`, `dhcp`, `ipaddress`, `netmask`, `gateway` and the list `dnsservers` (swagger
document). A post keeps the parts that it leaves out; that this holds for members of `network` too, no source
tells, so all of them are sent, the host name as it was read. Whether they are in force at once or with the
next boot the device says itself, by `reboot_required` of its answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from control_plane.core.errors import UnexpectedReply

if TYPE_CHECKING:
    from control_plane.core.fleet import StaticNetwork
    from control_plane.drivers.driver import Reply


def read_hostname(document: Reply) -> str:
    """The host name that is stored, from `/settings`.

    Raises:
        UnexpectedReply: it cannot be read.
    """
    network = document.get("network")
    name = network.get("hostname") if isinstance(network, dict) else None
    if not isinstance(name, str):
        raise UnexpectedReply("the settings do not tell the host name")
    return name


def with_static(network: StaticNetwork, hostname: str) -> bytes:
    """The document that has it stand at a static address under the host name that it has."""
    part = {
        "hostname": hostname,
        "dhcp": False,
        "ipaddress": network.address,
        "netmask": network.netmask,
        "gateway": network.gateway,
        "dnsservers": network.dns,
    }
    return msgspec.json.encode({"network": part})
