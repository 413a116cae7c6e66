"""What 512 GPU nodes of eight cost the controller, beside its miners: reports, and rounds of remediation.

The parts are those of `gridplane controller`: what agents report is understood (`kube.keeper`), and a round
(`kube.gpu_rounds`) looks at every node and decides, once over a hall that is well, and once over one in which
twenty nodes of twenty racks are held and wait for a person, so that each of them is looked at closer in every
round. The API server is the one in memory, in this process, and what it takes for that is in the figure. BMCs
are not asked: a look at one is each 20 s, and mostly waiting. A share is CPU seconds of user and system over
the seconds between two rounds.

No peer does both sides of this: NVSentinel and medik8s act on conditions that others set, one node at a time.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.figures import ROOT, Figure, median
from control_plane.api.conditions import moment
from control_plane.api.objects import AlertPart, Condition, GpuNodeStatus, GpuPart
from control_plane.core import limits
from control_plane.core.cluster import NODE
from control_plane.core.fleet import Device, DeviceKind, GpuIntent, Site
from control_plane.core.secret import Secret
from control_plane.engine.adapters import SystemClock
from control_plane.engine.log import silent
from control_plane.engine.store import Store
from control_plane.inventory.load import load
from control_plane.kube.gpu_bmc import Bmcs
from control_plane.kube.gpu_hands import Hands
from control_plane.kube.gpu_projection import AS_DECLARED, HEALTHY, READABLE
from control_plane.kube.gpu_rounds import Duty, Rounds
from control_plane.kube.gpu_sight import Seen, place_of
from control_plane.kube.gpu_view import NodeFacts, facts_of
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.api_controllers import edit
from control_plane.simulator.api_server import ApiServer

_NODES, _GPUS, _IN_A_RACK = 512, 8, 8
_ILL = 20
_ROUNDS = 21
_REPORT_S = 15.0
"""What the target is told for: a look at each node so often. Agents that have nothing to tell report less."""
_CORES_MAX = 0.3


class _NoSecrets:
    def resolve(self, ref: str) -> Secret:
        raise LookupError(ref)


def measure() -> Sequence[Figure]:
    """All figures."""
    reports_s = _reports_s()
    well_s, _ = asyncio.run(_round_s(ill=0))
    ill_s, held = asyncio.run(_round_s(ill=_ILL))
    if held != _ILL:
        raise RuntimeError(
            f"{held} of {_ILL} nodes are held: another hall than the one to be measured"
        )
    rounds = f"median of {_ROUNDS} rounds"
    return (
        Figure(
            name=f"{_NODES} x {_GPUS} GPUs, a report of each node understood each {_REPORT_S:g} s",
            value=reports_s / _REPORT_S,
            unit="cores",
            target=_CORES_MAX,
            note="agents that have nothing to tell report each 300 s",
        ),
        Figure(
            name=f"{_NODES} x {_GPUS} GPUs that are well, a round each {limits.GPU_LOOK_S:g} s",
            value=well_s / limits.GPU_LOOK_S,
            unit="cores",
            target=_CORES_MAX,
            note=f"{1_000 * well_s:.1f} ms, {rounds}",
        ),
        Figure(
            name=f"the same with {_ILL} nodes held, reports included",
            value=ill_s / limits.GPU_LOOK_S + reports_s / _REPORT_S,
            unit="cores",
            target=_CORES_MAX,
            note=f"{1_000 * ill_s:.1f} ms, {rounds}, the API server in memory included",
        ),
    )


def _site() -> Site:
    """The lab, with a hall of GPU nodes in place of what it has."""
    fleet = load(ROOT / "inventory", sites={"lab"}).fleet
    if fleet is None:
        raise RuntimeError("the lab is not declared")
    lab = fleet.sites["lab"]
    one = next(d for d in lab.devices if d.type.kind is DeviceKind.GPU_NODE)
    gpu = msgspec.structs.replace(one.intent.gpu or GpuIntent(), acts=True)
    intent = msgspec.structs.replace(one.intent, gpu=gpu)
    feeds = [f"lab-hall-p{n}" for n in range(1, 5)]
    devices = tuple(
        msgspec.structs.replace(
            one, asset=f"g{n // _IN_A_RACK:03}-n{n % _IN_A_RACK + 1}", rack=f"g{n // _IN_A_RACK:03}",
            slot=n % _IN_A_RACK + 1, feed=feeds[n // _IN_A_RACK % len(feeds)], intent=intent, bmc=None,
        )
        for n in range(_NODES)
    )  # fmt: skip
    return msgspec.structs.replace(lab, devices=devices)


def _status(device: Device, now_s: float, *, ill: bool) -> GpuNodeStatus:
    """What its agent told."""
    now = moment(now_s)
    gpus = tuple(
        GpuPart(
            index=n, pci=f"00000000:{n:02X}:00.0", uuid=f"GPU-{device.asset}-{n}", serial=f"{n:012}",
            name="NVIDIA H200", limit_w=650, enforced_w=650, min_w=200, max_w=700, remap="none",
            fabric="completed",
        )
        for n in range(_GPUS)
    )  # fmt: skip
    alert = AlertPart(
        kind="xid", rung="reboot", xid=79, since=moment(now_s - 600.0), gpu=gpus[3].pci, asks=True,
        detail="GPU has fallen off the bus.",
    )  # fmt: skip
    said = {READABLE: "True", HEALTHY: "False" if ill else "True", AS_DECLARED: "True"}
    return GpuNodeStatus(
        driver="595.91.07", gpus=gpus, alerts=(alert,) if ill else (), processes=0, reported_at=now,
        conditions=tuple(
            Condition(
                type=kind, status=status, reason="Told", message="", observed_generation=1,  # type: ignore[arg-type]
                last_transition_time=now,
            )
            for kind, status in said.items()
        ),
    )  # fmt: skip


def _reports_s() -> float:
    """CPU seconds to understand one report of each node."""
    raw = [msgspec.json.encode(_status(d, time.time(), ill=False)) for d in _site().devices]
    began_s = time.process_time()
    for each in raw:
        msgspec.json.decode(each, type=GpuNodeStatus | None)
    return time.process_time() - began_s


async def _round_s(*, ill: int) -> tuple[float, int]:
    """CPU seconds of one round, and how many nodes are held then."""
    clock, server = SystemClock(), ApiServer(SystemClock())
    place = place_of(_site())
    troubled = list(place.devices)[::_IN_A_RACK][:ill]
    for name in place.devices:
        _have(server, name)
    facts: dict[str, NodeFacts] = {}

    def watch() -> None:
        for name in place.devices:
            facts[name] = facts_of(server.get(NODE, name))

    def told() -> dict[str, GpuNodeStatus]:
        now_s = clock.wall_s()
        return {n: _status(d, now_s, ill=n in troubled) for n, d in place.devices.items()}

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder, "store"))
        try:
            duty = Duty(
                store=store, durable=_at_once, declared=lambda: place.site, may_act=lambda: True
            )
            bmcs = Bmcs(None, _NoSecrets(), say=silent)
            hands = Hands(
                ApiClient(server, clock), bmcs, clock=clock, rng=random.Random(1),
                may_act=duty.may_act, say=silent,
            )  # fmt: skip
            seen = Seen(facts=facts, told=told())
            rounds = Rounds(duty, seen, hands, bmcs, clock=clock, say=silent)
            watch()
            for _ in range(3):
                await rounds.once(place)
                watch()
            took: list[float] = []
            for _ in range(_ROUNDS):
                began_s = time.process_time()
                await rounds.once(place)
                took.append(time.process_time() - began_s)
        finally:
            store.close()
    return median(took), len(hands.known)


async def _at_once() -> None:
    """Everything is kept."""


def _have(server: ApiServer, name: str) -> None:
    """A `Node` that is ready and offers its GPUs."""
    body = {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"gpu": "true"}},
        "spec": {},
    }  # fmt: skip
    server.create(NODE, body, manager="kubelet")

    def ready(node: dict[str, object]) -> None:
        node["status"] = {
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-09-21T14:13:20Z"}
            ],
            "allocatable": {"nvidia.com/gpu": str(_GPUS)},
            "nodeInfo": {"bootID": name, "systemUUID": name},
        }

    edit(server, NODE, name, ready, manager="kubelet", subresource="status")
