"""The network of a cluster lab: a namespace for the site, one for each host, a cable between them.

Routed, without a bridge: the site's namespace is every host's gateway, and the place where simulated
devices answer at their declared addresses. Nothing of it is in the machine's own namespace.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable, Sequence
from pathlib import Path

from control_plane.lab.commands import CommandFailed, run
from control_plane.lab.records import HostRecord

GATEWAY = "169.254.1.1"
"""Link-local (RFC 3927): no declared address is like it."""
SITE = "site"
_NAMES = Path("/run/netns")


class Network:
    """The namespaces of one lab, by its tag."""

    def __init__(self, tag: str) -> None:
        self._prefix = f"gridplane-{tag}-"

    def path(self, name: str = SITE) -> Path:
        """The namespace of a host, or the site's own."""
        return _NAMES / f"{self._prefix}{name}"

    def inside(self, *command: str | Path, name: str = SITE) -> list[str | Path]:
        """The command, run in a namespace."""
        return ["nsenter", f"--net={self.path(name)}", *command]

    def names(self) -> list[str]:
        """The namespaces that there are."""
        if not _NAMES.is_dir():
            return []
        return sorted(
            p.name.removeprefix(self._prefix)
            for p in _NAMES.iterdir()
            if p.name.startswith(self._prefix)
        )

    def stands(self) -> bool:
        """Whether the site's namespace is there; not so after the machine's own reboot."""
        return SITE in self.names()

    def make(self, devices: Iterable[str]) -> None:
        """Make the site's namespace anew, and nothing plugged into it.

        Args:
            devices: CIDRs that it answers for.

        Raises:
            CommandFailed: the kernel refuses something; its words are in the message.
        """
        self.remove()
        run("ip", "netns", "add", self.path().name)
        local = [f"route add local {cidr} dev lo" for cidr in devices]
        self._batch(
            self.path().name, ["link set lo up", f"address add {GATEWAY}/32 dev lo", *local]
        )
        self._forward(SITE)

    def plug(self, host: HostRecord) -> None:
        """Give a host a new namespace and a cable: what it had set up in the old one is gone, as at a boot.

        Raises:
            CommandFailed: as `make`.
        """
        own, cable, site = self.path(host.name).name, f"h{host.number}", self.path().name
        if host.name in self.names():
            # The cable first: with the namespace alone it would go some time later.
            with contextlib.suppress(CommandFailed):
                self._batch(site, [f"link delete {cable}"])
            run("ip", "netns", "delete", own)
        run("ip", "netns", "add", own)
        self._batch(site, [f"link add {cable} type veth peer name eth0 netns {own}"])
        self._batch(
            own,
            [
                "link set lo up",
                "link set eth0 up",
                f"address add {host.address}/32 dev eth0",
                f"route add {GATEWAY} dev eth0 scope link",
                f"route add default via {GATEWAY} src {host.address}",
            ],
        )
        self._batch(
            site,
            [
                f"link set {cable} up",
                f"route add {host.address}/32 dev {cable}",
                f"route add {host.pods} via {host.address} dev {cable} onlink",
            ],
        )
        self._forward(host.name)

    def remove(self) -> None:
        """Take it away; the cables go with the namespaces."""
        for name in self.names():
            with contextlib.suppress(FileNotFoundError):
                run("ip", "netns", "delete", self.path(name).name)

    def _batch(self, namespace: str, lines: Sequence[str]) -> None:
        run("ip", "-netns", namespace, "-batch", "-", text="\n".join(lines) + "\n")

    def _forward(self, name: str) -> None:
        run(*self.inside("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward", name=name))


def collapsed(addresses: Iterable[str]) -> list[str]:
    """The fewest CIDRs that hold these addresses, or networks, and no other."""
    networks = (ipaddress.IPv4Network(address) for address in addresses)
    return [str(network) for network in ipaddress.collapse_addresses(networks)]
