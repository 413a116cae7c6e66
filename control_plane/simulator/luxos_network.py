"""What LuxOS makes of `netset`.

No source tells more of it than that it is there and wants a session (`api.json` of the luxos package); its
form, `key=value`, is that of `atmset`. Ours: the keys, that several DNS servers stand in one value with
blanks between, that what is left out stays, what is refused, and that the unit answers and then stands at
its new address at once, without a boot.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from control_plane.simulator.ipv4 import is_address, is_netmask
from control_plane.simulator.luxos_unit import Network

_WORDS = {"true": True, "false": False}
_ADDRESSES = {"ip": "ip", "mask": "netmask", "gateway": "gateway", "dns": "dns"}


def read_network(network: Network, values: Sequence[str]) -> Network | None:
    """The settings with what was given; `None` where that is refused."""
    given = dict(value.partition("=")[::2] for value in values)
    if not given or set(given) - {"dhcp", "hostname", *_ADDRESSES}:
        return None
    static = {name: given[key] for key, name in _ADDRESSES.items() if key in given}
    dhcp = _WORDS.get(given["dhcp"]) if "dhcp" in given else network.dhcp
    hostname = given.get("hostname", network.hostname)
    if dhcp is None or not hostname or (dhcp and static):
        return None
    after = replace(network, dhcp=dhcp, hostname=hostname, **static)
    if dhcp or after == replace(network, hostname=hostname):
        return after
    addresses = (after.ip, after.gateway, *after.dns.split())
    fits = all(map(is_address, addresses)) and is_netmask(after.netmask)
    return after if fits else None
