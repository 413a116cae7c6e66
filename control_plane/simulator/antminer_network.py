"""What `set_network_conf.cgi` makes of a document.

Read off the script of a stock build with JSON pages (2020 and later; from a firmware image that others
unpacked): each member goes through `jq -r`, so that a number and its text are the same and what is missing
is the word `null`; names and addresses are held against patterns, of DNS servers only one is taken; the
answer goes out; then the file is written, and a second later the network starts anew, without a boot.

The patterns are loose (`999.1.1.1` is an address), and whatever is not 1 (DHCP) is static: both are taken
as the device takes them, and leave a machine that nobody reaches.
"""

from __future__ import annotations

import re
from typing import Any

from control_plane.simulator.antminer_unit import Network

RESTART_AFTER_S = 1.0
"""Wire seconds from the answer until the network restarts under its connection."""
_DHCP, _STATIC = "1", "2"
_ADDRESS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
_LABEL = r"[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"({_LABEL}\.)*{_LABEL}")
_ADDRESSES = (("ipAddress", "IP"), ("ipSub", "Netmask"), ("ipGateway", "Gateway"), ("ipDns", "DNS"))


def read_network(document: dict[str, Any] | None) -> tuple[Network | None, str, str]:
    """The settings to store, `None` where the script refuses; with its code and its message.

    `None` for the document is what is not JSON: then each member is blank.
    """
    told = {} if document is None else {key: _printed(value) for key, value in document.items()}
    blank = "" if document is None else "null"
    kind = told.get("ipPro", blank)
    host = told.get("ipHost", blank)
    if _HOST.fullmatch(host) is None:
        return None, "N001", "Hostname invalid!"
    if kind == _DHCP:
        return Network(proto="DHCP", hostname=host), "N000", "OK!"
    if kind != _STATIC:
        return Network(proto="Static", netmask="", hostname=host), "N000", "OK!"
    for number, (key, name) in enumerate(_ADDRESSES, 2):
        if _ADDRESS.fullmatch(told.get(key, blank)) is None:
            return None, f"N00{number}", f"{name} invalid!"
    network = Network(
        proto="Static",
        hostname=host,
        ip=told["ipAddress"],
        netmask=told["ipSub"],
        gateway=told["ipGateway"],
        dns=told["ipDns"],
    )
    return network, "N000", "OK!"


def _printed(value: object) -> str:
    """As `jq -r` prints it; of lists and objects no member is made."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
