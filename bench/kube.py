"""What 15,000 `Miner` objects on a real API server cost whoever follows them, with nothing to change.

Ours are the parts that `gridplane controller` is made of. *Queued*: a reflector lists, a cache tells a
handler, and workers give each key a turn that returns at once; kopf's `on.event` with a handler that returns
at once does the same and no more. *Reconciled*: list, then one pass of the projector, which works out each
spec and status anew and compares both with what stands there. *Again*: the kind is listed anew and passed
once more, as each RELIST_S. The snapshot that the projector shows is made before anything is counted in
CPU, and is in the memory; so are imports.

As the verb does, ours collects no garbage until everything is there, and never what was there then
(`keep_what_is`); the note of *reconciled* says what Python's own way costs. The API server and etcd are
processes of their own and not counted. Each figure is the median of three.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bench.figures import Figure, median, own_peak_mib, run_python
from bench.serving import CLIENTS, api_server

if TYPE_CHECKING:
    from control_plane.core.cluster import Kind
    from control_plane.kube.client import Client
    from control_plane.kube.snapshot import Snapshot

_COUNT = 15_000
_NAMESPACE = "power"
_SITE = "s01"
_RUNS = 3
_PEER = "kopf, on.event"
_FILLING = 24
"""Requests at once: what loads a server on two cores."""
_CHILD = "import sys; from bench.kube import child; child(*sys.argv[1:])"
_KOPF = """
import asyncio, logging, os, resource, sys, time
import kopf

want, namespace, seen = int(sys.argv[1]), sys.argv[2], set()
everything = asyncio.Event()

@kopf.on.startup()
async def start(settings, **_):
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True

@kopf.on.login()
async def login(**more):
    return kopf.login_with_kubeconfig(**more)

@kopf.on.event("gridplane.dev", "v1alpha1", "miners")
async def event(name, **_):
    seen.add(name)
    if len(seen) == want:
        everything.set()

async def main():
    began = time.process_time()
    asyncio.ensure_future(kopf.operator(namespaces=[namespace]))
    await asyncio.wait_for(everything.wait(), 300)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(time.process_time() - began, peak_mib, flush=True)
    os._exit(0)

logging.disable(logging.CRITICAL)
asyncio.run(main())
"""


class Took(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of one side took."""

    cpu_s: float
    peak_mib: float
    again_s: float = 0.0


def child(what: str, kubeconfig: str, inventory: str) -> None:
    """One run; what it took on the output."""
    from control_plane.cli.main import uncollected
    from control_plane.cli.workplace import run_async
    from control_plane.kube.client import connect
    from control_plane.kube.client import kubeconfig as of_file

    async def main() -> Took:
        if what == "listed":
            return await _theirs(kubeconfig)
        async with connect(of_file(Path(kubeconfig))) as client:
            match what:
                case "fill":
                    return await _fill(_snapshot(inventory), client)
                case "queued":
                    return await _queued(client)
                case _:
                    return await _reconciled(
                        _snapshot(inventory), client, freezes=what == "reconciled"
                    )

    with contextlib.nullcontext() if what in {"listed", "collected"} else uncollected():
        sys.stdout.write(msgspec.json.encode(run_async(main())).decode())


def _snapshot(inventory: str) -> Snapshot:
    """A site whose devices all read as declared."""
    from bench.plan import seen
    from control_plane.core.plan import make_plan
    from control_plane.core.world import World
    from control_plane.drivers.registry import all_capabilities
    from control_plane.inventory.load import load
    from control_plane.kube.snapshot import Snapshot

    loaded = load(Path(inventory), sites={_SITE})
    assert loaded.fleet is not None, loaded.findings[:3]
    site = loaded.fleet.sites[_SITE]
    world = World(now_s=1_000.0, sightings=seen(site), memories={}, capabilities=all_capabilities())
    plan = make_plan(site, loaded.digests[_SITE], world)
    return Snapshot(site=site, plan=plan, world=world, rollout=None)


async def _fill(snapshot: Snapshot, client: Client) -> Took:
    """Every object as the controller leaves it: spec, then status, by their managers."""
    from control_plane.api.conditions import conditions
    from control_plane.kube.kinds import MINER, RACK, SITE
    from control_plane.kube.projections import miners, racks
    from control_plane.kube.projector import MANAGER

    room = asyncio.Semaphore(_FILLING)

    async def put(kind: Kind, name: str, spec: Any, status: Any, told: Any) -> None:
        said = conditions(told, (), generation=1, now_s=1_000_000.0)
        status = msgspec.structs.replace(status, conditions=said, observed_generation=1)
        head = {
            "apiVersion": kind.api_version, "kind": kind.kind,
            "metadata": {"name": name, "namespace": _NAMESPACE},
        }  # fmt: skip
        async with room:
            for part, value, more in (("spec", spec, ""), ("status", status, "status")):
                body = {**head, part: msgspec.to_builtins(value)}
                await client.apply(kind, body, manager=MANAGER, subresource=more)

    site = {
        "apiVersion": SITE.api_version, "kind": SITE.kind,
        "metadata": {"name": _SITE, "namespace": _NAMESPACE}, "spec": {"revision": "a" * 64},
    }  # fmt: skip
    await client.apply(SITE, site, manager="bench")
    began = time.process_time()
    async with asyncio.TaskGroup() as group:
        for kind, made in ((RACK, racks(snapshot)), (MINER, miners(snapshot))):
            for one in made:
                group.create_task(put(kind, *one))
    return Took(cpu_s=time.process_time() - began, peak_mib=own_peak_mib())


async def _queued(client: Client) -> Took:
    from control_plane.engine.adapters import SystemClock
    from control_plane.engine.queue import Priority
    from control_plane.kube.cache import Cache
    from control_plane.kube.kinds import MINER
    from control_plane.kube.reflector import Reflector
    from control_plane.kube.workers import Workers

    clock, rng = SystemClock(), random.Random()
    done = asyncio.Event()

    async def handle(_key: str) -> None:
        if workers.turns == _COUNT - 1:
            done.set()

    cache = Cache(MINER, bug=_no_bug)
    workers = Workers(handle, clock=clock, rng=rng, bug=_no_bug, is_behind=cache.is_behind)
    cache.tell(lambda old, new: workers.push((new or old).key, Priority.FIRST_SYNC))  # type: ignore[union-attr]
    reflector = Reflector(client, cache, clock=clock, rng=rng, bug=_no_bug, namespace=_NAMESPACE)
    began = time.process_time()
    tasks = [asyncio.ensure_future(run) for run in (reflector.run(), workers.run())]
    await done.wait()
    took = Took(cpu_s=time.process_time() - began, peak_mib=own_peak_mib())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(cache) == _COUNT, len(cache)
    return took


async def _reconciled(snapshot: Snapshot, client: Client, *, freezes: bool) -> Took:
    from control_plane.cli.workplace import keep_what_is
    from control_plane.engine.adapters import SystemClock
    from control_plane.kube.cache import Cache
    from control_plane.kube.kinds import GPU_NODE, MINER, RACK, SITE
    from control_plane.kube.projector import MANAGER, Projector
    from control_plane.kube.reflector import Reflector
    from control_plane.kube.writer import StatusWriter

    clock, rng = SystemClock(), random.Random()
    kinds = (SITE, RACK, MINER, GPU_NODE)
    caches = {kind.plural: Cache(kind, bug=_no_bug) for kind in kinds}
    reflectors = [
        Reflector(client, cache, clock=clock, rng=rng, bug=_no_bug, namespace=_NAMESPACE)
        for cache in caches.values()
    ]

    def may_write() -> bool:
        return False

    writer = StatusWriter(
        client, caches.values(), manager=MANAGER, clock=clock, rng=rng, bug=_no_bug,
        may_write=may_write,
    )  # fmt: skip
    projector = Projector(
        client, caches, writer, namespace=_NAMESPACE, clock=clock, may_write=may_write
    )

    async def listed(first: list[Reflector]) -> None:
        runs = [asyncio.ensure_future(reflector.run()) for reflector in first]
        await asyncio.gather(*(reflector.synced.wait() for reflector in first))
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    async def passed() -> None:
        stood = await projector.show(snapshot)
        assert not projector.trouble, projector.trouble
        assert stood

    began = time.process_time()
    await listed(reflectors)
    if freezes:
        keep_what_is()
    await passed()
    cold_s = time.process_time() - began
    assert writer.spared == len(caches[RACK.plural]) + _COUNT, (writer.spared, len(writer))
    began = time.process_time()
    # A cache that is there already is filled by another reflector, as by the same one when it lists anew.
    await listed([
        Reflector(client, caches[MINER.plural], clock=clock, rng=rng, bug=_no_bug, namespace=_NAMESPACE)
    ])  # fmt: skip
    await passed()
    again_s = time.process_time() - began
    return Took(cpu_s=cold_s, peak_mib=own_peak_mib(), again_s=again_s)


async def _theirs(kubeconfig: str) -> Took:
    """The same list by `kubernetes.aio` alone, held as the dictionaries that it gives."""
    from kubernetes.aio.client import ApiClient, CustomObjectsApi
    from kubernetes.aio.client.configuration import Configuration
    from kubernetes.aio.config.kube_config import load_kube_config

    configuration = Configuration()
    await load_kube_config(kubeconfig, None, configuration, persist_config=False)
    async with ApiClient(configuration) as client:
        api = CustomObjectsApi(client)
        held: dict[str, Any] = {}
        more: dict[str, Any] = {}
        began = time.process_time()
        while True:
            page: Any = await api.list_namespaced_custom_object(
                "gridplane.dev", "v1alpha1", _NAMESPACE, "miners", limit=500, **more
            )
            for item in page["items"]:
                held[item["metadata"]["name"]] = item
            if not (token := page["metadata"].get("continue")):
                break
            more = {"_continue": token}
        cpu_s = time.process_time() - began
    assert len(held) == _COUNT
    return Took(cpu_s=cpu_s, peak_mib=own_peak_mib())


def _no_bug(whose: str, words: str) -> None:
    raise AssertionError(f"{whose}: {words}")


def measure() -> list[Figure]:
    """One side after the other, three times."""
    with (
        tempfile.TemporaryDirectory(prefix="gridplane-bench-") as folder,
        api_server(namespace=_NAMESPACE) as kubeconfig,
    ):
        inventory = str(Path(folder) / "inventory")
        run_python(
            ["-m", "tools.fleetgen", "--devices", str(_COUNT), "--seed", "1", "--out", inventory]
        )  # fmt: skip
        _run("fill", kubeconfig, inventory)
        sides = ("queued", "reconciled", "collected", "listed")
        told: dict[str, list[Took]] = {side: [] for side in (*sides, "kopf")}
        for _ in range(_RUNS):
            for side in sides:
                told[side].append(_run(side, kubeconfig, inventory))
            told["kopf"].append(_run_kopf(kubeconfig))
    queued, passed, collected, listed, kopf = map(_middle, told.values())
    return [
        Figure(
            name="15,000 miners listed, decoded, queued", value=queued.cpu_s, unit="s CPU",
            note=f"kubernetes.aio lists and decodes in {listed.cpu_s:.2f} s,"
            f" {listed.peak_mib:.0f} MiB", peer=_PEER, peer_value=kopf.cpu_s,
        ),
        Figure(
            name="memory at its peak", value=queued.peak_mib, unit="MiB", peer=_PEER,
            peer_value=kopf.peak_mib,
        ),
        Figure(
            name="15,000 miners listed, decoded, reconciled, cold", value=passed.cpu_s,
            unit="s CPU", target=2.0, peer=_PEER, peer_value=kopf.cpu_s,
            note=f"with Python's own garbage collection {collected.cpu_s:.2f} s",
        ),
        Figure(
            name="memory at its peak, what they are compared with included",
            value=passed.peak_mib, unit="MiB", target=300.0, peer=_PEER, peer_value=kopf.peak_mib,
        ),
        Figure(
            name="the same listed and reconciled again", value=passed.again_s, unit="s CPU",
            target=1.0, note=f"with Python's own garbage collection {collected.again_s:.2f} s",
        ),
    ]  # fmt: skip


def _run(side: str, kubeconfig: Path, inventory: str) -> Took:
    said = run_python(["-c", _CHILD, side, str(kubeconfig), inventory]).stdout
    return msgspec.json.decode(said, type=Took)


def _run_kopf(kubeconfig: Path) -> Took:
    arguments = ["-c", _KOPF, str(_COUNT), _NAMESPACE]
    said = run_python(arguments, python=str(CLIENTS), KUBECONFIG=str(kubeconfig)).stdout
    cpu_s, peak_mib = said.split()
    return Took(cpu_s=float(cpu_s), peak_mib=float(peak_mib))


def _middle(runs: list[Took]) -> Took:
    """Of each number the median."""
    return Took(
        cpu_s=median([run.cpu_s for run in runs]),
        peak_mib=median([run.peak_mib for run in runs]),
        again_s=median([run.again_s for run in runs]),
    )
