"""A simulated unit under VNish on a bench, and somebody who talks HTTP to it."""

from __future__ import annotations

from typing import Any

import msgspec

from control_plane.simulator.machine import Machine, Model, Step, World
from control_plane.simulator.vnish import Vnish
from control_plane.simulator.vnish_builds import V1_3_3, Build
from control_plane.simulator.vnish_conf import Pool
from control_plane.simulator.wire import Reply
from tests.simulator.making import a_machine, parse_http

S19 = Model(
    family="vnish",
    make="Bitmain",
    model="Antminer S19",
    boards=3,
    chips_per_board=76,
    fans=4,
    ladder=(
        Step(name="1900", hashrate_ths=73.0, power_w=1900.0),
        Step(name="2350", hashrate_ths=85.0, power_w=2350.0),
        Step(name="2950", hashrate_ths=99.0, power_w=2950.0),
        Step(name="3200", hashrate_ths=102.0, power_w=3200.0),
    ),
    nominal="2950",
    standby_w=25.0,
)
S19_HYDRO = msgspec.structs.replace(S19, model="Antminer S19 Hydro", fans=0)
ALL = tuple(step.name for step in S19.ladder)
POOLS = (Pool("a.pool:3333", "acct.r1", "x"), Pool("b.pool:3333", "acct.r1", "y"))


def a_vnish(
    world: World,
    *,
    model: Model = S19,
    build: Build = V1_3_3,
    pools: tuple[Pool, ...] = POOLS,
    tuned: tuple[str, ...] = ALL,
    **more: Any,
) -> Vnish:
    """A unit that has been running for a day with all presets tuned."""
    machine: Machine = a_machine(world, model, password="admin", **more)
    return Vnish(machine, pools=pools, build=build, tuned=tuned)


class Api:
    """One client of one unit's API, unlocked unless told otherwise."""

    def __init__(self, device: Vnish, *, unlock: bool = True) -> None:
        self.device = device
        self.replies: tuple[Reply, ...] = ()
        self.headers: dict[str, str] = {}
        if unlock:
            _, told = self.post("unlock", {"pw": device.machine.password})
            self.headers = {"Authorization": f"Bearer {told['token']}"}

    def send(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body."""
        session = self.device.accept(80, "127.0.0.9")
        assert session is not None, "refused"
        head = [f"{method} {path} HTTP/1.1", "Host: device", f"Content-Length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in self.headers.items()]
        self.replies = session.feed("\r\n".join((*head, "", "")).encode() + body)
        status, _, text = parse_http(b"".join(reply.data for reply in self.replies))
        return status, text

    def get(self, name: str) -> Any:
        """A page that has to be there."""
        status, text = self.send("GET", f"/api/v1/{name}")
        assert status == 200, (name, status)
        return msgspec.json.decode(text)

    def post(self, name: str, body: object = None) -> tuple[int, Any]:
        """Status, and what came back with it."""
        data = b"" if body is None else msgspec.json.encode(body)
        status, text = self.send("POST", f"/api/v1/{name}", data)
        return status, msgspec.json.decode(text) if text else None

    def save(self, **miner: object) -> tuple[int, Any]:
        """`POST /settings` with parts of `miner`."""
        return self.post("settings", {"miner": miner})

    @property
    def state(self) -> str:
        """`miner_state`."""
        told: str = self.get("status")["miner_state"]
        return told
