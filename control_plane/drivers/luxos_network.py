"""The network settings of LuxOS, as the command `netset`. Pure.

That there is one, and that it wants a session, is told by `api.json` of the luxos package; `config` tells
`DHCP`, `IPAddr`, `Netmask`, `Gateway`, `DNS Servers` and `Hostname`. No source shows what it is told and
answers. Its form, `key=value`, is that of `atmset` and `tempctrlset` (Luxor documentation). Ours are the
keys `dhcp`, `ip`, `mask`, `gateway`, `dns` (several with blanks between) and `hostname`, and that the unit
stands at its new address as soon as it has answered, without a boot.

So a first unit of a floor shows whether that holds. One that knows other keys refuses them, and stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import field

from control_plane.core.change import Failed
from control_plane.core.errors import UnexpectedReply
from control_plane.drivers import luxos_replies as replies
from control_plane.drivers.driver import clean
from control_plane.drivers.luxos_power import Command

if TYPE_CHECKING:
    from control_plane.core.fleet import StaticNetwork


class _Row(msgspec.Struct, gc=False):
    """Of `config`."""

    hostname: Any = field(default=None, name="Hostname")


class _Config(replies.Answer, gc=False):
    """The reply to `config`."""

    rows: list[_Row] | None = field(default=None, name="CONFIG")


def read_hostname(data: bytes, what: str) -> str:
    """The host name, from the reply to `config`; blank where it has none.

    Raises:
        UnexpectedReply, OversizedReply: it cannot be read.
    """
    told = replies.read_one(data, _Config, what)
    replies.check(told.status, what)
    name = told.rows[0].hostname if told.rows else None
    if not isinstance(name, str):
        raise UnexpectedReply(f"{what}: does not tell the host name")
    return name


def to_static(network: StaticNetwork, hostname: str) -> list[Command] | Failed:
    """The command that has a unit stand at a static address under the host name that it has."""
    if "," in hostname:
        # The device would take such a name for more than one value.
        return Failed(f"host name {clean(hostname)!r} cannot be named to it", retryable=False)
    values = [
        "dhcp=false",
        f"ip={network.address}",
        f"mask={network.netmask}",
        f"gateway={network.gateway}",
        f"dns={' '.join(network.dns)}",
    ]
    if hostname:
        values.append(f"hostname={hostname}")
    return [Command("netset", tuple(values))]
