"""What happens to controllers and to the API server between them and their state."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from control_plane.api.objects import FleetRevisionSpec
from control_plane.core.cluster import ClusterAway, Gone
from control_plane.core.overlay import OverlayKind
from control_plane.inventory.bundle import pack
from control_plane.kube.kinds import FLEET_REVISION, MINER, SITE, STATE_SHARD
from control_plane.kube.lease import LEASE, lease_name
from control_plane.kube.shards import PARTS, name_of
from control_plane.simulator.api_client import Call
from tests.scenarios.cluster import ClusterScene
from tests.scenarios.declared import SITE as NAME
from tests.scenarios.declared import Revision, next_revision
from tests.scenarios.pods import Pod
from tests.scenarios.script import SAFETY_S, Script


def _later(scene: ClusterScene, wait_s: float, act: Callable[[], object]) -> None:
    """Let something be well again; at the end of all faults it is in any case."""
    scene.faults.append(scene.loop.call_later(wait_s, act))
    scene.mending.append(act)


def _kill(script: Script) -> None:
    for _ in range(script.rng.randint(1, 2)):
        script.at("the leader is killed", lambda scene: scene.leader and scene.leader.kill())


def _die(script: Script) -> None:
    points = [
        (script.rng.randrange(1, 500), script.rng.random() < 0.5)
        for _ in range(script.rng.randint(1, 3))
    ]

    def configure(pod: Pod) -> None:
        if points:
            pod.kill_at = points.pop()

    script.at(
        "side effects that are the last", lambda s: setattr(s, "configure", configure), at_s=-1.0
    )


def _stop(script: Script) -> None:
    for _ in range(script.rng.randint(1, 2)):
        lasts_s, keeps = script.rng.uniform(2.0, 40.0), script.rng.random() < 0.5

        def act(scene: ClusterScene, lasts_s: float = lasts_s, keeps: bool = keeps) -> None:
            pod = scene.leader
            if pod is not None:
                pod.stop(with_clock=keeps)
                _later(scene, lasts_s, pod.go_on)

        script.at(f"the leader stands still for {lasts_s:.1f} s", act)


def _cut(script: Script) -> None:
    for _ in range(script.rng.randint(1, 2)):
        lasts_s, how = script.rng.uniform(3.0, 40.0), script.rng.choice(["refused", "silent"])
        whole = script.rng.random() < 0.4

        def act(
            scene: ClusterScene, lasts_s: float = lasts_s, how: str = how, whole: bool = whole
        ) -> None:
            pods = scene.pods if whole else [scene.leader or scene.pods[-1]]
            for pod in pods:
                pod.line.faults.away = how  # type: ignore[assignment]
                pod.line.cut()
                _later(scene, lasts_s, lambda pod=pod: setattr(pod.line.faults, "away", ""))  # type: ignore[misc]

        script.at(
            f"{'nobody reaches' if whole else 'the leader does not reach'} the API server", act
        )


def _throttle(script: Script) -> None:
    lasts_s, asks_s = script.rng.uniform(2.0, 20.0), script.rng.uniform(0.1, 5.0)

    def act(scene: ClusterScene) -> None:
        for pod in scene.pods:
            pod.line.faults.throttle_s = asks_s
            _later(scene, lasts_s, lambda pod=pod: setattr(pod.line.faults, "throttle_s", None))  # type: ignore[misc]

    script.at("the API server throttles", act)


def _errors(script: Script) -> None:
    """Requests that fail, before or after they were done."""
    share, lasts_s = script.rng.uniform(0.05, 0.5), script.rng.uniform(5.0, 60.0)
    after = script.rng.random() < 0.5

    def fail(_call: Call) -> None:
        if script.rng.random() < share:
            raise ClusterAway("500: the reply is lost" if after else "500: etcd has no leader")

    def act(scene: ClusterScene) -> None:
        where = "after" if after else "before"
        for pod in scene.pods:
            setattr(pod.line.faults, where, fail)
            _later(scene, lasts_s, lambda pod=pod: setattr(pod.line.faults, where, None))  # type: ignore[misc]

    script.at("replies are lost" if after else "requests fail", act)


def _slow(script: Script) -> None:
    most_s, lasts_s = script.rng.uniform(0.2, 3.0), script.rng.uniform(5.0, 40.0)

    def act(scene: ClusterScene) -> None:
        for pod in scene.pods:
            before = pod.line.faults.latency_s
            pod.line.faults.latency_s = (0.0, most_s)
            _later(
                scene,
                lasts_s,
                lambda pod=pod, before=before: setattr(pod.line.faults, "latency_s", before),  # type: ignore[misc]
            )

    script.at("the API server is slow", act)


def _meddle(script: Script) -> None:
    """Somebody notes something on objects of ours: each write of these meets a conflict."""
    for _ in range(script.rng.randint(1, 8)):
        part = script.rng.choice(PARTS)
        kind, name = script.rng.choice(
            [(STATE_SHARD, name_of(NAME, part)), (LEASE, lease_name(NAME))]
        )

        def act(scene: ClusterScene, kind=kind, name=name) -> None:  # type: ignore[no-untyped-def]
            scene.note_on(kind, name)

        script.at(f"somebody notes something on {name}", act)


def _stale(script: Script) -> None:
    for _ in range(script.rng.randint(1, 3)):
        lasts_s = script.rng.uniform(2.0, 30.0)

        def act(scene: ClusterScene, lasts_s: float = lasts_s) -> None:
            pod = script.rng.choice(scene.pods)
            pod.line.faults.stale = scene.server.snapshot()
            _later(scene, lasts_s, lambda: setattr(pod.line.faults, "stale", None))

        script.at("one reads from a replica that lags", act)


def _lose(script: Script) -> None:
    """Events that never come, until the watch is known to have missed some."""
    share, lasts_s = script.rng.uniform(0.2, 1.0), script.rng.uniform(3.0, 20.0)

    def act(scene: ClusterScene) -> None:
        pod = script.rng.choice(scene.pods)
        pod.line.faults.loses = lambda _event: script.rng.random() < share

        def notice() -> None:
            pod.line.faults.loses = None
            pod.line.cut(Gone("too old resource version"))

        _later(scene, lasts_s, notice)

    script.at("events are lost", act)


def _compact(script: Script) -> None:
    def act(scene: ClusterScene) -> None:
        scene.server.compact()
        for pod in scene.pods:
            pod.line.cut(script.rng.choice([None, Gone("too old resource version")]))

    script.at("the history is compacted", act)


def _lease_deleted(script: Script) -> None:
    nobody_knows = script.rng.random() < 0.5

    def act(scene: ClusterScene) -> None:
        scene.delete(LEASE, lease_name(NAME))
        if nobody_knows:
            for pod in scene.pods:
                pod.kill()

    script.at(f"somebody deletes the Lease{', and all processes die' * nobody_knows}", act)


def _state_deleted(script: Script) -> None:
    parts = script.rng.sample(PARTS, script.rng.choice([1, 5, len(PARTS)]))

    def act(scene: ClusterScene) -> None:
        for part in parts:
            scene.delete(STATE_SHARD, name_of(NAME, part))
        if scene.leader is not None and script.rng.random() < 0.5:
            scene.leader.kill()

    script.at(f"somebody deletes {len(parts)} parts of the state", act)


def _objects_deleted(script: Script) -> None:
    """Projections, and the pointer itself: nothing is written because of that."""
    lasts_s = script.rng.uniform(2.0, 20.0)

    def act(scene: ClusterScene) -> None:
        for device in scene.revision.site.devices:
            scene.delete(MINER, device.asset)
        scene.mark_observed()
        scene.delete(SITE, NAME)
        _later(scene, lasts_s, scene.point_back)

    script.at("somebody deletes the Site and its Miners", act)


def _revision_deleted(script: Script) -> None:
    """One that devices may stand on; who leads next cannot compare them with it until it is made again."""
    lasts_s, dies = script.rng.uniform(5.0, 60.0), script.rng.random() < 0.7

    def act(scene: ClusterScene) -> None:
        name = script.rng.choice([*scene.known][-2:])
        scene.delete(FLEET_REVISION, name)
        if dies and scene.leader is not None:
            scene.leader.kill()
        _later(scene, lasts_s, lambda: scene.put_revision(name))

    script.at(f"somebody deletes a revision{', and the leader dies' * dies}", act)


def _bad_revision(script: Script) -> None:
    """Empty, truncated, of another site: never accepted, whatever points to it."""
    whole = pack({"fleet.yaml": b"apiVersion: gridplane.dev/v1alpha1\n"})
    how = script.rng.choice(["empty", "truncated", "no devices", "another site"])
    lasts_s = script.rng.uniform(3.0, 40.0)

    def act(scene: ClusterScene) -> None:
        data = b"" if how == "empty" else whole[:-3]
        name = hashlib.sha256(data + how.encode()).hexdigest()
        site = scene.revision.site
        if how == "no devices":
            scene.known[name] = Revision(name, msgspec.structs.replace(site, devices=()))
        elif how == "another site":
            scene.known[name] = Revision(name, msgspec.structs.replace(site, id="elsewhere"))
        spec = FleetRevisionSpec(site=NAME, format="msgpack+zlib", data=data)
        scene.put(FLEET_REVISION, name, spec)
        scene.point(name, scene.mode)
        _later(scene, lasts_s, scene.point_back)

    script.at(f"a revision that is {how}", act)


def _flip(script: Script) -> None:
    lasts_s = script.rng.uniform(3.0, 40.0)

    def act(scene: ClusterScene) -> None:
        scene.point(scene.revision.digest, "observe")
        _later(scene, lasts_s, scene.point_back)

    script.at("it shall observe for a while", act)


def _revision(script: Script) -> None:
    def change(scene: ClusterScene) -> None:
        scene.declare(next_revision(scene.revision, script.rng), scene.mode)

    script.at("a revision", change, at_s=script.rng.uniform(0.2, 0.9) * SAFETY_S)


def _overlays(script: Script) -> None:
    for _ in range(script.rng.randint(1, 3)):
        kind = script.rng.choice(
            [OverlayKind.SAFETY_HOLD, OverlayKind.MAINTENANCE_HOLD, OverlayKind.FREEZE]
        )
        node, lasts_s = script.node(), script.rng.uniform(3.0, 60.0)

        def act(
            scene: ClusterScene,
            kind: OverlayKind = kind,
            node: str = node,
            lasts_s: float = lasts_s,
        ) -> None:
            overlay = scene.set_overlay(kind, node)
            _later(scene, lasts_s, lambda: scene.drop_overlay(overlay.id))

        script.at(f"{kind} on {node}", act)


OUTAGES: dict[str, Callable[[Script], None]] = {
    "kill": _kill,
    "die": _die,
    "stop": _stop,
    "cut": _cut,
    "throttle": _throttle,
    "errors": _errors,
    "slow": _slow,
    "meddle": _meddle,
    "stale": _stale,
    "lose": _lose,
    "compact": _compact,
    "lease_deleted": _lease_deleted,
    "state_deleted": _state_deleted,
    "objects_deleted": _objects_deleted,
    "revision_deleted": _revision_deleted,
    "bad_revision": _bad_revision,
    "flip": _flip,
    "revision": _revision,
    "overlays": _overlays,
}
