"""A simulated Antminer with Bitmain's stock firmware: cgminer RPC on 4028, CGI scripts on port 80.

4028 (asic-devices reference §1): one JSON command per connection, a reply that ends in NUL, close.
It cannot write: cgminer's privileged commands are refused (`api-allow` is `A:0/0,W:*`), joined
commands (`a+b`) are not understood, `new_api` counts at the top of the command only: nested under
`parameter` it gives the old reply (ARS PR#325). The oldest build leaves out the comma between the
rows of `stats` (pyasic mends it; on which builds is our choice).

Port 80: see `antminer_web`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from control_plane.simulator import antminer_dashboard as dashboard
from control_plane.simulator import antminer_reads as reads
from control_plane.simulator.antminer_builds import Build, Race, build_of
from control_plane.simulator.antminer_conf import Conf, Pool
from control_plane.simulator.antminer_unit import Network, Unit, conf_of
from control_plane.simulator.antminer_web import WebSession
from control_plane.simulator.cgminer_rpc import RpcSession
from control_plane.simulator.machine import Machine
from control_plane.simulator.wire import Session

RPC_PORT, WEB_PORT = 4028, 80
PRIVILEGED = frozenset(
    {
        "privileged",
        "addpool",
        "removepool",
        "switchpool",
        "enablepool",
        "disablepool",
        "poolpriority",
        "poolquota",
        "ascset",
        "ascenable",
        "ascdisable",
        "restart",
        "quit",
        "save",
        "setconfig",
        "zero",
    }
)
"""cgminer's commands that need `W:` access from the caller's address."""

_encode = msgspec.json.Encoder().encode


class Antminer:
    """One simulated unit, as a network sees it."""

    __slots__ = ("unit",)

    def __init__(
        self,
        machine: Machine,
        *,
        pools: tuple[Pool, ...] = (),
        network: Network | None = None,
        build: Build | None = None,
        conf: Conf | None = None,
    ) -> None:
        """A unit in the mode that `machine.step` names.

        Args:
            machine: its physics, identity and password.
            pools: up to three slots, by priority.
            network: what it tells of its own address.
            build: its firmware; drawn by type and asset where not given.
            conf: the whole config instead of `pools` and the machine's step.
        """
        build = build or build_of(machine)
        self.unit = Unit(
            machine,
            build=build,
            conf=conf or conf_of(machine, build, pools),
            network=network or Network(),
        )

    @property
    def machine(self) -> Machine:
        """The physics behind it."""
        return self.unit.machine

    def accept(self, port: int, peer: str) -> Session | None:
        """A session on 4028 while the miner runs, on 80 while the web server does."""
        unit = self.unit
        if not unit.machine.answers():
            return None
        if port == RPC_PORT:
            if unit.is_restarting(unit.machine.sample()):
                return None
            return RpcSession(unit.machine, peer, partial(_answer, unit))
        if port == WEB_PORT and unit.race() is not Race.REFUSE:
            return WebSession(unit, peer)
        return None

    def reachable(self) -> bool:
        """False without power, and where the hardware is dead."""
        return not (self.machine.is_off or self.machine.is_dead)


def _answer(unit: Unit, command: dict[str, Any] | None) -> bytes:
    if command is None:
        return _error(unit, 23, "Invalid JSON")
    name = command.get("command")
    if not isinstance(name, str):
        return _error(unit, 24, "Missing JSON 'command'")
    if name in PRIVILEGED:
        unit.machine.note(name, "refused: no access", honoured=False)
        return _error(unit, 45, f"Access denied to '{name}' command")
    sample = unit.machine.sample()
    if command.get("new_api") is True and name in dashboard.NEW:
        return _encode(dashboard.NEW[name](unit, sample))
    if name not in reads.RPC:
        return _error(unit, 14, "Invalid command")
    text = _encode(reads.RPC[name](unit, sample))
    if name == "stats" and unit.build.lacks_comma:
        text = text.replace(b"},{", b"}{")
    return text


def _error(unit: Unit, code: int, message: str) -> bytes:
    return _encode({"STATUS": reads.status(unit, "E", code, message), "id": 1})
