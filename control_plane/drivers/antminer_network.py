"""The network settings of a stock Antminer: one document, which its script holds against patterns. Pure.

`set_network_conf.cgi` of builds with JSON pages (2020 and later) takes `ipPro` (1 DHCP, 2 static), `ipHost`,
`ipAddress`, `ipSub`, `ipGateway` and one `ipDns`, on one line. It answers `N000 OK!`, or `N001` to `N005`
with what is invalid; then it writes the file and restarts the network, without a boot. Read off the script
in an unpacked image; the same document in AntFleet IP Manager (S19 XP+ Hyd., FR-1.27) and in the network
test of Foreman's agent.

The script of builds before that reads a form by the order of its members, checks nothing, and of such a
document makes a static setting without any address: the machine is lost. Those builds are told by
`get_system_info.cgi`, which has no `firmware_type` there (2017, L3+) and has one since (2020; KS5 Pro, 2024).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from control_plane.core.errors import UnexpectedReply
from control_plane.drivers.antminer_conf import Unwritable

if TYPE_CHECKING:
    from control_plane.core.fleet import StaticNetwork
    from control_plane.drivers.driver import Reply

_STATIC: Final = 2


def document(system_info: Reply, network_info: Reply, network: StaticNetwork) -> bytes:
    """The document to post, with the host name that the device has.

    Of the DNS servers it names the first: the script takes one.

    Raises:
        Unwritable: its script does not read documents.
        UnexpectedReply: the host name cannot be read.
    """
    if "firmware_type" not in system_info:
        raise Unwritable(
            "its pages are of before 2020, and would lose the address", retryable=False
        )
    host = network_info.get("conf_hostname")
    if not isinstance(host, str):
        raise UnexpectedReply("the network settings do not tell the host name")
    return msgspec.json.encode(
        {
            "ipHost": host,
            "ipPro": _STATIC,
            "ipAddress": network.address,
            "ipSub": network.netmask,
            "ipGateway": network.gateway,
            "ipDns": network.dns[0],
        }
    )
